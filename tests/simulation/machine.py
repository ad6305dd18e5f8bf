"""The machine fails the writer: failing calls (libfiu), few files, little memory. It must stop with a reason,
acknowledge nothing more, and resume."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from random import Random

from tests.simulation.children import PRELOADED, STEPS, Ended, Fault, ended, forked, settle, start
from tests.simulation.workloads import Workload, workload

POINTS = {
    "posix/io/sync/fdatasync": (errno.EIO, errno.ENOSPC),
    "posix/io/sync/fsync": (errno.EIO, errno.ENOSPC),
    "posix/io/rw/pwrite": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "posix/io/rw/write": (errno.EIO, errno.ENOSPC),
    "posix/io/rw/ftruncate": (errno.EIO,),
    "posix/io/oc/open": (errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EIO),
    "posix/io/dir/rename": (errno.EIO, errno.ENOSPC),
    "posix/io/rw/pread": (errno.EIO,),
    "posix/io/rw/read": (errno.EIO,),
}
OF_LOGS = ("posix/io/sync/fdatasync", "posix/io/rw/pwrite")
"""Every group needs these: after one failed, nothing more may be acknowledged."""


def libfiu_is_here() -> bool:
    """Whether libfiu is installed."""
    return all(Path(name).exists() for name in PRELOADED)


def calls_trial(seed: int) -> dict[str, int]:
    """One point of libfiu fails, from some group of lines on, once or for ever."""
    rng = Random(f"machine {seed}")
    points = sorted(POINTS)
    point = points[seed % len(points)]
    work = workload(rng.randrange(40), STEPS)
    groups = -(-len(work.lines) // work.group)
    fault = Fault("point", rng.randrange(-1, groups), point, rng.choice(POINTS[point]), rng.random() < 0.5)
    return _trial(seed, work, fault)


def limits_trial(seed: int) -> dict[str, int]:
    """Only so many files can be open, or only so much memory be had."""
    rng = Random(f"limits {seed}")
    work = workload(rng.randrange(40), STEPS)
    groups = -(-len(work.lines) // work.group)
    # Most is asked for while the store is opened.
    at = rng.choice((-1, -1, -1, rng.randrange(groups)))
    if seed % 2:
        return _trial(seed, work, Fault("nofile", at, more=rng.randrange(45)))
    return _trial(seed, work, Fault("memory", at, more=rng.randrange(48 << 20)))


def _trial(seed: int, work: Workload, fault: Fault) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="machine-") as folder:
        path, counter = Path(folder) / "s", Path(folder) / "counter"
        if fault.kind == "point":
            end = ended(start(work.seed, path, counter, fault), counter)
        else:
            end = forked(work, path, counter, fault)()
        judge(work, fault, end)
        settle(work, path, end)
        return {f"{fault.kind} {fault.point}".strip(): 1, "finished" if end.finished else "stopped": 1}


def judge(work: Workload, fault: Fault, end: Ended) -> None:
    """A writer that could not make something durable must have stopped.

    Raises:
        AssertionError: it went on, or stopped without a word.
    """
    if not end.finished:
        assert end.code, "it ended as if all were well"
        # Out of memory, RocksDB ends the process itself.
        assert end.said or end.code < 0 or fault.kind == "memory", "it stopped without a word"
    if fault.point in OF_LOGS and fault.at >= 0:
        assert not end.finished, f"{fault.point} failed, and the writer went on"
        most = fault.at * work.group
        assert end.acknowledged <= most, (
            f"{fault.point} failed at line {most}, and {end.acknowledged} were acknowledged"
        )
