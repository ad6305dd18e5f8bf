"""What SIGINT and SIGTERM do to a command, and how a command waits for input meanwhile."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

IDLE_S = 0.1
"""Where no input comes for so long, what came is made durable."""


def leave_at_once() -> None:
    """Have this process end at SIGINT and SIGTERM, wherever it is, with 130 and 143; files that it made for itself are
    removed.

    Python's own way raises KeyboardInterrupt in the middle of whatever runs: compiled code takes that, in arithmetic of
    long integers, for a lack of memory and aborts, and other tasks print where they were.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    try:
        atexit._run_exitfuncs()
    finally:
        os._exit(128 + number)


def as_python_does() -> None:
    """Undo ``leave_at_once``, for a command that has other processes to end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Stopper:
    """Turns SIGINT and SIGTERM into a clean stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.orderly = True
        """Something is under way that is to be ended in order; else the process leaves at once."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopper:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        if not self.orderly:
            _leave(number, _frame)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None


class Ended(Exception):
    """The command is to end; what was read of an unfinished line is no input."""


class _Waiting(io.RawIOBase):
    def __init__(self, descriptor: int, idle: Callable[[], bool]) -> None:
        self._descriptor = descriptor
        self._idle = idle

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not select.select([self._descriptor], [], [], IDLE_S)[0]:
            if self._idle():
                raise Ended
        count = os.readv(self._descriptor, [into])
        # A signal often ends the sender too, in the middle of a line.
        if not count and self._idle():
            raise Ended
        return count


class _Following(io.RawIOBase):
    """A file that grows, as ``tail -F`` reads it: one that is replaced or cut is read anew from its start."""

    def __init__(self, path: Path, idle: Callable[[], bool]) -> None:
        self._path = path
        self._idle = idle
        self._file = path.open("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not (count := self._file.readinto(into)):
            if self._idle():
                raise Ended
            self._look()
            time.sleep(IDLE_S)
        return int(count)

    def _look(self) -> None:
        """Open the file anew where another one has its name, or it became shorter."""
        with contextlib.suppress(OSError):
            there, here = self._path.stat(), os.fstat(self._file.fileno())
            if there.st_ino != here.st_ino or there.st_dev != here.st_dev:
                self._file.close()
                self._file = self._path.open("rb", buffering=0)
            elif there.st_size < self._file.tell():
                self._file.seek(0)

    def close(self) -> None:
        self._file.close()
        super().close()


def following(path: Path, idle: Callable[[], bool]) -> BinaryIO:
    """Return a file to be read as it grows; it ends with ``Ended``.

    Args:
        path: of the file.
        idle: called each time that nothing more is there; True ends the reading.
    """
    return io.BufferedReader(_Following(path, idle), 1 << 16)


def waiting(stream: BinaryIO, idle: Callable[[], bool]) -> BinaryIO:
    """Return a stream that is read as another one, which nobody has read yet.

    Args:
        stream: a pipe, a terminal or a file.
        idle: called each time that nothing came for ``IDLE_S``; True ends the reading with ``Ended``.
    """
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return stream
    return io.BufferedReader(_Waiting(descriptor, idle), 1 << 16)
