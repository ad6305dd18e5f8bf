"""The scheme of the Kafka host without a broker: whatever is killed, wiped, paused, doubled or lost, the bytes are
those of one fold."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import msgspec
import pytest

from margin_stream.core.store_fold import Digests
from margin_stream.kafka import batch_messages, messages, shards
from margin_stream.kafka.address import Topics
from margin_stream.kafka.shard import Accepted
from margin_stream.schemas.binary import encode, encode_payload
from margin_stream.schemas.ndjson import decode_line
from margin_stream.schemas.refusals import RefusedInput
from margin_stream.schemas.rules_versions import LATEST
from tests.days import FIRST, INSTRUMENTS, Day, random_day, text
from tests.folding import fold
from tests.kafka.simulated import Log, followed_effects, recorded_effects, run, statements
from tests.usdm_days import random_usdm_day


def journal(seed: int) -> tuple[list[bytes], list[bytes | None]]:
    """A day with poison in it, as lines and as records of random size and form."""
    rng = Random(seed)
    lines = (
        random_usdm_day(seed, accounts=9, steps=160)
        if seed % 3 == 2
        else random_day(seed, accounts=9, steps=160, noisy=True)
    )
    for poison in (b"\xff\xfe broken", b"{}", b"[1,2", b'{"type":"no_such"}', b"null", b"x" * 2000):
        lines.insert(rng.randrange(len(lines)), poison)
    return lines, recorded(lines, rng)


def recorded(lines: list[bytes], rng: Random) -> list[bytes | None]:
    """Lines as records of random size and form, some of them twice."""
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
    return values


def packed(line: bytes) -> bytes:
    try:
        return encode(decode_line(line, LATEST))
    except RefusedInput:
        return encode(b"L" + line)


def check(log: Log, partitions: int, expected: Digests) -> None:
    effects, _ = recorded_effects(log, partitions)
    assert effects == expected.effects
    assert not log.followed or followed_effects(log, partitions) == expected.effects
    said = statements(log, partitions)
    assert said.contradictions == []
    assert said.last is not None
    assert said.last.digests == expected


@pytest.mark.slow(reason="many random runs of all shards")
@pytest.mark.parametrize("seed", range(12))
def test_any_faults_give_the_bytes_of_one_fold(tmp_path: Path, seed: int) -> None:
    lines, values = journal(seed)
    log, partitions, happened = run(seed, values, tmp_path)
    check(log, partitions, fold(lines)[0])
    assert happened["kills"] > 0
    assert happened["restores"] > 0


@pytest.mark.slow(reason="many random runs of all shards")
def test_the_checker_finds_an_effect_that_is_lost(tmp_path: Path) -> None:
    lines, values = journal(3)
    log, partitions, _ = run(3, values, tmp_path)
    topic = next(key for key in log.values if key[0].endswith(".effects") and key[1] > 0 and log.values[key])
    for n, value in enumerate(log.values[topic]):
        record = messages.decode_effects(value or b"")
        if record.effects:
            log.values[topic][n] = messages.encode(msgspec.structs.replace(record, effects=record.effects[1:]))
            break
    with pytest.raises(AssertionError):
        check(log, partitions, fold(lines)[0])


@pytest.mark.slow(reason="many random runs of all shards")
def test_a_shard_that_trims_nothing_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: repeated items are folded again."""

    def fold_all(self: shards.AccountsShard, value: bytes | None) -> None:
        record = messages.decode_sequenced(value or b"")
        self.folds.sequence = record.previous
        items = [messages.decode_item(raw) for raw in record.items]
        self._emitted.extend(self.folds.apply(shards.Batch(record.previous, record.last, items)))
        if record.asked:
            self._parts.append(self._digest_part())

    monkeypatch.setattr(shards.AccountsShard, "_fold", fold_all)
    found = 0
    for seed in range(8):
        lines, values = journal(seed)
        try:
            log, partitions, _ = run(seed, values, tmp_path / str(seed))
            check(log, partitions, fold(lines)[0])
        except Exception:
            found += 1
    assert found >= 3


@pytest.mark.slow(reason="many random runs of all shards")
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


