"""One writer a store: the lock is waited for only where its holder has died, and never taken from anybody."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from margin_stream.host import lock
from margin_stream.host.lock import Lock
from margin_stream.journal.layout import StoreLocked


def ended() -> int:
    """Return the id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def held(path: Path, holder: str) -> IO[str]:
    """Hold the lock as somebody else would; closing what is returned lets go."""
    file = path.open("w+", encoding="utf-8")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.write(holder)
    file.flush()
    return file


def test_the_lock_of_a_process_that_has_died_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    file = held(path, f"process {ended()} on {socket.gethostname()}\n")
    threading.Timer(0.2, file.close).start()
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
    with held(path, holder), pytest.raises(StoreLocked, match=holder or "an unnamed process"):
        Lock(path)
