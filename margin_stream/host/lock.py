"""One writer a store."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from margin_stream.journal.layout import StoreLocked


class Lock:
    """One writer a store: holds an advisory lock, with the holder's name in the file."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            StoreLocked: another process holds it; the text names it.
        """
        self._file: IO[str] = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held open as long as the lock)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "an unnamed process"
            self._file.close()
            raise StoreLocked(f"{path.parent}: another process writes to this store: {holder}") from None
        except OSError as error:
            self._file.close()
            raise OSError(error.errno, error.strerror, str(path)) from None
        self._name_holder(f"process {os.getpid()} on {socket.gethostname()}\n")

    def _name_holder(self, text: str) -> None:
        """Say who holds it. A disk that cannot take these few bytes does not make the lock less held."""
        with contextlib.suppress(OSError):
            self._file.truncate(0)
            self._file.write(text)
            self._file.flush()

    def release(self) -> None:
        """Let the next writer in."""
        if self._file.closed:
            return
        with contextlib.suppress(OSError):
            self._file.truncate(0)
        with contextlib.suppress(OSError):
            # What could not be flushed is the name alone; the descriptor, and with it the lock, is let go of all the same.
            self._file.close()
