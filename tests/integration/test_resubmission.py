"""What a feed sent while its numbers were refused is sent again, once, and never over what is newer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from margin_stream import Store, views
from margin_stream.cli.main import run
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.producer import records_of
from margin_stream.kafka.reader import KafkaReader
from margin_stream.schemas.inputs import PriceTicked
from margin_stream.schemas.ndjson import decode_line
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day, opened_day, restart
from tests.kafka.simulated import Log, Topical


def resubmit(store: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["quarantine", "resubmit", "--source", "feed", "--store", str(store), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def ingest(store: Path, day: Day) -> None:
    with Store.open(store, partitions=2) as opened:
        opened.ingest(day.lines)


def test_all_that_was_kept_comes_in_once_the_restart_is_confirmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = opened_day()
    # Numbers 1 to 6, each at or below the highest: three clocks and three ticks are refused.
    restart(day, 3)
    day.book("feed_restarted", feed="feed", actor="ops")
    store = tmp_path / "s"
    ingest(store, day)
    refused = [row["sequence"] for row in views.quarantine(store)]
    assert len(refused) == 6
    confirmed = refused[-1] + 1
    sent = resubmit(store, capsys)
    assert {name: sent[name] for name in ("kept", "sent", "older_than_the_store", "not_confirmed", "accepted")} == {
        "kept": 6,
        "sent": 6,
        "older_than_the_store": 0,
        "not_confirmed": 0,
        "accepted": 6,
    }
    rows = [row for row in views.events(store) if row.get("source") == f"feed@{confirmed}"]
    assert [row["source_seq"] for row in rows] == refused
    # The last tick is not laid in columns: they have no room for what it corrects.
    assert [row["corrects"] for row in rows] == [f"feed#{n}" for n in range(1, 7)]
    assert views.account_state(store, "A")["level"] == "WARNING"
    assert run(["verify", "--store", str(store)]) == run(["replay", "--store", str(store)]) == 0
    capsys.readouterr()
    # Again: the last clock and the ticks before it are older, or duplicates; nothing changes.
    again = resubmit(store, capsys)
    assert (again["accepted"], again["refused"]) == (0, 0)
    assert (again["state_digest"], again["effects_digest"]) == (sent["state_digest"], sent["effects_digest"])


def test_what_is_older_than_the_mark_or_the_clock_moves_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = opened_day()
    restart(day, 3)
    day.book("feed_restarted", feed="feed", actor="ops")
    day._feed = 0
    day.clock(10)
    day.tick("BTCUSDT", "40500.00")
    store = tmp_path / "s"
    ingest(store, day)
    before = views.account_state(store, "A")
    sent = resubmit(store, capsys)
    assert (sent["kept"], sent["sent"], sent["older_than_the_store"]) == (6, 0, 6)
    assert views.account_state(store, "A") == before


def test_each_restart_has_its_own_confirmation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    day = opened_day()
    restart(day, 2)
    store = tmp_path / "s"
    ingest(store, day)
    assert run(["quarantine", "resubmit", "--source", "feed", "--store", str(store)]) == 1
    assert "restart_not_confirmed" in capsys.readouterr().err
    day.book("feed_restarted", feed="feed", actor="ops")
    # The numbers go on to 3 and restart: the items after are of a second restart, which nobody confirmed.
    day._feed = 0
    for _ in range(3):
        day.tick("ETHUSDT", "2500.00")
    day.clock(10)
    restart(day, 1, 38500)
    ingest(store, day)
    sent = resubmit(store, capsys)
    assert (sent["kept"], sent["accepted"], sent["not_confirmed"]) == (6, 2, 2)
    assert sent["older_than_the_store"] == 2


def test_a_topic_that_repeats_gives_the_same(tmp_path: Path) -> None:
    day = opened_day()
    restart(day, 3)
    day.book("feed_restarted", feed="feed", actor="ops")
    ingest(tmp_path / "s", day)
    log = Log()
    log.values["s.inputs", 0].extend(records_of([*day.lines, *day.lines], LATEST))
    reader = KafkaReader(Topical(log, 2), parse_address("kafka://h:1/s"))  # type: ignore[arg-type]
    found = views.resubmission(tmp_path / "s", "feed")
    assert len(found.events) == 6
    assert views.resubmission(reader, "feed") == found


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quarantine", "resubmit", "--source", "feed", "--store", str(tmp_path / "none")]) != 0
    assert "store_missing" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_ticks_keep_what_they_correct(tmp_path: Path) -> None:
    day = opened_day()
    for n in range(3):
        day.tick("BTCUSDT", f"{40000 + n}.00")
    event = decode_line(day.lines[-1], LATEST)
    assert isinstance(event, PriceTicked)
    line = json.loads(day.lines[-1]) | {"corrects": "feed#1"}
    day.lines[-1] = json.dumps(line).encode()
    ingest(tmp_path / "s", day)
    assert [row["corrects"] for row in views.events(tmp_path / "s") if "corrects" in row] == ["feed#1"]
