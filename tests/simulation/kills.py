"""kill -9 at random moments of an ingest, and again during recovery; then the store must equal an uninterrupted run.

``python -m tests.simulation.kills --trials 10000 --seed 1 --workers 4``. A failure prints the trial's own command line.
The checker is apart from the engine's own: it reads what the child acknowledged (through a pipe, written after each
durable commit) and compares.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from margin_stream.host.embedded import Host
from margin_stream.journal.layout import StoreMissing
from margin_stream.replay.replay import replay
from margin_stream.replay.verification import verify
from tests.days import random_day
from tests.folding import fold
from tests.simulation import checker, guarding

READERS = 16
"""One trial in so many has a reader all along."""


def ingest_and_report(path: Path, lines: list[bytes], pipe: int, group: int, checkpoint: int) -> None:
    """Run in the child: ingest in groups, and report how many lines are acknowledged."""
    host = Host(path, partitions=1 + len(lines) % 3, group_items=group, checkpoint_items=checkpoint)
    for start in range(0, len(lines), group):
        for line in lines[start : start + group]:
            host.offer(line)
        host.commit()
        os.write(pipe, min(start + group, len(lines)).to_bytes(8, "big"))
        host.checkpoint_if_due()
    host.close()


def forked(path: Path, lines: list[bytes], group: int, checkpoint: int) -> tuple[int, int]:
    """Fork an ingest; return its process and the pipe of what it acknowledges."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            ingest_and_report(path, lines, writing, group, checkpoint)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return child, reading


def acknowledged_in(reported: bytes) -> int:
    """Return how many lines were acknowledged last."""
    count = len(reported) // 8
    return int.from_bytes(reported[(count - 1) * 8 : count * 8], "big") if count else 0


def killed_run(path: Path, lines: list[bytes], delay_s: float, group: int, checkpoint: int) -> tuple[int, bool]:
    """Fork an ingest, kill it after a delay; return how many lines were acknowledged and whether it had ended by
    itself."""
    child, reading = forked(path, lines, group, checkpoint)
    deadline = time.monotonic() + delay_s
    ended = status = 0
    while time.monotonic() < deadline and not ended:
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            time.sleep(min(0.001, max(0.0, deadline - time.monotonic())))
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    elif status:
        raise AssertionError(f"the ingest ended by itself with status {status}")
    with os.fdopen(reading, "rb") as pipe:
        return acknowledged_in(pipe.read()), bool(ended)


def read_along(path: Path, *, tables: bool = True) -> Callable[[], None]:
    """Fork a reader that verifies and replays while the store is written to and killed; return what waits for it and
    raises what it found."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            for _ in range(4):
                try:
                    found = verify(path, fold=False, tables=tables)
                    assert found.ok, found.problems
                    replayed = replay(path)
                    assert replayed.equal, replayed.first_difference
                except StoreMissing:
                    continue
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode()[:4000])
        finally:
            os._exit(0)
    os.close(writing)

    def wait() -> None:
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        if said:
            raise AssertionError(f"a reader found {said.decode(errors='replace')}")

    return wait


def trial(seed: int) -> dict[str, int]:
    """One day, killed two to four times (the later ones hit recovery), then finished and checked. Raises
    AssertionError."""
    rng = Random(seed)
    lines = random_day(rng.randrange(40), accounts=8, steps=rng.choice((120, 300)), noisy=True)
    reference = fold(lines)[0]
    folder = Path(tempfile.mkdtemp(prefix="kill-"))
    try:
        path = folder / "s"
        acknowledged = kills = 0
        reader = seed % READERS == 0
        for _ in range(rng.randint(2, 4)):
            done_reading = read_along(path) if reader else None
            got, ended = killed_run(
                path, lines, rng.uniform(0.0, 0.12), rng.choice((3, 17, 60)), rng.choice((20, 100, 10_000))
            )
            if done_reading is not None:
                done_reading()
            acknowledged = max(acknowledged, got)
            kills += not ended
        host = Host(path, partitions=1 + len(lines) % 3)
        checker.check(path, lines, acknowledged)
        host.ingest(lines)
        digests = host.close()
        assert digests == reference, f"{digests} is not {reference}"
        checker.check(path, lines, len(lines))
        found = verify(path)
        assert found.ok, found.problems
        return {"kills": kills, "with a reader": int(reader)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(trials: int, seed: int, workers: int) -> dict[str, object]:
    """Run trials, each in a process of its own (it forks, which one with threads must not), and return counts and
    failures."""
    command = "python -m tests.simulation.kills --trials 1 --seed "
    outcome = guarding.run(trial, range(seed, seed + trials), command=command, workers=workers)
    failures = outcome.failures
    return {
        "trials": outcome.counts["trials"],
        "kills": outcome.counts["kills"],
        "with a reader": outcome.counts["with a reader"],
        "failures": len(failures),
        "first_seed": seed,
        "failed": failures[:5],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    words = parser.parse_args()
    started = time.monotonic()
    row = run(words.trials, words.seed, words.workers)
    print(json.dumps({**row, "seconds": round(time.monotonic() - started, 1)}))
    sys.exit(1 if row["failures"] else 0)


if __name__ == "__main__":
    main()
