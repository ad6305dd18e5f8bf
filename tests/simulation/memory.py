"""Little memory: an ingest that may have so many addresses from its start (``ulimit -v``), or so many more from some
moment on, or so many pages (cgroup).

The first two show as MemoryError, which the command must say in words, or as the end of the process where a library of
another language meets it; the third as the system's OOM killer. Then the store is judged by what was acknowledged,
filled by the same command again, and compared with an undisturbed fold.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import NamedTuple

from margin_stream.core.store_fold import Digests
from margin_stream.journal.layout import StoreError
from margin_stream.replay.verification import verify
from margin_stream.schemas.ndjson import encode_line
from margin_stream.simulation.scenarios import simulate
from tests.simulation import checker
from tests.simulation.children import FINISHED, ROOT, Counter, Ended, Fault, die_with_parent, write
from tests.simulation.workloads import Workload

MB = 1 << 20
INTERPRETER_MB = 16
"""With fewer addresses Python itself does not start, and nothing of ours runs."""
CGROUPS = Path("/sys/fs/cgroup")
LIMIT_S = 120.0
CONTROLS = {1: "memory.limit_in_bytes", 2: "memory.max"}
KINDS = ("addresses", "addresses from later on", "pages")


class NoGroup(Exception):
    """This machine lets us make no cgroup with a memory limit; the text says what was tried."""


class Shortage(NamedTuple):
    """What is short, and for whom."""

    kind: str
    command: bool
    """The command ``ingest`` is run; else a writer that tells what is acknowledged."""
    limit: int
    """Bytes; for ``addresses from later on``: more than are in use."""
    after_s: float = 0.0
    """For ``addresses from later on``: so long after there is a journal."""


@lru_cache(maxsize=2)
def day(seed: int) -> tuple[Workload, Digests]:
    """Return a day whose folds grow by some MB, and its digests."""
    lines = [encode_line(event).rstrip(b"\n") for event in simulate("crash", 40 + seed % 30, seed)][:20_000]
    work = Workload(seed, lines, partitions=2, group=400, checkpoint=8000, segment_limit=256 << 10)
    return work, work.reference()


# ---- groups of the system
# ---------------------------------------------------------------------------------------------


def _own_groups() -> Iterator[tuple[int, Path]]:
    """Yield the memory groups of this process: (version, folder)."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield 1, CGROUPS / "memory" / path.lstrip("/")
        elif not controllers:
            for root in (CGROUPS, CGROUPS / "unified"):
                if (root / "cgroup.controllers").exists():
                    yield 2, root / path.lstrip("/")


