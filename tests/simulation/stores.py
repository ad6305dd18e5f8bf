"""Stores to be damaged, each in a state that a crash or a clean stop leaves: made once a workload, copied for each
trial."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from margin_stream.core.store_fold import Digests
from margin_stream.journal import highwater
from margin_stream.journal.layout import Layout, read_manifest
from margin_stream.journal.records import record_bytes
from tests.simulation.workloads import Workload, workload

STATES = ("closed", "killed", "torn")
TAIL = 60


class Made(NamedTuple):
    """A store, what it was given, and where its acknowledged bytes end."""

    path: Path
    """Whole; copy it, do not touch it."""
    older: Path
    """The same store at an earlier checkpoint."""
    work: Workload
    acknowledged: int
    """Lines, from the first."""
    reference: Digests
    durable: dict[Path, int]
    """By segment, relative: the offset up to which its bytes are durable and must be noticed when damaged."""
    state: str


@lru_cache(maxsize=6)
def made(seed: int, state: str) -> Made:
    """Make a store: ``closed`` cleanly; ``killed`` behind a checkpoint, its tables unsealed; ``torn``: the same with
    half a record behind the mark."""
    work = workload(seed, 80)
    folder = Path(tempfile.mkdtemp(prefix="stores-"))
    path, older = folder / "s", folder / "older"
    half = len(work.lines) // 2
    with work.open(path) as host:
        host.ingest(work.lines[:half])
    shutil.copytree(path, older)
    acknowledged = len(work.lines)
    if state == "closed":
        with work.open(path) as host:
            host.ingest(work.lines)
    else:
        child = os.fork()
        if child == 0:
            # The child dies without closing anything, as a killed process does.
            try:
                host = work.open(path)
                host.ingest(work.lines[: -len(work.lines) // 4])
                host.checkpoint()
                host.ingest(work.lines)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        if state == "torn":
            mark = highwater.read(path / "journal" / highwater.NAME, read_manifest(Layout(path)).identity)
            last = sorted((path / "journal").glob("*.seg"))[-1]
            with last.open("ab") as file:
                file.write(record_bytes(mark.cut.number + 1, b"\x90" * TAIL)[: TAIL // 2])
    return Made(path, older, work, acknowledged, work.reference(), _durable(path), state)


def _durable(path: Path) -> dict[Path, int]:
    layout = Layout(path)
    manifest = read_manifest(layout)
    found: dict[Path, int] = {}
    for folder in (layout.journal, layout.digests, *layout.effects_logs(manifest.partitions)):
        mark = highwater.read(folder / highwater.NAME, manifest.identity).cut
        for segment in folder.glob("*.seg"):
            first = int(segment.stem)
            size = segment.stat().st_size
            # A log without durable records has the header of its first segment.
            end = (mark.offset or 68) if first == mark.segment else (size if first < mark.segment else 0)
            found[segment.relative_to(path)] = end
    return found


def copied(store: Made, target: Path) -> Path:
    """Return a fresh copy of a store."""
    shutil.copytree(store.path, target)
    return target
