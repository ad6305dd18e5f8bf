"""Readers beside a writer in another process: they see a durable prefix, whole, and never cry wolf."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from margin_stream.host.embedded import Host
from margin_stream.journal import highwater, layout
from margin_stream.replay import table_checks
from margin_stream.replay.replay import replay
from margin_stream.replay.verification import verify
from margin_stream.tables.rocks import Table, TableError
from tests.days import random_day

WRITER = """
import sys
import time
from pathlib import Path
from margin_stream.host.embedded import Host
from tests.days import random_day
lines = random_day(5, accounts=10, steps=1500, noisy=True)
for session in range(4):
    with Host(Path(sys.argv[1]), partitions=2, group_items=5, checkpoint_items=40, segment_limit=3000) as host:
        print("open", flush=True)
        for start in range(session * len(lines) // 4, (session + 1) * len(lines) // 4, 5):
            host.ingest(lines[start : start + 5])
            # So that readers come to see many states.
            time.sleep(0.01)
"""


@pytest.mark.slow
def test_verify_and_replay_beside_a_writer_find_nothing_wrong(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "s")],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    positions = []
    try:
        while process.poll() is None:
            found = verify(tmp_path / "s", fold=len(positions) % 3 == 0)
            assert found.ok, found.problems
            positions.append(found.items)
            replayed = replay(tmp_path / "s")
            assert replayed.equal, replayed.first_difference
            assert replayed.sequence >= found.items
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert positions == sorted(positions)
    assert len(set(positions)) > 2
    assert verify(tmp_path / "s").ok


@pytest.mark.slow(reason="verifies a store between any two steps of a writer")
def test_a_writer_that_checkpoints_between_any_two_steps_of_verify_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = random_day(5, accounts=10, steps=900)
    with Host(tmp_path / "s", partitions=2, group_items=5) as host:
        host.ingest(lines[:60])
        host.checkpoint()
        taken = 60
        read = highwater.read

        def read_while_written(path: Path, store_id: bytes) -> highwater.HighWater:
            nonlocal taken
            host.ingest(lines[taken : taken + 5])
            host.checkpoint()
            taken += 5
            return read(path, store_id)

        for _ in range(5):
            monkeypatch.setattr(highwater, "read", read_while_written)
            found = verify(tmp_path / "s")
            monkeypatch.undo()
            assert found.ok, found.problems
        assert 60 < taken < len(lines)


def test_a_database_whose_making_was_interrupted_is_no_damage_before_the_first_checkpoint(tmp_path: Path) -> None:
    host = Host(tmp_path / "s")
    host.ingest(random_day(5)[:20])
    host.abandon()
    for name in ("CURRENT", "seal.json"):
        (tmp_path / "s" / "tables" / "p0000" / name).unlink()
    assert verify(tmp_path / "s").ok
    with Host(tmp_path / "s") as host:
        assert host.recovery.folded > 0
    (tmp_path / "s" / "tables" / "p0000" / "CURRENT").unlink()
    assert not verify(tmp_path / "s").ok


def test_a_file_of_a_table_that_goes_away_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Host(tmp_path / "s") as host:
        host.ingest(random_day(5))
    gone = tmp_path / "s" / "tables" / "p0000" / "000099.sst"
    gone.symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(layout, "check_files", lambda _: None)  # The link stands for a file that was there.
    with pytest.raises(TableError, match="somebody writes"):
        Table(gone.parent, read_only=True)
    attempt = table_checks._Attempt.check

    def removed_meanwhile(self: table_checks._Attempt) -> table_checks.TableChecks:
        found = attempt(self)
        gone.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(table_checks._Attempt, "check", removed_meanwhile)
    monkeypatch.setattr(table_checks, "_stamp", lambda _: [gone.is_symlink()])
    assert verify(tmp_path / "s").ok
