"""One writer a store."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from margin_stream.journal.layout import StoreLocked

GRACE_S = 2.0
"""So long a lock is waited for whose holder has died."""


def _has_died(holder: str) -> bool:
    """Say whether the holder that a lock's file names was a process of this machine, and is no more."""
    found = re.fullmatch(r"process (\d+) on (.+)", holder)
    if found is None or found.group(2) != socket.gethostname():
        return False
    try:
        os.kill(int(found.group(1)), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def holder_of(path: Path) -> str | None:
    """Return who holds a lock, or None. Asked of the kernel: trying the lock could turn away a writer that starts just
    now.

    Args:
        path: of the file with the holder's name; its folder is what is locked.
    """
    try:
        named = path.read_text().strip()
    except OSError:
        named = ""
    process = _holding_process("FLOCK", path.parent, named.split())
    return None if process is None else named or f"process {process}"


def check_tables(paths: Iterable[Path]) -> None:
    """Check that no other process has a database open: whoever has it is a writer, whatever became of the store's lock.

    Args:
        paths: of the databases.

    Raises:
        StoreLocked: one has; the text names it.
    """
    deadline = time.monotonic() + GRACE_S
    for path in paths:
        while (process := _holding_process("POSIX", path / "LOCK")) not in (None, str(os.getpid())):
            if _has_died(f"process {process} on {socket.gethostname()}") and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            raise StoreLocked(
                f"{path}: another process has this table open: process {process}", store=path.parent.parent
            )


def _holding_process(kind: str, path: Path, named: Sequence[str] = ()) -> str | None:
    """Return the process that holds a lock on a file or folder, as the kernel lists it, or None."""
    try:
        found = path.stat()
        rows = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    for row in rows:
        words = row.split()
        if len(words) < 6 or words[1] != kind or words[5].rpartition(":")[2] != str(found.st_ino):
            continue
        # Layered file systems (containers) show another device here than in the lock table; then a name that is known
        # decides.
        if words[5].startswith(device) or words[4] in named:
            return words[4]
    return None


class Lock:
    """One writer a store: holds an advisory lock on the folder itself, so that no file can be removed to get past it; a
    file in the folder has the holder's name."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: of the file; the folder that it lies in is locked.

        Raises:
            StoreLocked: another process holds it; the text names it.
            OSError: the file system has no such locks (network file systems).
        """
        self._process = os.getpid()
        self._file: IO[str] = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held open as long as the lock)
        self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        self._path = path
        deadline = time.monotonic() + GRACE_S
        while True:
            try:
                fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                self._file.seek(0)
                holder = self._file.read().strip()
                if _has_died(holder) and time.monotonic() < deadline:
                    # A busy system may let go of a killed process's lock a moment after the process itself.
                    time.sleep(0.01)
                    continue
                self._close()
                raise StoreLocked(
                    f"{path.parent}: another process writes to this store: {holder or holder_of(path) or 'an unnamed process'}",
                    store=path.parent,
                ) from None
            except OSError as error:
                self._close()
                raise OSError(error.errno, f"{error.strerror}: a store needs a local file system", str(path)) from None
        # Who holds it. A disk that cannot take these few bytes does not make the lock less held.
        with contextlib.suppress(OSError):
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            self._file.flush()

    def check_process(self) -> None:
        """
        Raises:
            StoreLocked: this is a fork of the process that took the lock.
        """
        if os.getpid() != self._process:
            text = f"{self._path.parent}: process {self._process} has it open, and this is a fork of it: process {os.getpid()}"
            raise StoreLocked(text, store=self._path.parent)

    def release(self) -> None:
        """Let the next writer in."""
        if self._file.closed:
            return
        with contextlib.suppress(OSError):
            self._file.truncate(0)
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._folder)
        with contextlib.suppress(OSError):
            # What could not be flushed is the name alone; the lock was let go of.
            self._file.close()
