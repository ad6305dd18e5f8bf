"""A path that is given relative to the working folder names one place, wherever a process or its children work
later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from margin_stream import Store
from margin_stream.cli import worker
from margin_stream.replay.verification import verify
from margin_stream.tables.rocks import SEAL, Table
from tests.days import random_day
from tests.integration.test_errors import command

LINES = random_day(8, accounts=6, steps=120)
KILLED = """
import os, signal, sys
from margin_stream import Store
store = Store.open("./s", partitions=2)
store.ingest(sys.stdin.buffer.read().splitlines())
store.checkpoint()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose writer was killed behind its checkpoint, in the working folder."""
    monkeypatch.chdir(tmp_path)
    done = subprocess.run([sys.executable, "-c", KILLED], input=b"\n".join(LINES), check=False, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    return Path("s")


@pytest.mark.slow(reason="kills a process and opens what it left")
def test_a_store_whose_writer_was_killed_is_sound_by_its_relative_path(killed: Path) -> None:
    assert not list(killed.glob(f"tables/*/{SEAL}"))
    assert verify(killed).problems == []
    assert command("verify", "--store", "./s")[:2] == (0, [])


def test_recovery_by_a_relative_path_begins_at_the_checkpoint(killed: Path) -> None:
    with Store.open("./s") as store:
        assert store.recovery.notes == ()
        assert store.recovery.from_sequence == len(LINES)
        assert store.recovery.folded == 0


@pytest.mark.slow(reason="kills a process and opens what it left")
def test_an_unsealed_table_is_read_by_its_relative_path(killed: Path) -> None:
    table = Table(Path("s/tables/intake"), read_only=True)
    assert dict(table.rows())
    table.close()


@pytest.mark.slow(reason="kills a process and opens what it left")
def test_a_store_goes_on_where_its_process_changes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    store = Store.open("./s", partitions=2)
    store.ingest(LINES[:60])
    os.chdir(elsewhere)
    assert store.path == tmp_path / "s"
    store.ingest(LINES[60:])
    digests = store.checkpoint()
    assert store.verify().ok
    assert store.replay().equal
    assert store.state("A0")["account"] == "A0"
    assert store.close() == digests
    assert not list(elsewhere.iterdir())
    assert len(list((tmp_path / "s").glob(f"tables/*/{SEAL}"))) == 3
    with Store.open("../s") as again:
        assert again.recovery.from_sequence == len(LINES)


def test_a_worker_is_told_its_folder_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    class Told:
        def __init__(self, _: Any, command: list[str]) -> None:
            given.append(command)

        def run(self) -> int:
            return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "_Supervisor", Told)
    assert command("worker", "--store", "kafka://localhost:1/x", "--data", "./w")[0] == 0
    assert given[0][given[0].index("--data") + 1] == str(tmp_path / "w")
