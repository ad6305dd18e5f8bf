"""Past moments and late events: answered from kept checkpoints and the index of the journal, with the same answer as from
the whole journal, at a cost that does not grow with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from margin_stream import views
from margin_stream.core.digests import slot_of
from margin_stream.host.embedded import Host
from margin_stream.journal.layout import Layout
from margin_stream.replay.replay import replay
from margin_stream.replay.verification import verify
from margin_stream.tables import journal_index, kept_checkpoints
from margin_stream.views.journal import effects, events
from margin_stream.views.source import Items, StoreReader, Until
from tests.days import random_day
from tests.integration.test_errors import command

ACCOUNTS = 9


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are kept, and stretches end, where a test can afford it."""
    monkeypatch.setattr(kept_checkpoints, "LEAST_ITEMS", 300)
    monkeypatch.setattr(kept_checkpoints, "ITEMS_PER_BYTE", 0)
    monkeypatch.setattr(journal_index, "STRETCH_ITEMS", 50)


@pytest.fixture
def store(tmp_path: Path, small: None) -> Path:
    """A store that was written in three runs, the second of which crashed."""
    path = tmp_path / "s"
    lines = random_day(41, accounts=ACCOUNTS, steps=1500)
    thirds = [lines[: len(lines) // 3], lines[len(lines) // 3 : 2 * len(lines) // 3], lines[2 * len(lines) // 3 :]]
    for n, part in enumerate(thirds):
        host = Host(path, partitions=3, checkpoint_items=250, group_items=20)
        host.ingest(part)
        if n == 1:
            host.abandon()
        else:
            host.close()
    return path


def without_kept(store: Path, to: Path) -> Path:
    shutil.copytree(store, to)
    shutil.rmtree(Layout(to).kept)
    return to


def test_past_moments_are_what_the_whole_journal_gives(store: Path, tmp_path: Path) -> None:
    plain = without_kept(store, tmp_path / "plain")
    rng = Random(7)
    last = StoreReader(store).recorded_sequence
    ticks = [event["time"] for event in events(store, kind="clock_ticked")]
    assert len(list(Layout(store).kept.glob("*.kept"))) >= 3
    from margin_stream.schemas.times import parse_time

    moments = [Until(sequence=rng.randrange(1, last + 50)) for _ in range(12)]
    moments += [Until(time_ns=parse_time(rng.choice(ticks)) + rng.randrange(3)) for _ in range(6)]
    for until in moments:
        assert views.folds_at(store, until).digests() == views.folds_at(plain, until).digests()
        for account in rng.sample([row["account"] for row in views.accounts(store)], 3):
            assert _state(store, account, until) == _state(plain, account, until)
            assert views.calls(store, account=account, until=until) == views.calls(plain, account=account, until=until)
        assert views.accounts(store, until=until) == views.accounts(plain, until=until)
    found = replay(store, until=moments[0], from_checkpoint=True)
    assert found.equal
    assert found.sequence == replay(plain, until=moments[0]).sequence


def _state(store: Path, account: str, until: Until) -> Any:
    try:
        return views.account_state(store, account, until)
    except views.AccountUnknown as error:
        return str(error)


def test_no_more_is_folded_than_lies_behind_a_kept_checkpoint(store: Path) -> None:
    reader = StoreReader(store)
    last = reader.recorded_sequence
    for sequence in range(700, last, 97):
        loaded = reader.from_checkpoint(Until(sequence=sequence))
        assert loaded is not None
        assert 0 <= sequence - loaded[0].sequence <= 300 + 250 + 20


def test_events_are_what_the_whole_journal_gives(store: Path) -> None:
    everything = list(events(store))
    last = everything[-1]["sequence"]
    assert [event["sequence"] for event in everything] == list(range(1, last + 1))
    for after in (0, 1, 333, last - 1, last, last + 5):
        assert list(events(store, after=after)) == [event for event in everything if event["sequence"] > after]
    names = {event["account"] for event in everything if "account" in event}
    for account in sorted(names):
        of_account = [event for event in everything if event.get("account") == account]
        assert list(events(store, account=account)) == of_account
        assert list(events(store, account=account, after=400)) == [e for e in of_account if e["sequence"] > 400]
    assert list(events(store, account="nobody")) == []


def test_effects_are_what_the_whole_record_gives(store: Path, tmp_path: Path) -> None:
    plain = without_kept(store, tmp_path / "plain")
    everything = list(effects(plain))
    for after in (0, 333, 900, 10**9):
        assert list(effects(store, after=after)) == [row for row in everything if row["sequence"] > after]


def test_late_events_are_found_without_reading_the_journal(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = StoreReader._items

    def counted(self: StoreReader, *given: Any) -> Iterator[Items]:
        for record in whole(self, *given):
            read.append(record.number)
            yield record

    monkeypatch.setattr(StoreReader, "_items", counted)
    reader = StoreReader(store)
    list(events(store, after=reader.recorded_sequence - 10))
    assert 0 < len(read) < 10
    read.clear()
    # One account that is alone in its slot.
    name = next(row["account"] for row in views.accounts(store))
    others = {slot_of(row["account"]) for row in views.accounts(store)} - {slot_of(name)}
    assert slot_of(name) not in others
    list(events(store, account=name))
    assert len(read) < reader.durable.number


def test_beside_a_writer_the_end_that_has_no_checkpoint_is_read(tmp_path: Path, small: None) -> None:
    lines = random_day(42, accounts=4, steps=300)
    with Host(tmp_path / "s", partitions=2, checkpoint_items=200, group_items=20) as host:
        host.ingest(lines[:400])
        expected = host.publish_effects()
        assert [event["sequence"] for event in events(tmp_path / "s")][-1] == expected
        assert [event["sequence"] for event in events(tmp_path / "s", after=expected - 3)] == [
            expected - 2,
            expected - 1,
            expected,
        ]


@pytest.mark.parametrize("where", ["head", "middle", "checksum"])
def test_a_kept_checkpoint_that_is_damaged_is_named_and_not_used(store: Path, tmp_path: Path, where: str) -> None:
    plain = without_kept(store, tmp_path / "plain")
    path = sorted(Layout(store).kept.glob("*.kept"))[-1]
    data = bytearray(path.read_bytes())
    data[{"head": 9, "middle": len(data) // 2, "checksum": len(data) - 1}[where]] ^= 1
    path.write_bytes(bytes(data))
    until = Until(sequence=StoreReader(store).recorded_sequence - 1)
    assert views.folds_at(store, until).digests() == views.folds_at(plain, until).digests()
    problems = verify(store).problems
    assert [problem.file for problem in problems] == [str(path)]
    assert "it is not used" in problems[0].what


def test_a_kept_checkpoint_of_another_past_is_not_used(tmp_path: Path, small: None) -> None:
    """A store that was restored from a copy and went on otherwise: its id is the same, the digest was never recorded."""

    def go_on(path: Path, lines: list[bytes]) -> None:
        with Host(path, partitions=3, checkpoint_items=250, group_items=20) as host:
            host.ingest(lines)

    mine, other = tmp_path / "mine", tmp_path / "other"
    lines = random_day(41, accounts=ACCOUNTS, steps=1500)
    go_on(mine, lines[:100])
    shutil.copytree(mine, other)
    go_on(mine, lines)
    go_on(other, random_day(43, accounts=ACCOUNTS, steps=1500))
    until = Until(sequence=StoreReader(other).recorded_sequence - 1)
    for path in Layout(other).kept.glob("*.kept"):
        path.unlink()
    expected = views.folds_at(other, until).digests()
    for path in Layout(mine).kept.glob("*.kept"):
        shutil.copy(path, Layout(other).kept)
    assert StoreReader(other).from_checkpoint(until) is None
    assert views.folds_at(other, until).digests() == expected


def test_a_table_rebuilt_has_the_index_again(store: Path) -> None:
    before = StoreReader(store)._index()
    shutil.rmtree(Layout(store).table("intake"))
    Host(store).close()
    after = StoreReader(store)._index()
    assert after[-1].end == before[-1].end
    assert {slot for part in after for slot in _slots(part.slots)} == {slot for p in before for slot in _slots(p.slots)}


def _slots(packed: bytes) -> list[bytes]:
    return [packed[n : n + 2] for n in range(0, len(packed), 2)]


@pytest.mark.parametrize("question", [("state", "--account", "A0"), ("calls",), ("accounts",)])
def test_an_answer_over_a_damaged_journal_is_reported_as_such(store: Path, question: tuple[str, ...]) -> None:
    name = views.accounts(store)[0]["account"]
    words = [name if word == "A0" else word for word in question]
    assert command(*words, "--store", str(store))[:2] == (0, [])
    path = next(Layout(store).journal.glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(bytes(data))
    code, rows, answer = command(*words, "--store", str(store))
    assert (code, [row["code"] for row in rows]) == (0, ["journal_damaged"])
    assert rows[0]["where"]["file"] == str(path)
    assert answer
