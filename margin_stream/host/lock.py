"""One writer a store."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import time
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


class Lock:
    """One writer a store: holds an advisory lock, with the holder's name in the file."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            StoreLocked: another process holds it; the text names it.
        """
        self._file: IO[str] = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held open as long as the lock)
        deadline = time.monotonic() + GRACE_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                self._file.seek(0)
                holder = self._file.read().strip()
                if _has_died(holder) and time.monotonic() < deadline:
                    # A busy system may let go of a killed process's lock a moment after the process itself.
                    time.sleep(0.01)
                    continue
                self._file.close()
                raise StoreLocked(
                    f"{path.parent}: another process writes to this store: {holder or 'an unnamed process'}",
                    store=path.parent,
                ) from None
            except OSError as error:
                self._file.close()
                raise OSError(error.errno, error.strerror, str(path)) from None
        # Who holds it. A disk that cannot take these few bytes does not make the lock less held.
        with contextlib.suppress(OSError):
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            self._file.flush()

    def release(self) -> None:
        """Let the next writer in."""
        if self._file.closed:
            return
        with contextlib.suppress(OSError):
            self._file.truncate(0)
        with contextlib.suppress(OSError):
            # What could not be flushed is the name alone; the descriptor, and with it the lock, is let go of all the
            # same.
            self._file.close()