class Group(NamedTuple):
    """A group of processes that may have so much memory together."""

    version: int
    folder: Path

    def killed(self) -> int:
        """Return how many of its processes the system killed for want of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        rows = (line.split() for line in (self.folder / name).read_text().splitlines())
        return next((int(row[1]) for row in rows if row[0] == "oom_kill"), 0)


@contextmanager
def group_of(limit: int) -> Iterator[Group]:
    """Make a group below our own, and remove it in the end.

    Raises:
        NoGroup: no such group can be made here.
    """
    tried = []
    for version, own in _own_groups():
        folder = own / f"margin-stream-{os.getpid()}-{time.monotonic_ns()}"
        try:
            folder.mkdir()
        except OSError as error:
            tried.append(f"mkdir {folder}: {error.strerror}")
            continue
        try:
            (folder / CONTROLS[version]).write_text(str(limit))
            if version == 2:
                (folder / "memory.swap.max").write_text("0")
        except OSError as error:
            folder.rmdir()
            tried.append(f"{folder / CONTROLS[version]}: {error.strerror}")
            continue
        try:
            yield Group(version, folder)
        finally:
            _remove(folder)
        return
    raise NoGroup("; ".join(tried) or f"no memory controller in /proc/self/cgroup and {CGROUPS}")


def _remove(folder: Path) -> None:
    for _ in range(100):
        try:
            folder.rmdir()
            return
        except OSError:
            # A process that ended is counted a moment longer.
            time.sleep(0.05)
    folder.rmdir()


def no_groups() -> str:
    """Return why no group with a limit can be made here; empty where one can."""
    try:
        with group_of(64 * MB):
            return ""
    except NoGroup as error:
        return str(error)


# ---- a trial
# ----------------------------------------------------------------------------------------------------------


def shortage(rng: Random, kind: str) -> Shortage:
    """Draw a limit from "too small to start" to "enough"."""
    command = rng.random() < 0.6
    if kind == "addresses":
        low, high = rng.choice(((INTERPRETER_MB, 60), (60, 330), (250, 330), (330, 500)))
        return Shortage(kind, command, rng.randrange(low * MB, high * MB))
    if kind == "pages":
        # Until about 30 MB nothing starts, from about 40 MB on there is enough: most trials lie between.
        low, high = rng.choice(((4, 30), (28, 42), (28, 42), (28, 42), (40, 60)))
        return Shortage(kind, command, rng.randrange(low * MB, high * MB))
    return Shortage(kind, command, rng.randrange(rng.choice((1, 2, 3, 8)) * MB), rng.uniform(0, 0.7))


def words_of(short: Shortage, folder: Path, work: Workload) -> list[str]:
    """Return the words that start the writer of a trial."""
    inputs = folder / "day.ndjson"
    inputs.write_bytes(b"\n".join(work.lines) + b"\n")
    if short.command:
        return [
            sys.executable,
            "-m",
            "margin_stream.cli",
            "ingest",
            str(inputs),
            "--store",
            str(folder / "s"),
            "--partitions",
            "2",
        ]
    given = [str(inputs), str(folder / "s"), str(folder / "counter"), work[2:]]
    return [sys.executable, "-m", "tests.simulation.memory", json.dumps(given)]


def run(words: Sequence[str], folder: Path, short: Shortage) -> tuple[Ended, str]:
    """Run a writer under its limit; return how it ended, and what it printed.

    Raises:
        NoGroup: no group can be made here.
    """
    if short.kind == "pages":
        with group_of(short.limit) as group:
            # The shell enters the group, then becomes the writer.
            ended = _run(
                ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group.folder / "cgroup.procs"), *words], folder, short
            )
            killed = group.killed()
        assert ended[0].code != -signal.SIGKILL or killed, "it was killed, and not for want of memory"
        return ended
    if short.kind == "addresses":
        return _run(["sh", "-c", f'ulimit -v {short.limit >> 10} && exec "$@"', "sh", *words], folder, short)
    return _run(words, folder, short)


def _run(words: Sequence[str], folder: Path, short: Shortage) -> tuple[Ended, str]:
    with (folder / "out").open("w+b") as out, (folder / "err").open("w+b") as err:
        process = subprocess.Popen(words, stdout=out, stderr=err, cwd=ROOT, preexec_fn=die_with_parent)
        try:
            if short.kind == "addresses from later on":
                _limit_later(process, folder, short)
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not come to an end in {LIMIT_S} s") from None
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        err.seek(0)
        printed, said = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    value = Counter(folder / "counter").value if (folder / "counter").exists() else 0
    return Ended(
        process.returncode, value & ~FINISHED, bool(value & FINISHED) or process.returncode == 0, said
    ), printed


def _limit_later(process: subprocess.Popen[bytes], folder: Path, short: Shortage) -> None:
    while process.poll() is None and not (folder / "s" / "manifest.json").exists():
        time.sleep(0.005)
    time.sleep(short.after_s)
    with suppress(ProcessLookupError, FileNotFoundError, IndexError):
        if process.poll() is None:
            used = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * mmap.PAGESIZE
            resource.prlimit(process.pid, resource.RLIMIT_AS, (used + short.limit, used + short.limit))


def judge(work: Workload, store: Path, short: Shortage, end: Ended, printed: str, reference: Digests) -> str:
    """Judge how a writer ended and what it left; return it in a word.

    Raises:
        AssertionError, Lost: it ended otherwise than with success, in words, or by a signal of want; or something
        acknowledged is lost, or doubled.
    """
    acknowledged = end.acknowledged
    if end.code == 0:
        if short.command:
            assert reference.state in printed, f"it ended well with other digests: {printed}"
            assert reference.effects in printed, f"it ended well with other effects: {printed}"
        acknowledged = len(work.lines)
        word = "enough"
    elif end.code < 0:
        # The OOM killer; else a library of another language that met the limit, or a stack that could not grow.
        wanting = (signal.SIGKILL,) if short.kind == "pages" else (signal.SIGABRT, signal.SIGSEGV)
        assert -end.code in wanting, f"it ended by signal {-end.code}: {end.said[-500:]}"
        word = signal.Signals(-end.code).name
    else:
        assert not short.command or end.code == 1, f"exit {end.code}: {end.said[-500:]}"
        if short.command:
            in_words(end.said)
        assert end.said.strip(), "it stopped without a word"
        word = "said"
    if (store / "journal").exists():
        checker.check(store, work.lines, acknowledged)
    else:
        assert acknowledged == 0, f"{acknowledged} lines were acknowledged, there is no journal"
    return word


def in_words(said: str) -> None:
    """Compare what a command says of too little memory with what a user needs: what, and how to mend it, and no
    traceback.

    Raises:
        AssertionError: it is otherwise.
    """
    assert "Traceback" not in said, f"a traceback was shown: {said[-800:]}"
    lines = said.splitlines()[-2:]
    assert lines[0].startswith("margin-stream: ") and lines[0].endswith("[memory_short]"), lines  # noqa: PT018 (one line)
    assert "not enough memory" in lines[0], lines
    assert lines[1].startswith("  next: ") and "ulimit -v" in lines[1], lines  # noqa: PT018 (one line)


def settle(work: Workload, store: Path, reference: Digests, folder: Path) -> None:
    """With memory again: the store opens, and the same command comes to the digests of an undisturbed run.

    Raises:
        AssertionError, Lost: it does not.
    """
    again = Shortage("none", True, 0)
    end, printed = _run([*words_of(again, folder, work), "--json"], folder, again)
    assert end.code == 0, f"the rerun ended with {end.code}: {end.said[-500:]}"
    row = json.loads(printed.splitlines()[-1])
    got = (row["state_digest"], row["effects_digest"])
    assert got == (reference.state, reference.effects), "the state is not that of an undisturbed run"
    checker.check(store, work.lines, len(work.lines))
    found = verify(store, fold=False)
    assert found.ok, found.problems


def trial(seed: int) -> dict[str, int]:
    """One ingest with too little memory, or nearly, and one with enough."""
    rng = Random(f"memory {seed}")
    work, reference = day(seed // 100)
    short = shortage(rng, KINDS[seed % len(KINDS)])
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        folder = Path(name)
        try:
            end, printed = run(words_of(short, folder, work), folder, short)
        except NoGroup as error:
            print(f"no group with a memory limit: {error}", file=sys.stderr, flush=True)
            return {"no group could be made": 1}
        try:
            word = judge(work, folder / "s", short, end, printed, reference)
            there = len(checker.journalled(folder / "s"))
            settle(work, folder / "s", reference, folder)
        except (AssertionError, StoreError) as error:
            raise AssertionError(f"{short}: {type(error).__name__}: {error}") from error
        return {
            f"{short.kind}: {word}": 1,
            "by the command" if short.command else "by a writer that tells": 1,
            "part of the day was there": int(0 < there < len(work.lines)),
        }


def main() -> None:
    """Be the writer that tells what is acknowledged."""
    inputs, store, counter, rest = json.loads(sys.argv[1])
    work = Workload(0, Path(inputs).read_bytes().splitlines(), *rest)
    write(work, Path(store), Counter(Path(counter)), Fault("none"))


if __name__ == "__main__":
    main()
