"""The feed monitor: equal to a plain count of the lines, on every host, for any cuts, behind a checkpoint, with
everything sent twice."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from margin_stream import Store
from margin_stream.agents.metrics import measured
from margin_stream.core.store_fold import StoreFold
from margin_stream.host.embedded import Host
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.producer import records_of
from margin_stream.kafka.reader import KafkaReader
from margin_stream.kafka.shards import IntakeShard
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.schemas.times import format_time, parse_time
from margin_stream.views import FoldUnknown, facts
from margin_stream.views.source import StoreReader, Until
from tests.days import Day, random_day
from tests.kafka.simulated import GENERATION, Log, Topical
from tests.restoring import Rows

DAYS = [random_day(seed, noisy=True) for seed in (3, 4)]


def plain(lines: list[bytes]) -> list[dict[str, Any]]:
    """Count line by line, with a system that says what became of each; no batch, no maximum of maxima."""
    system = StoreFold(1, rules_version=LATEST)
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        clock = system.intake.market.clock_ns
        if system.admission.line(line).value == "duplicate":
            continue
        try:
            row = json.loads(line)
            source, number, when = row["source"], row["source_seq"], parse_time(row["event_time"])
        except (ValueError, KeyError, TypeError):
            continue
        before = found.get(source, {"highest": -1, "newest": 0})
        found[source] = {
            "highest": max(before["highest"], number),
            "newest": max(before["newest"], when),
            "clock": clock,
            "position": system.sequence,
        }
    return [
        {
            "source": source,
            "highest": row["highest"],
            "newest_event_time": format_time(row["newest"]),
            "clock": format_time(row["clock"]) if row["clock"] else None,
            "sequence": row["position"],
        }
        for source, row in sorted(found.items())
    ]


@pytest.mark.slow_after(1, reason="folds whole days")
@pytest.mark.parametrize("lines", DAYS)
def test_it_equals_a_plain_count_on_a_folder_and_on_topics(lines: list[bytes], tmp_path: Path) -> None:
    expected = plain(lines)
    assert {row["source"] for row in expected} >= {"book", "feed", "noise"}
    with Host(tmp_path / "s", partitions=3, group_items=17, checkpoint_items=40) as host:
        host.ingest(lines)
        host.ingest(lines)
    assert facts(tmp_path / "s", "feeds") == expected
    with Host(tmp_path / "s") as again:
        assert again.recovery.folded == 0
    assert facts(tmp_path / "s", "feeds") == expected
    log = Log()
    log.values["s.inputs", 0].extend(records_of([*lines, *lines], LATEST))
    assert facts(KafkaReader(Topical(log, 2), parse_address("kafka://h:1/s")), "feeds") == expected  # type: ignore[arg-type]


@pytest.mark.slow_after(1, reason="folds whole days")
@pytest.mark.parametrize("lines", DAYS)
def test_any_cut_of_batches_and_checkpoints_gives_the_same(lines: list[bytes]) -> None:
    whole = StoreFold(1, rules_version=LATEST)
    for line in lines:
        whole.admission.line(line)
    whole.fold()
    for seed in range(5):
        rng, rows, system = Random(seed), Rows(2), StoreFold(2, rules_version=LATEST)
        for line in lines:
            system.admission.line(line)
            if rng.randrange(4) == 0:
                system.fold()
            if rng.randrange(30) == 0:
                system.fold()
                rows.write(system)
                system = rows.restored()
        system.fold()
        assert system.sets[0].folds[0].digest() == whole.sets[0].folds[0].digest()
        assert list(system.sets[0].folds[0].facts()) == list(whole.sets[0].folds[0].facts())


@pytest.mark.slow_after(1, reason="folds whole days")
@pytest.mark.parametrize("lines", DAYS)
def test_a_prefix_has_what_was_known_then(lines: list[bytes], tmp_path: Path) -> None:
    with Host(tmp_path / "s") as host:
        host.ingest(lines)
    sequence = host.system.sequence // 2
    counted = StoreFold(1, rules_version=LATEST)
    prefix = []
    for line in lines:
        if counted.sequence == sequence:
            break
        counted.admission.line(line)
        prefix.append(line)
    assert facts(tmp_path / "s", "feeds", Until(sequence=sequence)) == plain(prefix)
    with Store.open(tmp_path / "s") as store:
        assert store.facts("feeds", at=sequence) == plain(prefix)
        assert store.facts("feeds") == plain(lines)


def test_a_fold_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    with Host(tmp_path / "s") as host:
        host.ingest(Day().opened().lines)
    with pytest.raises(FoldUnknown, match="no fold 'feed'; there are feeds"):
        facts(StoreReader(tmp_path / "s"), "feed")


def test_its_measures_are_metrics_of_the_worker_that_has_the_intake() -> None:
    shard = IntakeShard(parse_address("kafka://h:1/s").topics, GENERATION, 1, rules_version=LATEST)
    for offset, record in enumerate(records_of(Day().opened().lines, LATEST)):
        shard.accept(offset, record)
    shard.drain()
    families = {family.name: family for family in measured([(0, shard.folds.folds[0])])}
    assert set(families) == {
        "margin_stream_feeds_highest",
        "margin_stream_feeds_newest_event_time_seconds",
        "margin_stream_feeds_clock_seconds",
    }
    samples = {sample.labels["source"]: sample.value for sample in families["margin_stream_feeds_highest"].samples}
    assert samples == {"book": 8, "feed": 4}
    assert all(family.documentation for family in families.values())


def test_it_is_outside_the_digests_and_emits_nothing() -> None:
    system = StoreFold(1, rules_version=LATEST)
    for line in DAYS[0]:
        system.admission.line(line)
    system.fold()
    monitor = system.sets[0].folds[0]
    before = system.digests()
    monitor.restore(1, ())
    assert (monitor.sums(), system.digests()) == ({}, before)
