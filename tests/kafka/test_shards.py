"""The scheme of the Kafka host without a broker: whatever is killed, wiped, paused, doubled or lost, the bytes are those of one fold."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from margin_stream.core.system import Digests
from margin_stream.kafka import shards, wire
from schemas.binary import encode, encode_payload
from schemas.ndjson import decode_line
from schemas.refusals import RefusedInput
from tests.days import random_day
from tests.folding import fold
from tests.kafka.simulated import Log, recorded_effects, run, statements


def journal(seed: int) -> tuple[list[bytes], list[bytes | None]]:
    """A day with poison in it, as lines and as records of random size and form."""
    rng = Random(seed)
    lines = random_day(seed, accounts=9, steps=160, noisy=True)
    for poison in (b"\xff\xfe broken", b"{}", b"[1,2", b'{"type":"no_such"}', b"null", b"x" * 2000):
        lines.insert(rng.randrange(len(lines)), poison)
    values: list[bytes | None] = []
    rest = list(lines)
    while rest:
        count = rng.randrange(1, 12)
        group, rest = rest[:count], rest[count:]
        if rng.random() < 0.5:
            values.append(b"\n".join(group))
        else:
            values.append(encode_payload([packed(line) for line in group]))
        if rng.random() < 0.2:
            values.append(values[-1])
    return lines, values


def packed(line: bytes) -> bytes:
    try:
        return encode(decode_line(line))
    except RefusedInput:
        return encode(b"L" + line)


def check(log: Log, partitions: int, expected: Digests) -> None:
    effects, _ = recorded_effects(log, partitions)
    assert effects == expected.effects
    said = statements(log, partitions)
    assert said.contradictions == []
    assert said.last is not None
    assert said.last.digests == expected


@pytest.mark.parametrize("seed", range(12))
def test_any_faults_give_the_bytes_of_one_fold(tmp_path: Path, seed: int) -> None:
    lines, values = journal(seed)
    log, partitions, happened = run(seed, values, tmp_path)
    check(log, partitions, fold(lines)[0])
    assert happened["kills"] > 0
    assert happened["restores"] > 0


def test_the_checker_finds_an_effect_that_is_lost(tmp_path: Path) -> None:
    lines, values = journal(3)
    log, partitions, _ = run(3, values, tmp_path)
    topic = next(key for key in log.values if key[0].endswith(".effects") and key[1] > 0 and log.values[key])
    for n, value in enumerate(log.values[topic]):
        record = wire.decode_effects(value or b"")
        if record.effects:
            log.values[topic][n] = wire.encode(
                wire.EffectsRecord(record.generation, record.shard, record.previous, record.last, record.effects[1:])
            )
            break
    with pytest.raises(AssertionError):
        check(log, partitions, fold(lines)[0])


def test_a_shard_that_trims_nothing_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: repeated items are folded again."""

    def fold_all(self: shards.AccountsShard, value: bytes | None) -> None:
        record = wire.decode_routed(value or b"")
        self.fold.position = record.previous
        for effect in self.fold.apply(shards.Batch(record.previous, record.last, record.items)):
            self._emitted.append((effect.position, effect.data))
        if record.asked:
            self._parts.append(self._digest_part())

    monkeypatch.setattr(shards.AccountsShard, "_fold", fold_all)
    found = 0
    for seed in range(4):
        lines, values = journal(seed)
        try:
            log, partitions, _ = run(seed, values, tmp_path / str(seed))
            check(log, partitions, fold(lines)[0])
        except Exception:
            found += 1
    assert found >= 3


def test_a_marker_that_runs_ahead_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the marker is written before what was folded has been sent."""
    from tests.kafka.simulated import Follower

    def checkpoint(self: Follower, *, lose_delta: bool = False, part_of_delta: bool = False) -> None:
        self.shard.drain()
        self.table.write(self.shard.snapshot())

    monkeypatch.setattr(Follower, "checkpoint", checkpoint)
    found = 0
    for seed in range(8):
        lines, values = journal(seed)
        try:
            log, partitions, _ = run(seed, values, tmp_path / str(seed))
            check(log, partitions, fold(lines)[0])
        except AssertionError:
            found += 1
    assert found >= 3


def test_quarantine_names_reason_and_bytes(tmp_path: Path) -> None:
    _, values = journal(5)
    log, _, _ = run(5, values, tmp_path)
    rows = {row["id"]: row for row in map(json.loads, log.values["s.quarantine", 0])}
    assert {"not_json", "not_utf8", "unknown_type", "type_missing"} <= {row["reason"] for row in rows.values()}
    assert all(row["advice"] for row in rows.values())
    assert any(row.get("raw") == '{"type":"no_such"}' for row in rows.values())


def test_records_of_duplicates_alone_move_what_was_said(tmp_path: Path) -> None:
    """The position stays, the offset moves: whoever waits for an offset must come to know."""
    from margin_stream.kafka.combining import Statements
    from tests.kafka.simulated import GENERATION

    _, values = journal(2)
    log, partitions, _ = run(2, values, tmp_path)
    said = statements(log, partitions).last
    assert said is not None
    found = Statements(GENERATION, partitions)
    parts = [wire.decode_digest_part(value or b"") for value in log.values["s.digests", 0]]
    for part in parts:
        found.add(part)
    last = max((part for part in parts if part.shard == 0), key=lambda part: part.offset)
    found.add(wire.DigestPart(*[getattr(last, name) if name != "offset" else last.offset + 3 for name in last.__struct_fields__]))
    assert found.last is not None
    assert found.last.offset == last.offset + 3
    assert found.last.digests == said.digests
    assert found.contradictions == []
