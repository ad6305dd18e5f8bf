"""One way into a store: the same lines have the same fate in a folder, on a topic, and in a copy of either, whatever the rules version."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from margin_stream.core.system import Digests
from margin_stream.host.embedded import Host
from margin_stream.journal.layout import Layout, read_manifest
from margin_stream.kafka.copying import to_folder, to_topic
from margin_stream.kafka.names import Topics, parse_address
from margin_stream.kafka.producing import records_of
from margin_stream.kafka.reader import KafkaReader
from margin_stream.kafka.shards import IntakeShard
from replay.browsing import quarantine
from replay.reader import StoreReader
from replay.replaying import replay
from schemas.ndjson import clipped, decode_line, encode_line
from schemas.records import compact
from schemas.refusals import RefusedInput
from tests.days import Day
from tests.kafka.simulated import GENERATION, Log, Topical

ADDRESS = parse_address("kafka://h:1/s")


def a_day() -> list[bytes]:
    """Trades with and without what the first rules version does not know, quotes in two spellings, and refused lines of every kind."""
    day = Day().opened()
    day.account("A")
    day.money("A", "100000")
    day.trade("A", "BTCUSDT", "0.5", "40000")
    day.book("position_changed", account="A", instrument="BTCUSDT", quantity_delta="0.5", price="40000", pocket="p")
    day.tick("BTCUSDT", "40000.10")
    day.tick("BTCUSDT", "40000.1")
    day.tick("NOPE", "1.50")
    day.tick("ETHUSDT", "3000.125")
    day.book("collateral_moved", account="nobody", asset="USDT", amount_delta="1.00")
    day.book("collateral_moved", account="A", asset="USDT", amount_delta="1.001")
    spaced = json.dumps(json.loads(day.lines[-1]) | {"source_seq": 900, "account": "nobody"}, indent=None, separators=(", ", ": ")).encode()
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
    assert (found.position, found.state_digest, found.effects_digest) == expected
    assert to_folder(reader, tmp_path / "copy", 3) == expected
    assert read_manifest(Layout(tmp_path / "copy")).rules_version == rules_version
    assert replay(tmp_path / "copy").equal
    with Host(tmp_path / "copy") as host:
        assert host.ingest(LINES).duplicate == len(LINES)
    log = Log()
    target = Topical(log, 1, rules_version=rules_version)
    to_topic(KafkaReader(Topical(_inputs(tmp_path / "s", rules_version), 2, rules_version=rules_version), ADDRESS), target, ADDRESS)  # type: ignore[arg-type]
    again = replay(KafkaReader(target, ADDRESS))  # type: ignore[arg-type]
    assert (again.position, again.state_digest, again.effects_digest) == expected


def _inputs(path: Path, rules_version: int) -> Log:
    """The journal of a folder on a topic."""
    log = Log()
    to_topic(StoreReader(path), Topical(log, 1, rules_version=rules_version), ADDRESS)  # type: ignore[arg-type]
    return log


def refused_lines(rules_version: int) -> list[bytes]:
    """What is refused of the day, by hand: the bytes that came, each once, in order."""
    pocket = [line for line in LINES if b'"pocket"' in line]
    others = [
        line for line in LINES if any(part in line for part in (b"NOPE", b"3000.125", b"nobody", b"1.001", b"not json", b"\xff", b":1.5}"))
    ]
    return [line for line in dict.fromkeys(LINES) if line in others or line in pocket]


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
@pytest.mark.parametrize("rows_of", [of_folder, of_messages, of_copy, lambda version, _: list(quarantine(topic(version)))])
def test_a_refused_line_is_kept_as_the_bytes_that_came(
    rules_version: int, rows_of: Callable[[int, Path], list[dict[str, Any]]], tmp_path: Path
) -> None:
    rows = rows_of(rules_version, tmp_path)
    assert [raw_of(row) for row in rows] == [clipped(line) for line in refused_lines(rules_version)]
    assert rows[0]["reason"] == ("unknown_field" if rules_version == 1 else "pocket_invalid")


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