@pytest.mark.slow(reason="many random runs of all shards")
def test_quarantine_names_reason_and_bytes(tmp_path: Path) -> None:
    _, values = journal(5)
    log, _, _ = run(5, values, tmp_path)
    rows = {row["id"]: row for row in map(json.loads, log.values["s.quarantine", 0])}
    assert {"not_json", "not_utf8", "unknown_type", "type_missing"} <= {row["reason"] for row in rows.values()}
    assert all(row["advice"] for row in rows.values())
    assert any(row.get("raw") == '{"type":"no_such"}' for row in rows.values())


@pytest.mark.slow(reason="many random runs of all shards")
def test_records_of_duplicates_alone_move_what_was_said(tmp_path: Path) -> None:
    """The position stays, the offset moves: whoever waits for an offset must come to know."""
    from margin_stream.kafka.digest_quorum import Statements
    from tests.kafka.simulated import GENERATION

    _, values = journal(2)
    log, partitions, _ = run(2, values, tmp_path)
    said = statements(log, partitions).last
    assert said is not None
    found = Statements(GENERATION, partitions)
    parts = [messages.decode_digest_part(value or b"") for value in log.values["s.digests", 0]]
    for part in parts:
        found.take(messages.encode(part))
    last = max((part for part in parts if part.shard == 0), key=lambda part: part.offset)
    found.take(messages.encode(msgspec.structs.replace(last, offset=last.offset + 3)))
    assert found.last is not None
    assert found.last.offset == last.offset + 3
    assert found.last.digests == said.digests
    assert found.contradictions == []


def _intake() -> shards.IntakeShard:
    return shards.IntakeShard(Topics("s"), "0123456789abcdef", 2, rules_version=LATEST)


def _fold_all(log: Log) -> list[shards.AccountsShard]:
    found = []
    for partition in range(2):
        shard = shards.AccountsShard(Topics("s"), "0123456789abcdef", partition + 1, rules_version=LATEST)
        for offset, value in enumerate(log.values["s.accounts", partition]):
            shard.accept(offset, value)
        for send in shard.drain():
            log.send(send)
        found.append(shard)
    return found


def _exact(log: Log, lines: list[bytes]) -> list[shards.AccountsShard]:
    found = _fold_all(log)
    assert recorded_effects(log, 2)[0] == fold(lines)[0].effects
    return found


def test_an_intake_killed_between_two_partitions_resumes_with_other_cuts() -> None:
    lines = random_day(21, accounts=9, steps=150)
    log = Log()
    killed = _intake()
    for offset, line in enumerate(lines[:100]):
        killed.accept(offset, line)
    first, *_ = [send for send in killed.drain() if send.topic == "s.accounts"]
    log.send(first)
    assert (first.partition, len(log.values["s.accounts", 1])) == (0, 0)
    resumed = _intake()
    for offset, line in enumerate(lines):
        resumed.accept(offset, line)
        if offset % 7 == 0:
            for send in resumed.drain():
                log.send(send)
    for send in resumed.drain():
        log.send(send)
    accounts = _exact(log, lines)
    assert accounts[0].trimmed > 0
    assert [shard.holes for shard in accounts] == [0, 0]


def test_a_zombie_intake_beside_the_new_one_changes_nothing() -> None:
    lines = random_day(22, accounts=9, steps=150)
    log = Log()
    zombie, new = _intake(), _intake()
    rng = Random(5)
    places = {zombie: 0, new: 0}
    while min(places.values()) < len(lines):
        who = rng.choice([zombie, new])
        for _ in range(rng.randrange(1, 20)):
            if places[who] < len(lines):
                who.accept(places[who], lines[places[who]])
                places[who] += 1
        for send in who.drain():
            log.send(send)
    accounts = _exact(log, lines)
    assert all(shard.trimmed > 50 for shard in accounts)


def test_a_message_that_failed_is_a_hole_until_it_is_sent_again() -> None:
    """A zombie's message is lost and its next one is not: the reader passes it over, and whoever resumes fills it."""
    lines = random_day(23, accounts=9, steps=150)
    log = Log()
    zombie, new = _intake(), _intake()
    for offset, line in enumerate(lines):
        zombie.accept(offset, line)
        if offset == 60:
            zombie.drain()
        elif offset % 10 == 0:
            for send in zombie.drain():
                log.send(send)
    for offset, line in enumerate(lines):
        new.accept(offset, line)
    for send in new.drain():
        log.send(send)
    accounts = _exact(log, lines)
    assert all(shard.holes > 0 for shard in accounts)


