"""One way into a store: the same lines have the same fate in a folder, on a topic, and in a copy of either, whatever
the rules version."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from margin_stream.core.intake.answers import AnswerKeys
from margin_stream.core.store_fold import Digests
from margin_stream.host.embedded import Host
from margin_stream.journal.layout import Layout, read_manifest
from margin_stream.kafka.address import Topics, parse_address
from margin_stream.kafka.copies import to_folder, to_topic
from margin_stream.kafka.producer import records_of
from margin_stream.kafka.reader import KafkaReader
from margin_stream.kafka.shards import IntakeShard
from margin_stream.kafka.topics_admin import StoreDiffers
from margin_stream.replay.replay import replay
from margin_stream.schemas.binary import canonical_bytes
from margin_stream.schemas.inputs import EffectAnswered
from margin_stream.schemas.ndjson import clipped, decode_line, encode_line
from margin_stream.schemas.records import compact
from margin_stream.schemas.refusals import RefusedInput
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.views.journal import numbered_items, quarantine
from margin_stream.views.source import StoreReader, Until
from tests.days import Day
from tests.kafka.simulated import GENERATION, Log, Topical
from tests.versions import registered

ADDRESS = parse_address("kafka://h:1/s")


@pytest.fixture(autouse=True)
def two_versions() -> Iterator[None]:
    """There is one rules version until 1.0: here is another."""
    with registered():
        yield


def a_day() -> list[bytes]:
    """Trades with and without what the first rules version does not know, quotes in two spellings, and refused lines of
    every kind."""
    day = Day().opened()
    day.account("A")
    day.money("A", "100000")
    day.trade("A", "BTCUSDT", "0.5", "40000")
    day.book("position_changed", account="A", instrument="BTCUSDT", quantity_delta="0.5", price="40000", isolated="p")
    day.tick("BTCUSDT", "40000.10")
    day.tick("BTCUSDT", "40000.1")
    day.tick("NOPE", "1.50")
    day.tick("ETHUSDT", "3000.125")
    day.book("collateral_moved", account="nobody", asset="USDT", amount_delta="1.00")
    day.book("collateral_moved", account="A", asset="USDT", amount_delta="1.001")
    spaced = json.dumps(
        json.loads(day.lines[-1]) | {"source_seq": 900, "account": "nobody"}, indent=None, separators=(", ", ": ")
    ).encode()
    return [*day.lines, spaced, b"not json", b"\xff\xfe", b'{"type":"price_ticked","price":1.5}', spaced, b"not json"]


LINES = a_day()


def folder(path: Path, rules_version: int) -> Digests:
    with Host(path, partitions=2, rules_version=rules_version) as host:
        host.ingest(LINES)
        return host.checkpoint()


def topic(rules_version: int) -> KafkaReader:
    log = Log()
    log.values["s.inputs", 0].extend(records_of(LINES, rules_version))
    return KafkaReader(Topical(log, 2, rules_version=rules_version), ADDRESS)  # type: ignore[arg-type]


@pytest.mark.parametrize("rules_version", [1, 2])
def test_a_folder_a_topic_and_their_copies_have_the_same_digests(rules_version: int, tmp_path: Path) -> None:
    expected = folder(tmp_path / "s", rules_version)
    reader = topic(rules_version)
    found = replay(reader)
    assert (found.sequence, found.state_digest, found.effects_digest) == expected
    assert to_folder(reader, tmp_path / "copy", 3) == expected
    assert read_manifest(Layout(tmp_path / "copy")).rules_version == rules_version
    assert replay(tmp_path / "copy").equal
    with Host(tmp_path / "copy") as host:
        assert host.ingest(LINES).duplicate == len(LINES)
    log = Log()
    target = Topical(log, 1, rules_version=rules_version)
    to_topic(
        KafkaReader(Topical(_inputs(tmp_path / "s", rules_version), 2, rules_version=rules_version), ADDRESS),
        target,
        ADDRESS,
    )  # type: ignore[arg-type]
    again = replay(KafkaReader(target, ADDRESS))  # type: ignore[arg-type]
    assert (again.sequence, again.state_digest, again.effects_digest) == expected


def _inputs(path: Path, rules_version: int) -> Log:
    """The journal of a folder on a topic."""
    log = Log()
    to_topic(StoreReader(path), Topical(log, 1, rules_version=rules_version), ADDRESS)  # type: ignore[arg-type]
    return log


def refused_lines(rules_version: int) -> list[bytes]:
    """What is refused of the day, by hand: the bytes that came, each once, in order."""
    subaccount = [line for line in LINES if b'"isolated"' in line]
    others = [
        line
        for line in LINES
        if any(part in line for part in (b"NOPE", b"3000.125", b"nobody", b"1.001", b"not json", b"\xff", b":1.5}"))
    ]
    return [line for line in dict.fromkeys(LINES) if line in others or line in subaccount]


def raw_of(row: dict[str, Any]) -> bytes:
    return row["raw"].encode() if "raw" in row else b64decode(row["raw_base64"])


def of_messages(rules_version: int, _path: Path) -> list[dict[str, Any]]:
    shard = IntakeShard(Topics("s"), GENERATION, 2, rules_version=rules_version)
    for offset, record in enumerate(records_of(LINES, rules_version)):
        shard.accept(offset, record)
    return [json.loads(send.value or b"") for send in shard.drain() if send.topic == "s.quarantine"]


def of_copy(rules_version: int, path: Path) -> list[dict[str, Any]]:
    to_folder(topic(rules_version), path / "copy", 1)
    return list(quarantine(path / "copy"))


def of_folder(rules_version: int, path: Path) -> list[dict[str, Any]]:
    folder(path / "s", rules_version)
    return list(quarantine(path / "s"))


@pytest.mark.parametrize("rules_version", [1, 2])
@pytest.mark.parametrize(
    "rows_of", [of_folder, of_messages, of_copy, lambda version, _: list(quarantine(topic(version)))]
)
def test_a_refused_line_is_kept_as_the_bytes_that_came(
    rules_version: int, rows_of: Callable[[int, Path], list[dict[str, Any]]], tmp_path: Path
) -> None:
    rows = rows_of(rules_version, tmp_path)
    assert [raw_of(row) for row in rows] == [clipped(line) for line in refused_lines(rules_version)]
    assert rows[0]["reason"] == ("unknown_field" if rules_version == 1 else "isolated_invalid")


def test_what_is_sent_compact_can_be_given_back_byte_for_byte() -> None:
    """As it came goes what is spelled otherwise, and what the rules version that the store began with does not read."""
    for version in (1, 2):
        for line in LINES:
            try:
                event = compact(line, version)
            except RefusedInput:
                assert line in refused_lines(version)
                continue
            assert event is None or encode_line(event) == line + b"\n"
    ours = encode_line(decode_line(LINES[0], 2))[:-1]
    for line, sent in (
        (ours, True),
        (ours.replace(b":", b": ", 1), False),
        (ours + b" ", False),
        (ours.replace(b"USDT", b"US\\u0044T"), False),
    ):
        assert (compact(line, 2) is not None) is sent


def test_typed_events_have_the_fate_of_their_lines(tmp_path: Path) -> None:
    """What the rules version does not know is refused, decimals are compared by value, and a bad field is a refusal,
    not a failure of the writer."""
    subaccount = decode_line(next(line for line in LINES if b'"isolated"' in line), 2)
    with Host(tmp_path / "s", rules_version=1) as host:
        host.ingest(LINES[:20])
        assert host.offer(subaccount).value == "refused"
        assert host.offer(subaccount).value == "duplicate"
        assert (
            host.offer(EffectAnswered(source="", source_seq=1, event_time=0, effect="A/1", outcome="x")).value
            == "refused"
        )
        money = decode_line(next(line for line in LINES if b"collateral_moved" in line), 2)
        assert host.offer(msgspec.structs.replace(money, amount_delta=(100_000, 0))).value == "duplicate"
        expected = host.checkpoint()
    log = Log()
    target = Topical(log, 2, rules_version=1)
    to_topic(StoreReader(tmp_path / "s"), target, ADDRESS)  # type: ignore[arg-type]
    again = replay(KafkaReader(target, ADDRESS))  # type: ignore[arg-type]
    assert (again.sequence, again.state_digest, again.effects_digest) == expected


def test_a_journal_is_not_copied_into_a_topic_of_another_rules_version(tmp_path: Path) -> None:
    folder(tmp_path / "s", 1)
    with pytest.raises(StoreDiffers, match="--rules-version 1"):
        to_topic(StoreReader(tmp_path / "s"), Topical(Log(), 1, rules_version=2), ADDRESS)  # type: ignore[arg-type]


def test_what_was_undecodable_stays_refused_in_every_reading_of_a_topic_though_a_later_version_reads_it(
    tmp_path: Path,
) -> None:
    day = Day().opened()
    day.account("A")
    day.money("A", "100000")
    late = b'{"type":"position_changed","source":"book","source_seq":500,'
    late += b'"event_time":"2021-05-19T00:00:00Z","account":"A","instrument":"BTCUSDT"'
    late += b',"quantity_delta":"0.5","price":"40000","leverage":0,"isolated":""}'
    day.lines.append(late)
    day.book("engine_activated", version=2, approved_by="x")
    day.lines += [late, late]
    day.money("A", "1")
    log = Log()
    log.values["s.inputs", 0].extend(day.lines)
    reader = KafkaReader(Topical(log, 2, rules_version=1), ADDRESS)  # type: ignore[arg-type]
    whole = replay(reader)
    prefix = replay(reader, until=Until(sequence=whole.sequence))
    assert (prefix.sequence, prefix.state_digest) == (whole.sequence, whole.state_digest)
    numbered = list(numbered_items(reader, reader.items()))
    assert [position for position, _, _ in numbered] == list(range(1, whole.sequence + 1))
    assert [item for _, _, item in numbered].count(b"L" + late) == 1


def test_refused_ticks_in_columns_are_kept_one_by_one_with_their_reasons() -> None:
    day = Day().opened()
    for price in ("1", "2", "3"):
        day.tick("NOPE", price)
    day.tick("ETHUSDT", "3000.125")
    shard = IntakeShard(Topics("s"), GENERATION, 1, rules_version=LATEST)
    for offset, record in enumerate(records_of([*day.lines, *day.lines], LATEST)):
        shard.accept(offset, record)
    rows = [json.loads(send.value or b"") for send in shard.drain() if send.topic == "s.quarantine"]
    assert [row["raw"].encode() for row in rows] == day.lines[-4:]
    assert [row["detail"].partition(":")[0] for row in rows] == ["instrument"] * 3 + ["price"]


def test_an_item_that_nobody_can_write_as_a_line_is_shown_as_its_bytes(tmp_path: Path) -> None:
    """A decimal exponent beyond every scale, in canonical form: it killed whoever wanted to show it."""
    tick = decode_line(next(line for line in LINES if b"price_ticked" in line), 2)
    bad = canonical_bytes(msgspec.structs.replace(tick, source_seq=10**6, price=(1, 100)))
    shard = IntakeShard(Topics("s"), GENERATION, 2, rules_version=LATEST)
    shard.accept(0, bad)
    (row,) = [json.loads(send.value or b"") for send in shard.drain() if send.topic == "s.quarantine"]
    assert b64decode(row["raw_base64"]) == bad
    log = Log()
    log.values["s.inputs", 0].append(bad)
    to_folder(KafkaReader(Topical(log, 1), ADDRESS), tmp_path / "s", 1)  # type: ignore[arg-type]
    assert [raw_of(row) for row in quarantine(tmp_path / "s")] == [bad]


def test_a_source_with_the_separator_of_keys_in_its_name_is_a_source(tmp_path: Path) -> None:
    lines = [line.replace(b'"source":"book"', b'"source":"bo\\u0000ok"') for line in Day().opened().lines]
    for _ in range(2):
        with Host(tmp_path / "s") as host:
            assert host.recovery.notes == ()
            host.ingest([*Day().opened().lines, *lines])
    keys = AnswerKeys(1)
    for number in (1, 2, 3):
        keys.take("@o\0z", f"A/{number}", 1)
    assert keys.knows("@o\0z", "A/2", 1)
