"""Messages in derived topics that are not of the store: strays, false ranges, forgeries. None is folded, each is
alarmed, and what follows is folded as if they had not been there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from margin_stream.kafka import messages, seals, shards
from margin_stream.kafka.address import Topics
from margin_stream.kafka.chains import Chain
from margin_stream.kafka.messages import Deltas, EffectsPlace, Place
from margin_stream.kafka.seals import OPEN, Foreign, Seal
from margin_stream.kafka.shard import Send, Shard
from margin_stream.schemas.rules_versions import LATEST
from tests.days import random_day
from tests.kafka.simulated import GENERATION

TOPICS = Topics("s")
KEY = Seal(b"k" * 32)
OTHER = Seal(b"o" * 32)

Made = Callable[[Random, list[bytes], int], bytes]
"""Makes a message for the place before the n-th of those that are there."""


def _sequenced(data: bytes) -> messages.SequencedBatch:
    return messages.decode_sequenced(data)


def false_range(rng: Random, values: list[bytes], at: int) -> bytes:
    """Nothing at all, up to far ahead: what made balances wrong."""
    previous = _sequenced(values[at]).previous
    return messages.encode(
        messages.SequencedBatch(GENERATION, previous, previous + rng.randrange(1, 999), [], b"", False, b"\0" * 32)
    )


def copied_chain(rng: Random, values: list[bytes], at: int) -> bytes:
    """The right end, its chain, and one item less."""
    record = _sequenced(values[at])
    return messages.encode(msgspec.structs.replace(record, items=record.items[1:]))


def of_another_day(rng: Random, values: list[bytes], at: int) -> bytes:
    """A whole message of another store with the same generation."""
    return routed(random_day(99, accounts=9, steps=90))[0][at]


def another_item(rng: Random, values: list[bytes], at: int) -> bytes:
    """An item of no form of ours."""
    return messages.encode(msgspec.structs.replace(_sequenced(values[at]), items=[msgspec.Raw(b"\x93\x01\x02\x03")]))


def noise(rng: Random, values: list[bytes], at: int) -> bytes:
    return rng.randbytes(rng.randrange(200))


STRAYS: list[Made] = [false_range, copied_chain, of_another_day, another_item, noise]


def routed(lines: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Messages of a day for accounts, and what its accounts send as effects."""
    intake = shards.IntakeShard(TOPICS, GENERATION, 1, rules_version=LATEST)
    values: list[bytes] = []
    for offset, line in enumerate(lines):
        intake.accept(offset, line)
        if offset % 7 == 0 or offset == len(lines) - 1:
            values.extend(send.value for send in intake.drain() if send.topic == TOPICS.accounts)
    return values, [send.value for send in follow(accounts(), values) if send.topic == TOPICS.effects]


def accounts(seal: Seal = OPEN) -> shards.AccountsShard:
    return shards.AccountsShard(TOPICS, GENERATION, 1, rules_version=LATEST, seal=seal)


def follow(shard: Shard, values: list[bytes]) -> list[Send]:
    sends: list[Send] = []
    for offset, value in enumerate(values):
        shard.accept(offset, value)
        sends.extend(shard.drain())
    return sends


@pytest.fixture(scope="module")
def day() -> tuple[list[bytes], list[bytes]]:
    return routed(random_day(5, accounts=9, steps=120))


def with_strays(values: list[bytes], stray: Made, rng: Random) -> Iterator[bytes]:
    for n, value in enumerate(values):
        if n in (4, 6, 9):
            yield stray(rng, values, n)
        yield value


@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_among_routed_items_is_alarmed_and_changes_nothing(
    day: tuple[list[bytes], list[bytes]], stray: Made
) -> None:
    values, _ = day
    honest, beset = accounts(), accounts()
    expected = follow(honest, values)
    sends = follow(beset, list(with_strays(values, stray, Random(3))))
    assert beset.folds.digest() == honest.folds.digest()
    assert beset.sequence == honest.sequence
    assert [send for send in sends if send.topic == TOPICS.effects] == expected
    alarms = [json.loads(send.value) for send in sends if send.topic == TOPICS.alerts]
    assert beset.foreign == len(alarms) == len(beset.refusals) == 3
    assert {row["type"] for row in alarms} == {"derived_message_refused"}
    assert [row["data"]["offset"] for row in alarms] == [4, 7, 11]
    assert alarms[0]["data"] == {
        "topic": "s.accounts",
        "partition": 0,
        "offset": 4,
        "reason": alarms[0]["data"]["reason"],
    }


