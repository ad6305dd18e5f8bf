"""A crash at every call to the disk: the process dies there, or the power does, or the disk refuses; then the store
must hold what was acknowledged.

Calls are those of the logs and the manifest (``margin_stream.journal.disk``) and the writes of the tables.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from margin_stream.core.store_fold import Digests
from margin_stream.host.embedded import Host
from margin_stream.journal.disk import Disk
from margin_stream.journal.layout import StoreError
from margin_stream.replay.verification import verify
from margin_stream.tables.rocks import Table
from tests.faults import FaultyDisk, Stopped
from tests.simulation import checker
from tests.simulation.workloads import Workload, workload

WAYS = ("killed", "power", "refused")
STEPS = 60


def play(work: Workload, path: Path, disk: Disk) -> int:
    """Take in the whole day, and return how many lines were acknowledged until the disk stopped it."""
    acknowledged = 0
    host: Host | None = None
    try:
        host = work.open(path, disk)
        for start in range(0, len(work.lines), work.group):
            group = work.lines[start : start + work.group]
            for line in group:
                host.offer(line)
            host.commit()
            acknowledged = start + len(group)
            host.checkpoint_if_due()
        host.close()
    except (Stopped, OSError, StoreError):
        if host is not None:
            with contextlib.suppress(OSError):
                host.abandon()
    return acknowledged


@contextlib.contextmanager
def tables_through(disk: FaultyDisk) -> Iterator[None]:
    """Count the writes of tables as calls, too."""
    write = Table.write

    def counted(self: Table, rows: object, *, durable: bool = True) -> None:
        disk.step("table")
        write(self, rows, durable=durable)  # type: ignore[arg-type]

    Table.write = counted  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        Table.write = write  # type: ignore[method-assign]


def crash(work: Workload, path: Path, way: str, stop_at: int, reference: Digests) -> str:
    """Crash at one call, recover, compare; return the call's name.

    Raises:
        AssertionError: something was lost, doubled, or is otherwise.
    """
    disk = FaultyDisk(stop_at, way, torn=(stop_at * 37) % 101)
    with tables_through(disk):
        acknowledged = play(work, path, disk)
    if way != "killed":
        disk.cut_power(path)
    checker.check(path, work.lines, acknowledged)
    with work.open(path) as again:
        again.ingest(work.lines)
        got = again.checkpoint()
    assert got == reference, f"{got} is not what an uninterrupted run comes to"
    checker.check(path, work.lines, len(work.lines))
    found = verify(path, fold=stop_at % 5 == 0)
    assert found.ok, found.problems
    return disk.calls[stop_at - 1]


def count_calls(work: Workload, folder: Path) -> int:
    """Return how many calls an undisturbed run makes."""
    disk = FaultyDisk(None, "killed")
    with tables_through(disk):
        assert play(work, folder / "count", disk) == len(work.lines)
    return len(disk.calls)


def trial(seed: int, *, steps: int = STEPS, ways: tuple[str, ...] = WAYS, stride: int = 1) -> dict[str, int]:
    """Crash a workload at each of its calls (or every so many), in each way."""
    work = workload(seed, steps)
    folder = Path(tempfile.mkdtemp(prefix="calls-"))
    try:
        total, reference = count_calls(work, folder), work.reference()
        crashes = 0
        for way in ways:
            for stop_at in range(1, total + 1, stride):
                crashes += 1
                path = folder / f"{way}-{stop_at}"
                try:
                    crash(work, path, way, stop_at, reference)
                except Exception as error:
                    raise AssertionError(
                        f"{way} at call {stop_at} of {total}: {type(error).__name__}: {error}"
                    ) from error
                shutil.rmtree(path)
        return {"calls": total, "crashes": crashes}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
