"""A writer in a process of its own, whose machine fails it: calls to the system (libfiu), limits on files and memory, a
disk that is full or read-only.

How many lines are acknowledged is told through shared memory, which works when no call to the system does.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from margin_stream.core.store_fold import Digests
from margin_stream.replay.verification import verify
from tests.simulation import checker
from tests.simulation.workloads import Workload, workload

ROOT = Path(__file__).resolve().parents[2]
STEPS = 100
PRELOADED = ("/usr/lib/fiu/fiu_run_preload.so", "/usr/lib/fiu/fiu_posix_preload.so")
FIU_ONETIME = 1
FINISHED = 1 << 62
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Counter:
    """A number in a file that two processes have mapped."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    @property
    def value(self) -> int:
        return int.from_bytes(self._memory[:8], "little")

    @value.setter
    def value(self, value: int) -> None:
        self._memory[:8] = value.to_bytes(8, "little")


class Fault(NamedTuple):
    """What fails, and from which group of lines on (-1: before the store is opened)."""

    kind: str
    """``point`` (a point of libfiu), ``nofile``, ``memory``, or ``none``."""
    at: int = -1
    point: str = ""
    errno: int = errno.EIO
    once: bool = False
    more: int = 0
    """For limits: so much more than is in use."""

    def strike(self) -> None:
        """Let it fail from here on, in this process."""
        if self.kind == "point":
            fiu = ctypes.CDLL("libfiu.so.0")
            fiu.fiu_enable.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
            fiu.fiu_enable(self.point.encode(), 1, self.errno, FIU_ONETIME if self.once else 0)
        elif self.kind == "nofile":
            used = len(os.listdir("/proc/self/fd")) - 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + self.more, used + self.more))
        elif self.kind == "memory":
            used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
            resource.setrlimit(resource.RLIMIT_AS, (used + self.more, used + self.more))


class Ended(NamedTuple):
    """How a writer ended."""

    code: int
    """Of the process; negative for a signal."""
    acknowledged: int
    """Lines."""
    finished: bool
    """The day was taken in to the end and the store closed."""
    said: str


def write(work: Workload, path: Path, counter: Counter, fault: Fault, pause_s: float = 0.0) -> None:
    """Take in a day, group by group, and tell what is acknowledged."""
    if fault.at < 0:
        fault.strike()
    host = work.open(path)
    try:
        for number, start in enumerate(range(0, len(work.lines), work.group)):
            if number == fault.at:
                fault.strike()
            group = work.lines[start : start + work.group]
            for line in group:
                host.offer(line)
            host.commit()
            counter.value = start + len(group)
            host.checkpoint_if_due()
            time.sleep(pause_s)
        host.close()
    except BaseException:
        with contextlib.suppress(Exception):
            host.abandon()
        raise
    counter.value = counter.value | FINISHED


def start(seed: int, path: Path, counter: Path, fault: Fault, *, pause_s: float = 0.0) -> subprocess.Popen[bytes]:
    """Start a writer."""
    environment = dict(os.environ)
    if fault.kind == "point":
        environment["LD_PRELOAD"] = ":".join(PRELOADED)
    words = [
        sys.executable,
        "-m",
        "tests.simulation.children",
        json.dumps([seed, str(path), str(counter), fault, pause_s]),
    ]
    return subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT, env=environment, preexec_fn=die_with_parent
    )


def die_with_parent() -> None:
    """Run in a child before it becomes what it is: whoever ends a trial ends its processes too, stopped ones among
    them."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def ended(process: subprocess.Popen[bytes], counter: Path, limit_s: float = 100.0) -> Ended:
    """Wait for a writer to end."""
    try:
        _, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError(f"the writer did not come to an end in {limit_s} s") from None
    value = Counter(counter).value
    return Ended(process.returncode, value & ~FINISHED, bool(value & FINISHED), said.decode(errors="replace"))


def settle(work: Workload, path: Path, end: Ended, reference: Digests | None = None) -> None:
    """After the machine is well again: nothing acknowledged is lost, and the rest follows.

    Raises:
        AssertionError: something is lost, doubled, otherwise, or damaged.
    """
    if (path / "journal").exists():
        checker.check(path, work.lines, end.acknowledged)
    else:
        assert end.acknowledged == 0, f"{end.acknowledged} lines were acknowledged, there is no journal"
    with work.open(path) as host:
        host.ingest(work.lines)
        got = host.checkpoint()
    assert got == (reference or work.reference()), "the state is not that of an uninterrupted run"
    checker.check(path, work.lines, len(work.lines))
    found = verify(path)
    assert found.ok, found.problems


def forked(work: Workload, path: Path, counter: Path, fault: Fault, pause_s: float = 0.0) -> Callable[[], Ended]:
    """Start a writer without a new interpreter, for trials by the hundred; return what waits for it. Only from a
    process without threads."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(reading)
            write(work, path, Counter(counter), fault, pause_s)
            code = 0
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(code)
    os.close(writing)

    def wait() -> Ended:
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(process, 0)
        value = Counter(counter).value
        return Ended(
            os.waitstatus_to_exitcode(status), value & ~FINISHED, bool(value & FINISHED), said.decode(errors="replace")
        )

    return wait


def main() -> None:
    seed, path, counter, fault, pause_s = json.loads(sys.argv[1])
    given: Any = Fault(*fault)
    write(workload(seed, STEPS), Path(path), Counter(Path(counter)), given, pause_s)


if __name__ == "__main__":
    main()
