"""Checks of the machine: Python, packages, limits, clock, disk."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from margin_stream.doctor.findings import Finding, ok, problem, skipped, warning
from margin_stream.journal.file_systems import NETWORK, NO_NETWORK, file_system
from margin_stream.native import Form, form
from margin_stream.tables.rocks import Table, TableError

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
PYTHONS = ((3, 11), (3, 13))
FILES_ENOUGH, FILES_LEAST = 1024, 256
SPACE_ENOUGH, SPACE_LEAST = 2 << 30, 200 << 20
SYNC_SLOW_S = 0.05
EARLIEST_S, LATEST_S = 1_700_000_000, 4_600_000_000
"""Between these the machine's clock is taken for right: late in 2023, and the end of what a time in the journal can be."""


def machine(folder: Path, lock: Path = LOCK) -> Iterator[Finding]:
    """Check this machine.

    Args:
        folder: of the store, or where it would be made.
        lock: the versions that were tested together.
    """
    yield python()
    yield packages(lock)
    yield core()
    yield files()
    yield clock(folder)
    place = nearest(folder)
    yield space(place)
    yield syncing(place)
    yield rocksdb()


def python(found: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Check the version of Python."""
    text = ".".join(map(str, found))
    if PYTHONS[0] <= found[:2] <= PYTHONS[1]:
        return ok("machine.python", text)
    return problem("machine.python", text, "Use Python 3.11, 3.12 or 3.13.")


def packages(lock: Path) -> Finding:
    """Compare the installed packages with those that were tested together."""
    name = "machine.packages"
    missing = sorted(need for need in _needs() if _installed(need) is None)
    if missing:
        return problem(
            name, f"not installed: {', '.join(missing)}", "Install margin-stream anew (`make test` in a checkout does)."
        )
    if not lock.exists():
        return skipped(name, "no requirements.lock here to compare with (not a checkout)")
    tested: dict[str, set[str]] = {}
    for found in re.finditer(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE):
        tested.setdefault(found.group(1), set()).add(found.group(2))
    here = {package: _installed(package) for package in tested}
    other = [f"{package} {here[package]} (tested: {', '.join(sorted(tested[package]))})" for package in sorted(tested)
             if here[package] is not None and here[package] not in tested[package]]  # fmt: skip
    count = sum(found is not None for found in here.values())
    if other:
        return warning(
            name,
            f"{len(other)} of {count} are of another version: {'; '.join(other)}",
            "Install from requirements.lock.",
        )
    return ok(name, f"{count} as in requirements.lock")


def core(found: Form | None = None) -> Finding:
    """Say which form of the core runs; both give the same results."""
    compiled, reason = found or form()
    if compiled:
        return ok("machine.core", "compiled")
    return ok(
        "machine.core",
        f"plain Python: {reason}; `make compile` in a checkout makes folds about twice as fast, with the same results",
    )


def _needs() -> list[str]:
    try:
        lines = requires("margin-stream") or []
    except PackageNotFoundError:
        return []
    return [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def files(limit: int | None = None) -> Finding:
    """Check how many files a process may open: each table keeps its files open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    text = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} open files"
    mend = f"Raise it: `ulimit -n {FILES_ENOUGH * 8}`, or LimitNOFILE= of the service."
    if soft != resource.RLIM_INFINITY and soft < FILES_LEAST:
        return problem("machine.files", text, mend)
    if soft != resource.RLIM_INFINITY and soft < FILES_ENOUGH:
        return warning("machine.files", text, mend)
    return ok("machine.files", text)


def clock(folder: Path, now_s: float | None = None) -> Finding:
    """Check that the clock is plausible, and not behind what was written with it."""
    name = "machine.clock"
    now = time.time() if now_s is None else now_s
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    mend = "Set the clock (a time service such as chrony keeps it)."
    if not EARLIEST_S <= now <= LATEST_S:
        return problem(name, text, mend)
    newest = max((entry.stat().st_mtime for entry in folder.glob("journal/*")), default=0.0)
    if newest > now + 60:
        return warning(name, f"{text}: the journal was last written {newest - now:,.0f} s later than now", mend)
    return ok(name, text)


def nearest(folder: Path) -> Path:
    """Return a folder, or the nearest above it that exists."""
    place = folder.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def space(place: Path, free: int | None = None) -> Finding:
    """Check the free space where the store is."""
    left = shutil.disk_usage(place).free if free is None else free
    text = f"{left / (1 << 30):,.1f} GiB free at {place}"
    mend = (
        "Make room, or put the store on a larger disk: without space the writer stops (nothing acknowledged is lost)."
    )
    if left < SPACE_LEAST:
        return problem("disk.space", text, mend)
    return ok("disk.space", text) if left >= SPACE_ENOUGH else warning("disk.space", text, mend)


def syncing(place: Path) -> Finding:
    """Check that a file can be written and synced where the store is. The file has no name, so nothing is seen of
    it."""
    name = "disk.fsync"
    kind = file_system(place)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            spent = []
            for _ in range(5):
                file.write(b"x" * 4096)
                file.flush()
                started = time.perf_counter()
                os.fdatasync(file.fileno())
                spent.append(time.perf_counter() - started)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            text = f"{place}: {error.strerror}"
            return warning(
                name,
                text,
                "Commands that read work; for writing, give this user the right to, or mount it for writing.",
            )
        return problem(
            name,
            f"{place}: {error.strerror or error}",
            "Replace the disk or correct the mount: a store needs durable writes.",
        )
    if kind in NETWORK:
        return problem(name, f"{place}: {kind}", NO_NETWORK)
    middle = statistics.median(spent)
    text = f"{middle * 1000:.2f} ms at {place}" + (f" ({kind})" if kind else "")
    if kind in ("tmpfs", "ramfs"):
        return warning(name, text, "This is memory, not a disk: a restart loses the store. Put it elsewhere.")
    if middle > SYNC_SLOW_S:
        return warning(name, text, "Every acknowledgement waits for this; use a faster disk.")
    return ok(name, text)


def rocksdb() -> Finding:
    """Check that RocksDB works, in a folder of its own that is removed again."""
    try:
        with tempfile.TemporaryDirectory(prefix="margin-stream-doctor-") as folder:
            table = Table(Path(folder) / "t")
            table.write([(b"key", b"value")])
            same = table.get(b"key") == b"value" and list(table.rows()) == [(b"key", b"value")]
            table.close()
    except (TableError, OSError) as error:
        return problem(
            "machine.rocksdb",
            str(error),
            "Install rocksdict as in requirements.lock; a full temporary folder does this too.",
        )
    text = f"rocksdict {version('rocksdict')} opens, writes and reads"
    return (
        ok("machine.rocksdb", text)
        if same
        else problem("machine.rocksdb", "what was written is not there", "Report it.")
    )


def java() -> Finding:
    """Say whether Java and Maven are here: only `make kafka-demo` and the tests of Kafka want them."""
    name = "machine.java"
    program = shutil.which("java")
    if program is None or shutil.which("mvn") is None:
        lacks = " and ".join(word for word, there in (("java", program), ("mvn", shutil.which("mvn"))) if there is None)
        return skipped(
            name, f"no {lacks} here", "Only `make kafka-demo` and `make test` want it: openjdk-17-jre-headless, maven."
        )
    try:
        reported = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=20, check=False
        ).stderr.splitlines()
    except (OSError, subprocess.TimeoutExpired) as error:
        return skipped(name, f"java does not answer: {error}")
    return ok(name, f"{reported[0] if reported else 'java'}, and Maven, for `make kafka-demo`")
