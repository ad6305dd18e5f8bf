"""A feed that numbers anew: nothing of it is dropped in silence, nothing counts twice."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from margin_stream import Store, views
from margin_stream.core.intake.identity import FeedSource, Seen
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.columns import columns_of
from margin_stream.schemas.inputs import PriceTicked
from margin_stream.schemas.ndjson import decode_line
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day, random_day
from tests.folding import fold


def restarted_day(confirm: bool) -> Day:
    """Return a day whose feed numbers from 1 again a minute in."""
    day = Day().opened()
    day.account("A")
    day.money("A", "1", asset="BTC")
    day.money("A", "-25000")
    day.clock(60)
    day._feed = 0
    if confirm:
        day.book("feed_restarted", feed="feed", actor="ops")
    for n in range(8):
        day.clock(10)
        day.tick("BTCUSDT", f"{39000 - 500 * n}.00")
    return day


def kinds(effects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [effect for effect in effects if effect["type"] == kind]


def test_what_it_sends_is_refused_and_kept_with_one_effect_a_restart(tmp_path: Path) -> None:
    day = restarted_day(confirm=False)
    with Store.open(tmp_path / "s", partitions=2) as store:
        counts = store.ingest(day.lines)
        # Up to the highest number before; what lies above counts.
        assert counts.refused == 5
        restarts = [effect for effect in views.effects(store.path) if effect["type"] == "feed_numbers_restarted"]
        assert [(row["source"], row["number"], row["highest"]) for row in restarts] == [("feed", 1, 5)]
        before = store.digests()
        again = store.ingest(day.lines)
        assert (again.accepted, again.refused) == (0, 0)
        assert store.digests() == before


def test_once_it_is_confirmed_its_numbers_count() -> None:
    day = restarted_day(confirm=True)
    digests, effects = fold(day.lines)
    assert kinds(effects, "input_refused") == []
    assert kinds(effects, "margin_warned")
    for partitions in (2, 7):
        assert fold(day.lines, partitions, cuts=Random(3)) == (digests, effects)
    # All of it again, and what came before the restart alone: nothing new.
    system = StoreFold(1, rules_version=LATEST)
    for line in [*day.lines, *day.lines, *day.lines[:20]]:
        system.admission.line(line)
    system.fold()
    assert system.digests() == digests


def test_a_second_restart_is_an_effect_of_its_own() -> None:
    day = restarted_day(confirm=True)
    day._feed = 0
    for _ in range(3):
        day.clock(10)
    day.book("feed_restarted", feed="feed", actor="ops")
    day._feed = 0
    day.clock(10)
    _, effects = fold(day.lines)
    assert [row["number"] for row in kinds(effects, "feed_numbers_restarted")] == [1]
    assert len(kinds(effects, "input_refused")) == 3


def test_a_feed_that_nobody_knows_cannot_restart() -> None:
    day = Day().opened()
    day.book("feed_restarted", feed="other", actor="ops")
    _, effects = fold(day.lines)
    assert [row["reason"] for row in kinds(effects, "input_refused")] == ["feed_unknown"]


@pytest.mark.parametrize("seed", range(30))
def test_a_feed_equals_a_plain_model(seed: int) -> None:
    """The model keeps every item that took a number."""
    rng = Random(seed)
    feed = FeedSource("f")
    taken: list[tuple[int, int]] = []
    highest, fence = -1, (-1, -1)
    refused: set[int] = set()
    for _ in range(200):
        number, time = rng.randrange(12), rng.randrange(12)
        pair = (time, number)
        if pair <= fence or (number <= highest and pair <= max(taken, default=(-1, -1))):
            expected = Seen.DUPLICATE_OF_REFUSED if number in refused else Seen.DUPLICATE
        else:
            expected = Seen.NEW if number > highest else Seen.RESTARTED
        assert feed.look(number, time) is expected
        if expected in (Seen.NEW, Seen.RESTARTED):
            feed.take(number, time)
            taken.append(pair)
            highest = max(highest, number)
            if expected is Seen.RESTARTED or rng.randrange(5) == 0:
                feed.refuse(number)
                refused.add(number)
        if rng.randrange(30) == 0:
            feed.restart()
            highest, fence = -1, max(taken, default=(-1, -1))
        feed = FeedSource.of_row(*json.loads(json.dumps(feed.row())))


@pytest.mark.parametrize("seed", range(6))
def test_ticks_in_columns_and_one_by_one_are_the_same(seed: int) -> None:
    rng = Random(seed)
    day = Day().opened()
    ticks = []
    for _ in range(60):
        if rng.randrange(8) == 0:
            day._feed = rng.randrange(10)
        day.now_ns += rng.choice((-1, 0, 1, 2)) * 10**9
        before = len(day.lines)
        day.tick("BTCUSDT", f"{40000 + rng.randrange(50)}.00")
        ticks += day.lines[before:]
    heads = day.lines[: len(day.lines) - len(ticks)]
    single, columns = StoreFold(2, rules_version=LATEST), StoreFold(2, rules_version=LATEST)
    for line in day.lines:
        single.admission.line(line)
    for line in heads:
        columns.admission.line(line)
    events = [decode_line(line, LATEST) for line in ticks]
    for at in range(0, len(events), 7):
        part = [event for event in events[at : at + 7] if isinstance(event, PriceTicked)]
        found = columns_of(part)
        assert found is not None
        columns.admission.item(found)
    single.fold()
    columns.fold()
    assert single.digests() == columns.digests()


def test_duplicates_of_what_was_refused_are_told_apart(tmp_path: Path) -> None:
    lines = random_day(5, noisy=True)
    bad = b'{"type":"collateral_moved","source":"late","source_seq":%d,"event_time":"2021-05-19T00:00:00Z",'
    bad += b'"account":"nobody","asset":"USDT","amount_delta":"1"}'
    lines += [bad % 1, bad % 2, b"no json"]
    with Store.open(tmp_path / "s") as store:
        store.ingest(lines)
        sources = store._host.system.intake.sources
        before, accepted = sources.duplicates_of_refused, lines[0]
        store.ingest([accepted, bad % 1, bad % 2, b"no json", bad % 1])
        assert sources.duplicates_of_refused - before == 4
        # Another content under a number is refused, and known when it comes again.
        other = (bad % 1).replace(b'"1"', b'"2"')
        store.ingest([other, other])
        assert sources.duplicates_of_refused - before == 5
    with Store.open(tmp_path / "s") as store:
        store.ingest([bad % 1, other, b"no json", accepted])
        assert store._host.system.intake.sources.duplicates_of_refused == 3
