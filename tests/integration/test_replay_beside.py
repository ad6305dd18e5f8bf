"""Replay beside a writer: what it compares, what it finds, and ``ingest --verify`` around it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from margin_stream.cli.background_replay import Beside, BesideFailed
from margin_stream.cli.main import run as main_run
from margin_stream.host.embedded import Host
from margin_stream.journal.records import Cut
from margin_stream.replay.background import replay_beside
from margin_stream.replay.comparison import Replayed
from margin_stream.replay.replay import replay
from margin_stream.views.source import StoreReader
from tests.days import random_day
from tests.folding import fold
from tests.integration.test_command_line import rows, run
from tests.usdm_days import random_usdm_day

LINES = random_day(3, accounts=10, steps=400)


def written_beside(path: Path, lines: list[bytes], cuts: Random, partitions: int = 2, close: bool = True) -> Replayed:
    """Write a store piece by piece, each piece before another look of the replay."""
    host = Host(path, partitions=partitions, checkpoint_items=40, group_items=7)
    left = list(lines)

    def more() -> bool:
        if not left:
            if close:
                host.close()
            return False
        for line in [left.pop(0) for _ in range(min(len(left), cuts.randrange(1, 90)))]:
            host.offer(line)
            if host.group_full:
                host.begin_commit()
                host.checkpoint_if_due()
        return True

    try:
        return replay_beside(path, more)
    finally:
        if not close:
            host.abandon()


@pytest.mark.slow(reason="replays a store in a second process")
@pytest.mark.parametrize("seed", range(6))
def test_it_finds_what_a_replay_afterwards_finds(tmp_path: Path, seed: int) -> None:
    lines = random_usdm_day(seed) if seed % 2 else random_day(seed, noisy=True)
    found = written_beside(tmp_path / "s", lines, Random(seed), partitions=1 + seed)
    assert found == replay(tmp_path / "s")
    assert found.equal
    assert (found.sequence, found.state_digest, found.effects_digest) == fold(lines)[0]
    assert found.effects > 10


@pytest.mark.slow(reason="replays a store in a second process")
def test_a_store_that_was_there_already_is_folded_whole(tmp_path: Path) -> None:
    with Host(tmp_path / "s") as host:
        host.ingest(LINES[:300])
    found = written_beside(tmp_path / "s", LINES[250:], Random(1))
    assert found.equal
    assert found.sequence == fold(LINES)[0].sequence


def otherwise(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Have the recorded effects of the first partition read otherwise; ``change`` gets their count so far and the next
    ones."""
    truly = StoreReader.effects_behind
    seen = 0

    def read(self: StoreReader, log: int, cut: Cut) -> Iterator[tuple[Cut, list[bytes]]]:
        nonlocal seen
        for end, effects in truly(self, log, cut):
            changed = change(seen, effects) if log == 1 else effects
            seen += len(effects) if log == 1 else 0
            yield end, changed

    monkeypatch.setattr(StoreReader, "effects_behind", read)


@pytest.mark.slow(reason="replays a store in a second process")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda seen, effects: [e.replace(b"HEALTHY", b"HEALTHX") for e in effects], "recomputed"),
        (lambda seen, effects: effects[1:] if seen == 0 else effects, "recomputed"),
        (lambda seen, effects: [*effects, effects[-1]], "recorded"),
        (lambda seen, effects: effects if seen < 5 else [], "is recomputed, the record has ended"),
    ],
    ids=["another effect", "one missing", "one twice", "the rest missing"],
)
def test_what_was_recorded_otherwise_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, text: str
) -> None:
    otherwise(monkeypatch, change)
    found = written_beside(tmp_path / "s", LINES, Random(2))
    assert not found.equal
    assert text in str(found.first_difference)


@pytest.mark.slow(reason="replays a store in a second process")
def test_digests_that_were_recorded_otherwise_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = StoreReader.again

    def wrong(self: StoreReader) -> StoreReader:
        reader = again(self)
        reader.recorded = [
            row.__class__(row.sequence, row.journal_record, "0" * 64, row.effects) for row in reader.recorded[:2]
        ] + reader.recorded[2:]
        return reader

    monkeypatch.setattr(StoreReader, "again", wrong)
    found = written_beside(tmp_path / "s", LINES, Random(3))
    assert "the digests at sequence number" in str(found.first_difference)


@pytest.mark.slow(reason="replays a store in a second process")
def test_a_store_that_was_not_closed_is_not_equal(tmp_path: Path) -> None:
    found = written_beside(tmp_path / "s", LINES, Random(4), close=False)
    assert not found.equal


@pytest.mark.slow(reason="replays a store in a second process")
def test_ingest_verifies_in_a_second_process(tmp_path: Path) -> None:
    day = tmp_path / "day.ndjson"
    day.write_bytes(b"\n".join(LINES))
    store = str(tmp_path / "s")
    done = run("ingest", str(day), "--store", store, "--revaluation", "vectors", "--verify", "--json")
    assert done.returncode == 0, done.stderr
    found = rows(done)[0]
    assert found["verified"]["equal"]
    assert found["verified"]["state_digest"] == found["state_digest"]
    assert found["verified"] == json.loads(run("replay", "--store", store, "--json").stdout)


@pytest.mark.slow(reason="replays a store in a second process")
def test_a_difference_is_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truly = Beside.finish
    monkeypatch.setattr(
        Beside,
        "finish",
        lambda self: msgspec.structs.replace(truly(self), equal=False, first_difference="position 7: so"),
    )
    day = tmp_path / "day.ndjson"
    day.write_bytes(b"\n".join(LINES))
    assert main_run(["ingest", str(day), "--store", str(tmp_path / "s"), "--verify", "--json"]) == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["verified"]["first_difference"] == "position 7: so"
    assert json.loads(shown.err.splitlines()[-1])["code"] == "replay_differs"


@pytest.mark.slow(reason="replays a store in a second process")
def test_a_second_process_that_dies_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    with Host(tmp_path / "s") as host:
        host.ingest(LINES)
        beside = Beside(tmp_path / "s", "boxes")
        beside._process.kill()
        with pytest.raises(BesideFailed, match="ended with code -9"):
            beside.finish()
    assert replay(tmp_path / "s").equal


@pytest.mark.slow(reason="replays a store in a second process")
def test_an_error_of_the_second_process_is_passed_on(tmp_path: Path) -> None:
    beside = Beside(tmp_path / "none", "boxes")
    with pytest.raises(BesideFailed, match=r"StoreMissing: .*none"):
        beside.finish()
    beside = Beside(tmp_path / "none", "boxes")
    beside.abandon()
