"""The golden days on stores: one that crashes in the middle, and the shards of the Kafka host over topics in memory."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from margin_stream.core.store_fold import Digests
from margin_stream.host.embedded import Host
from margin_stream.replay.replay import replay
from margin_stream.revaluation import ENGINES
from margin_stream.schemas.binary import encode, encode_payload
from margin_stream.schemas.ndjson import decode_line
from margin_stream.schemas.refusals import RefusedInput
from margin_stream.schemas.rules_versions import LATEST
from tests.folding import fold, readable
from tests.golden.golden_days import NAMES, load
from tests.kafka.simulated import recorded_effects, run, statements

every_day = pytest.mark.parametrize("name", NAMES)


@pytest.mark.slow(reason="every golden day goes through a host")
@every_day
def test_a_store_that_crashed_says_the_same(name: str, tmp_path: Path) -> None:
    """Some of it is in a checkpoint, some only in the journal, some was sent and not acknowledged: the sender sends all
    again."""
    day = load(name)
    rng = Random(name)
    said: list[bytes] = []
    at = rng.randrange(12, len(day.lines))
    host = Host(tmp_path / "s", partitions=rng.choice((2, 7)), group_items=rng.choice((1, 5)))
    host.on_effects = lambda effects: said.extend(effect.data for effect in effects)
    host.ingest(day.lines[: at // 2])
    host.checkpoint()
    host.ingest(day.lines[at // 2 : at])
    host.offer(day.lines[-1])
    host.abandon()
    with Host(tmp_path / "s") as again:
        again.on_effects = lambda effects: said.extend(effect.data for effect in effects)
        again.ingest(day.lines)
        assert again.checkpoint() == fold(day.lines)[0]
    assert in_order(said) == day.effects
    for revaluation in ENGINES:
        assert replay(tmp_path / "s", revaluation=revaluation).equal


@pytest.mark.slow(reason="every golden day goes through a host")
@every_day
def test_the_shards_of_the_kafka_host_say_the_same(name: str, tmp_path: Path) -> None:
    """Records of any size and form, doubled, with kills, wiped disks and zombies between them."""
    day = load(name)
    log, partitions, _ = run(sum(name.encode()), records(day.lines, Random(name)), tmp_path)
    expected: Digests = fold(day.lines)[0]
    digest, said = recorded_effects(log, partitions)
    assert digest == expected.effects
    assert in_order(said) == day.effects
    last = statements(log, partitions).last
    assert last is not None
    assert last.digests == expected


def in_order(said: list[bytes]) -> list[dict[str, Any]]:
    def place(effect: dict[str, Any]) -> tuple[int, str, int]:
        group, _, number = effect["id"].rpartition("/")
        return effect["sequence"], group, int(number)

    return sorted(map(readable, said), key=place)


def records(lines: list[bytes], rng: Random) -> list[bytes | None]:
    """Return the lines as records of a topic: NDJSON or msgpack, one item or many."""
    found: list[bytes | None] = []
    rest = list(lines)
    while rest:
        count = rng.randrange(1, 9)
        group, rest = rest[:count], rest[count:]
        found.append(b"\n".join(group) if rng.randrange(2) else encode_payload([packed(line) for line in group]))
    return found


def packed(line: bytes) -> bytes:
    try:
        return encode(decode_line(line, LATEST))
    except RefusedInput:
        return encode(b"L" + line)