def test_records_written_twice_are_counted_and_trimmed() -> None:
    lines = random_day(24, accounts=9, steps=150)
    log = Log()
    intake = _intake()
    offset = 0
    for line in lines:
        for _ in range(2):
            intake.accept(offset, line)
            offset += 1
        for send in intake.drain():
            log.send(send)
            if send.topic == "s.accounts":
                log.send(send)
    accounts = _exact(log, lines)
    assert intake.duplicates >= len(lines)
    assert all(shard.trimmed > 0 for shard in accounts)


def test_an_offset_is_taken_once_and_in_order() -> None:
    intake = _intake()
    lines = random_day(25, accounts=3, steps=10)
    assert intake.accept(1, lines[1]) is Accepted.AHEAD
    assert intake.accept(0, lines[0]) is Accepted.FOLDED
    assert intake.accept(0, lines[0]) is Accepted.SKIPPED
    assert (intake.offset, intake.folded, intake.skipped) == (0, 1, 1)


def test_duplicates_of_refused_inputs_are_counted_through_a_restore() -> None:
    intake = _intake()
    refused = b'{"type":"price_ticked","source":"f","source_seq":1,"event_time":"2021-05-19T00:00:00Z","instrument":"X","price":"1"}'
    for offset, line in enumerate([refused, refused, b"noise", b"noise", b"noise"]):
        intake.accept(offset, line)
    intake.ask_digests()
    part = messages.decode_digest_part(next(s.value for s in intake.drain() if s.topic == "s.digests"))
    assert part.counts == [0, 3, 2, 2, 3]
    rows, marker = intake.snapshot()
    again = _intake()
    again.restore(sorted(rows), marker)
    again.accept(5, refused)
    assert (again.duplicates, again.of_refused) == (4, 4)


def test_messages_of_another_generation_are_passed_over() -> None:
    lines = random_day(26, accounts=9, steps=100)
    log = Log()
    old = shards.IntakeShard(Topics("s"), "f" * 16, 2, rules_version=LATEST)
    new = _intake()
    for offset, line in enumerate(lines):
        for intake in (old, new):
            intake.accept(offset, line)
            for send in intake.drain():
                log.send(send)
    log.values["s.accounts", 0].insert(3, b"\xc1 no message of ours")
    log.values["s.accounts", 0].insert(5, None)
    found = _fold_all(log)
    assert found[0].strange > 0
    assert [shard.foreign for shard in found] == [2, 0]
    assert [shard.sequence for shard in found] == [found[0].sequence] * 2
    effects = [
        value for value in log.values["s.effects", 1] if messages.decode_effects(value or b"").generation != "f" * 16
    ]
    assert effects


@pytest.mark.parametrize("limit", [1, 200, 5000])
def test_large_batches_are_split_between_items(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_messages, "SPLIT_BYTES", limit)
    lines = random_day(27, accounts=9, steps=200)
    log = Log()
    intake = _intake()
    for offset, line in enumerate(lines):
        intake.accept(offset, line)
    for send in intake.drain():
        log.send(send)
    assert len(log.values["s.accounts", 0]) > (3 if limit < 5000 else 0)
    _exact(log, lines)


def test_a_row_that_changed_and_changed_back_is_part_of_the_delta() -> None:
    """Somebody else's checkpoint may lie between: a table that has it must be given the row as it is again."""
    day = Day().opened()
    day.account("A0")
    day.money("A0", "5", asset="BTC")
    day.money("A0", "-120000")
    intake, accounts = _intake(), _fold_all(Log())[0]
    number = accounts.number - 1

    def follow(lines: list[bytes]) -> None:
        for line in lines:
            intake.accept(intake.offset + 1, line)
        for send in intake.drain():
            if (send.topic, send.partition) == ("s.accounts", number):
                accounts.accept(accounts.offset + 1, send.value)
        accounts.drain()

    follow(day.lines)
    before = dict(accounts.snapshot().rows)
    key = b"accounts/A0"
    if key not in before:
        accounts = shards.AccountsShard(Topics("s"), "0123456789abcdef", 2, rules_version=LATEST)
        number, intake = 1, _intake()
        follow(day.lines)
        before = dict(accounts.snapshot().rows)
    start = len(day.lines)
    day.clock(301)
    for name, price in FIRST.items():
        day.tick(name, text(price, INSTRUMENTS[name][2]))
    follow(day.lines[start:])
    assert dict(accounts.snapshot().rows).get(key) == before[key]