def test_a_stray_among_effects_is_alarmed_and_changes_nothing(day: tuple[list[bytes], list[bytes]]) -> None:
    _, values = day
    record = messages.decode_effects(values[1])
    strays = [
        messages.encode(msgspec.structs.replace(record, effects=[])),
        messages.encode(msgspec.structs.replace(record, last=record.last + 9)),
        messages.encode(msgspec.structs.replace(record, shard=7)),
        messages.encode(msgspec.structs.replace(record, effects=[(record.last + 1, b"\x80")])),
        b"nothing",
    ]
    honest, beset = (shards.EffectsShard(TOPICS, GENERATION, 1) for _ in range(2))
    follow(honest, values)
    sends = follow(beset, [values[0], *strays, *values[1:]])
    assert beset.folds.digest() == honest.folds.digest()
    assert beset.foreign == 5
    assert sum(json.loads(send.value)["type"] == "derived_message_refused" for send in sends) == 5
    place = EffectsPlace(Place(0), Chain())
    place.take(messages.decode_effects(values[0]))
    for stray in (strays[0], strays[1], strays[3]):
        with pytest.raises(Foreign):
            place.take(messages.decode_effects(stray))


def sealed(seal: Seal, values: list[bytes], topic: str, partition: int) -> list[bytes]:
    return [seal.put(topic, partition, value) for value in values]


def test_who_has_not_the_key_cannot_forge(day: tuple[list[bytes], list[bytes]]) -> None:
    """A forger computes the right chain: without a key the message is folded, with one it is refused."""
    values, _ = day
    forged = messages.encode(messages.SequencedBatch(GENERATION, 0, 900, [], b"", False, Chain().at(900)))
    unguarded = accounts()
    follow(unguarded, [forged])
    assert (unguarded.sequence, unguarded.foreign) == (900, 0)
    honest, guarded = accounts(), accounts(KEY)
    follow(honest, values)
    ours = sealed(KEY, values, TOPICS.accounts, 0)
    elsewhere = KEY.put(TOPICS.accounts, 1, forged)
    others = [forged, *sealed(OTHER, [forged, values[0]], TOPICS.accounts, 0), elsewhere, ours[0][:20], b"\xc1", b""]
    follow(guarded, [*others, *ours])
    assert (guarded.folds.digest(), guarded.foreign) == (honest.folds.digest(), len(others))
    assert all("not sealed with the store's key" in text for text in guarded.refusals)


def test_without_a_key_seals_are_passed_over(day: tuple[list[bytes], list[bytes]]) -> None:
    values, _ = day
    honest, found = accounts(), accounts()
    follow(honest, values)
    follow(found, sealed(KEY, values, TOPICS.accounts, 0))
    assert (found.folds.digest(), found.foreign) == (honest.folds.digest(), 0)


def test_a_delta_and_a_digest_are_sealed_too() -> None:
    from margin_stream.kafka.digest_quorum import Statements

    delta = messages.encode(messages.Delta(GENERATION, "n", -1, 5, 0, 1, [(b"a", b"1")]))
    deltas = Deltas(GENERATION, "s.accounts.changelog", 0, KEY)
    for value in (delta, OTHER.put("s.accounts.changelog", 0, delta), KEY.put("s.effects.changelog", 0, delta), None):
        with pytest.raises(Foreign):
            deltas.take(0, value)
    assert deltas.take(0, KEY.put("s.accounts.changelog", 0, delta)) is not None
    part = messages.encode(messages.DigestPart(GENERATION, 0, 1, 1, b"", b"", b"", b"", [1, 0, 0, 0, 0]))
    odd = messages.encode(messages.DigestPart(GENERATION, 0, 2, 1, b"", b"", b"odd", b"", [1, 0]))
    found = Statements(GENERATION, 0, "s.digests", KEY)
    assert found.take(part) is None
    assert found.take(b"noise") is None
    assert found.take(KEY.put("s.digests", 0, odd)) is None
    assert found.foreign == 3
    assert found.take(KEY.put("s.digests", 0, part)) is not None


def test_the_key_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = tmp_path / "key"
    monkeypatch.setenv("MARGIN_STREAM_KAFKA_DERIVED_KEY_FILE", str(name))
    with pytest.raises(seals.KeyUnusable, match="No such file"):
        seals.configured_seal()
    name.write_text("short\n")
    with pytest.raises(seals.KeyUnusable, match="5 bytes, at least 32 are needed"):
        seals.configured_seal()
    name.write_text("k" * 32 + "\n")
    assert seals.configured_seal().put("t", 0, b"x") == KEY.put("t", 0, b"x")
