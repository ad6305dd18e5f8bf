"""One writer a store: the lock is waited for only where its holder has died, and never taken from anybody."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from margin_stream.host import lock
from margin_stream.host.lock import Lock, holder_of
from margin_stream.journal.layout import StoreLocked


def ended() -> int:
    """Return the id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@contextlib.contextmanager
def held(path: Path, holder: str) -> Iterator[int]:
    """Hold the lock as somebody else would."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.write_text(holder)
        yield folder
    finally:
        with contextlib.suppress(OSError):
            os.close(folder)


def test_the_lock_of_a_process_that_has_died_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(path, f"process {ended()} on {socket.gethostname()}\n") as folder:
        threading.Timer(0.2, os.close, [folder]).start()
        mine = Lock(path)
    assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    mine.release()


def test_it_is_never_taken_from_who_does_not_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "GRACE_S", 0.05)
    path = tmp_path / "lock"
    pid = ended()
    with (
        held(path, f"process {pid} on {socket.gethostname()}\n"),
        pytest.raises(StoreLocked, match=f"process {pid} on"),
    ):
        Lock(path)


@pytest.mark.parametrize("text", ["process {pid} on {host}", "process 1 on elsewhere", "", "somebody"])
def test_a_holder_that_may_live_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    holder = text.format(pid=os.getpid(), host=socket.gethostname())
    monkeypatch.setattr(lock.time, "sleep", lambda _: pytest.fail("it waits"))
    path = tmp_path / "lock"
    with held(path, holder), pytest.raises(StoreLocked, match=holder or f"process {os.getpid()}"):
        Lock(path)


def test_removing_the_file_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    mine = Lock(path)
    path.unlink()
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        Lock(path)
    mine.release()
    Lock(path).release()


def test_who_holds_it_is_asked_of_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder_of(path) is None
    mine = Lock(path)
    assert holder_of(path) == f"process {os.getpid()} on {socket.gethostname()}"
    path.unlink()
    assert holder_of(path) == f"process {os.getpid()}"
    mine.release()
    assert holder_of(path) is None


def test_a_file_system_without_such_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_file: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with pytest.raises(OSError, match="a store needs a local file system"):
        Lock(tmp_path / "lock")
