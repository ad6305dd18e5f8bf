"""Trials in children with a time limit: a trial may crash or hang its process (RocksDB can, on damaged files), and that
is a failure like any other."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

LIMIT_S = 120.0

Trial = Callable[[int], dict[str, int]]
"""Runs one seed; returns counts; raises whatever it finds wrong."""


class _Child(NamedTuple):
    process: int
    pipe: int
    seeds: list[int]


class Outcome(NamedTuple):
    """What a run of many trials came to."""

    counts: Counter[str]
    failures: list[str]


def run(
    trial: Trial, seeds: Iterable[int], *, command: str, workers: int = 2, batch: int = 1, limit_s: float = LIMIT_S
) -> Outcome:
    """Run trials, a batch of seeds a child, and collect counts and failures.

    Args:
        trial: what a seed does.
        seeds: of the trials.
        command: reproduces a trial when its seed is put behind.
        workers: children at a time.
        batch: seeds a child.
        limit_s: a trial that says nothing for so long is ended, and has failed.
    """
    with tempfile.TemporaryDirectory(prefix="trials-") as folder:
        # Children that are ended leave their folders behind; all go with this one.
        before, tempfile.tempdir = tempfile.tempdir, folder
        try:
            return _run(trial, list(seeds)[::-1], command, workers, batch, limit_s)
        finally:
            tempfile.tempdir = before


def _run(trial: Trial, waiting: list[int], command: str, workers: int, batch: int, limit_s: float) -> Outcome:
    outcome = Outcome(Counter(), [])
    children: dict[int, tuple[_Child, float, bytes]] = {}
    while waiting or children:
        while waiting and len(children) < workers:
            taken = [waiting.pop() for _ in range(min(batch, len(waiting)))]
            child = _start(trial, taken)
            children[child.pipe] = (child, time.monotonic(), b"")
        ready, _, _ = select.select(list(children), [], [], 1.0)
        for pipe in list(children):
            child, heard, rest = children[pipe]
            if pipe in ready:
                data = os.read(pipe, 1 << 16)
                if data:
                    *rows, rest = (rest + data).split(b"\n")
                    for row in rows:
                        _take(json.loads(row), child, outcome, command)
                    children[pipe] = (child, time.monotonic(), rest)
                    continue
                _, status = os.waitpid(child.process, 0)
                what = f"the process ended with status {status}"
            elif time.monotonic() - heard > limit_s:
                os.kill(child.process, signal.SIGKILL)
                os.waitpid(child.process, 0)
                what = f"nothing came of it in {limit_s} s"
            else:
                continue
            os.close(pipe)
            del children[pipe]
            if child.seeds:
                _fail(outcome, f"{command}{child.seeds.pop(0)}: {what}")
                waiting.extend(child.seeds[::-1])
    return outcome


def _start(trial: Trial, seeds: list[int]) -> _Child:
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return _Child(process, reading, seeds)
    try:
        os.close(reading)
        for seed in seeds:
            try:
                row: dict[str, object] = {"seed": seed, "counts": trial(seed)}
            except Exception as error:
                row = {"seed": seed, "failure": f"{type(error).__name__}: {error}"}
            os.write(writing, json.dumps(row).encode()[:60_000] + b"\n")
    finally:
        os._exit(0)


def _take(row: dict[str, object], child: _Child, outcome: Outcome, command: str) -> None:
    child.seeds.remove(int(str(row["seed"])))
    outcome.counts["trials"] += 1
    counts = row.get("counts")
    if isinstance(counts, dict):
        outcome.counts.update(counts)
    else:
        _fail(outcome, f"{command}{row['seed']}: {row['failure']}")


def _fail(outcome: Outcome, text: str) -> None:
    outcome.failures.append(text)
    print(text, file=sys.stderr, flush=True)
