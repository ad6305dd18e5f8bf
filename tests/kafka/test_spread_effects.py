"""One item can say something of every account: its effects are spread over messages, and nothing is lost or doubled
between them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest.mock import patch

import msgspec
import pytest

from margin_stream.core.checks import Fault
from margin_stream.core.store_fold import StoreFold
from margin_stream.kafka import batch_messages, messages, shard_table, shards, topics_admin
from margin_stream.kafka import shard as shard_base
from margin_stream.kafka.address import MESSAGE_LIMIT, Topics, parse_address
from margin_stream.kafka.chains import Chain
from margin_stream.kafka.client import Client
from margin_stream.kafka.messages import EffectsRecord, Place
from margin_stream.kafka.producer import DigestReader, await_folded, produce, records_of
from margin_stream.kafka.reader import KafkaReader
from margin_stream.kafka.shard import Accepted, Snapshot, Unusable
from margin_stream.kafka.shard_table import ShardTable
from margin_stream.kafka.shards import AccountsShard, EffectsShard, IntakeShard
from margin_stream.replay.topic_verification import verify
from margin_stream.replay.verification import Verified
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.simulation.broker import Broker
from tests.days import PARAMETERS, Day
from tests.folding import fold
from tests.kafka import checker
from tests.kafka.running import workers
from tests.kafka.simulated import GENERATION, Log, Topical, run
from tests.kafka.test_shards import check, recorded

ALERTS = {
    *("margin_warned", "margin_level_changed", "margin_call_issued", "liquidation_due"),
    *("call_reduced", "call_met", "call_cured", "call_reopened", "call_expired", "call_escalated"),
    *("feed_went_stale", "mark_reanchored"),
}
LIMITS = (1, 300, 700, 1500, 8000)
"""Bytes of a message: from one effect to all of a position."""


def crowded_day(seed: int, accounts: int = 20, steps: int = 16) -> list[bytes]:
    """A day on which nearly every item that says anything says it of many accounts: quotes, clocks, a profile that
    changes."""
    rng = Random(seed)
    day = Day().opened()
    for n in range(accounts):
        day.account(f"A{n}")
        day.money(f"A{n}", "1", "BTC")
        day.money(f"A{n}", f"-{25_000 + rng.randrange(0, 400)}")
    for version in range(2, steps):
        day.believe("BTCUSDT", str(rng.choice((24_000, 28_000, 30_000, 33_000, 34_000, 36_000, 40_000))))
        day.clock(rng.choice((30, 60, 61, 400)))
        if rng.random() < 0.3:
            more = {"warn": rng.choice(("1.40", "1.70")), "restore": "1.80"}
            day.book(
                "profile_activated",
                profile="prime",
                model="prime",
                version=version,
                effective_from="2020-01-01T00:00:00Z",
                approved_by="risk",
                parameters={**PARAMETERS, **more},
            )
            day.clock(1)
        day.money(f"A{rng.randrange(accounts)}", "9000")
        day.lines.extend(b"poison %d %d" % (version, n) for n in range(rng.randrange(6)))
    return day.lines


def spread(log: Log, partitions: int) -> int:
    """How many messages end within a position."""
    values = (value for shard in range(partitions + 1) for value in log.values["s.effects", shard])
    return sum(messages.decode_effects(value or b"").upto > 0 for value in values)


def trial(seed: int, folder: Path) -> tuple[Log, int, dict[str, int]]:
    """Kill workers after any message, send again with other cuts; demand the bytes of one fold."""
    lines = crowded_day(seed)
    log, partitions, happened = run(seed, recorded(lines, Random(seed)), folder, limits=LIMITS, torn=0.3)
    check(log, partitions, fold(lines)[0])
    check_alerts(log, lines)
    values = {shard: [value or b"" for value in log.values["s.effects", shard]] for shard in range(partitions + 1)}
    found, _ = checker.effects_of(values, GENERATION)
    expected: dict[str, list[int]] = {}
    for effect in fold(lines)[1]:
        group, _, number = effect["id"].rpartition("/")
        expected.setdefault(group, []).append(int(number))
    assert {group: len(rows) for group, rows in found.items()} == {group: len(rows) for group, rows in expected.items()}
    verified = verified_of(log, partitions)
    assert (verified.problems, verified.folded, verified.effects) == ([], True, sum(map(len, found.values())))
    return log, partitions, happened


def verified_of(log: Log, partitions: int) -> Verified:
    """What ``verify`` says of topics in memory; it reads the effects, replays, and compares."""
    return verify(Topical(log, partitions), parse_address("kafka://h:1/s"))  # type: ignore[arg-type]


def check_alerts(log: Log, lines: list[bytes]) -> None:
    """Every alert is there; one that came twice is the same."""
    alerts: dict[str, bytes] = {}
    for value in log.values["s.alerts", 0]:
        assert value is not None
        assert alerts.setdefault(json.loads(value)["id"], value) == value
    assert set(alerts) == {effect["id"] for effect in fold(lines)[1] if effect["type"] in ALERTS}


@pytest.mark.slow(reason="many random runs of all shards")
@pytest.mark.parametrize("seed", range(8))
def test_any_crash_and_any_cut_within_a_position_give_the_bytes_of_one_fold(tmp_path: Path, seed: int) -> None:
    log, partitions, happened = trial(seed, tmp_path)
    assert spread(log, partitions) > 20
    assert happened["kills"] > 3
    assert happened["trimmed"] > 20


@pytest.mark.slow_after(1, reason="many random runs of all shards")
@pytest.mark.parametrize("start", range(0, 400, 100))
def test_any_writers_at_once_and_any_cuts_are_read_as_one(start: int) -> None:
    for seed in range(start, start + 100):
        written_by_many(seed)


def written_by_many(seed: int) -> None:
    """Writers resume at any position before the last, cut anew, die anywhere, lose messages; the last one does not. A
    reader is restored now and then."""
    rng = Random(seed)
    rows, numbers, position = [], dict.fromkeys("abcdefgh", 0), 0
    for _ in range(rng.randrange(1, 12)):
        position += rng.randrange(1, 4)
        for group in sorted(rng.choices("abcdefgh", k=rng.choice((1, 6, 20)))):
            numbers[group] += 1
            rows.append(effect(group, numbers[group], position))
    last = position + rng.randrange(3)
    edges = [0, *(row[0] for row in rows), *range(0, last, 2)]
    writers = [written(rows, rng.choice((0, 0, rng.choice(edges))), last, rng) for _ in range(rng.randrange(2, 9))]
    for written_by in writers:
        del written_by[rng.randrange(len(written_by) + 1) :]
        if written_by and rng.random() < 0.3:
            del written_by[rng.randrange(len(written_by))]
    writers.append(written(rows, 0, last, rng))
    values: list[bytes] = []
    while any(writers):
        values.append(rng.choice([messages for messages in writers if messages]).pop(0))
    shard, whole = EffectsShard(Topics("s"), GENERATION, 1), {}
    for offset, value in enumerate(values):
        assert shard.accept(offset, value) is Accepted.FOLDED
        if rng.random() < 0.2:
            kept, marker = shard.snapshot()
            whole |= dict(kept)
            shard = EffectsShard(Topics("s"), GENERATION, 1)
            shard.restore(sorted(whole.items()), marker)
    assert shard.sequence == last
    assert {group: shard.book.head(group)[0] for group in shard.book.groups} == {
        group: n for group, n in numbers.items() if n
    }
    log = Log()
    log.values["s.effects", 1].extend(values)
    reader = KafkaReader(Topical(log, 1), parse_address("kafka://h:1/s"))  # type: ignore[arg-type]
    assert list(reader.effects(1)) == [data for _, data in rows]
    found, _ = checker.effects_of({1: values}, GENERATION)
    assert {group: len(of_group) for group, of_group in found.items()} == {
        group: n for group, n in numbers.items() if n
    }


def chain_at(rows: list[tuple[int, bytes]], here: Place) -> Chain:
    """The chain behind the effects of a shard that lie before a place."""
    passed = Counter[int]()
    found = Chain()
    for sequence, data in rows:
        if Place(sequence - 1, passed[sequence]) < here:
            found = found.behind([data])
        passed[sequence] += 1
    return found


def written(rows: list[tuple[int, bytes]], previous: int, last: int, rng: Random) -> list[bytes]:
    """What a shard sends that resumes behind a position, in drains and messages of any size."""
    found: list[bytes] = []
    while previous < last:
        upto = rng.randrange(previous, last) + 1
        part = [row for row in rows if previous < row[0] <= upto]
        with patch.object(batch_messages, "SPLIT_BYTES", rng.choice((1, 300, 1000, 5000))):
            found.extend(
                shard_base.effect_messages(GENERATION, 1, previous, upto, part, chain_at(rows, Place(previous)))
            )
        previous = upto
    return found


def _trimmed_by_position(self: EffectsRecord, here: Place) -> list[tuple[int, bytes]]:
    return [row for row in self.effects if row[0] > here.sequence]


def _begun_is_whole(self: EffectsRecord) -> Place:
    return Place(self.last + 1 if self.upto else self.last)


def _counted_from_nothing(
    generation: str, shard: int, previous: int, last: int, rows: list[tuple[int, bytes]], chain: Chain
) -> list[bytes]:
    """Every message that goes on within a position says that it begins there."""
    found = []
    for message in _right_messages(generation, shard, previous, last, rows, chain):
        record = msgspec.structs.replace(messages.decode_effects(message), after=0)
        found.append(messages.encode(msgspec.structs.replace(record, upto=min(record.upto, len(record.effects)))))
    return found


_right_messages = shard_base.effect_messages
_right_snapshot = EffectsShard.snapshot


def _marked_by_position(self: EffectsShard) -> Snapshot:
    """The marker of a table forgets how much of a position was taken, and its digest with it."""
    sent, self.sent = self.sent, [self.sent[0], 0]
    found = _right_snapshot(self)
    self.sent = sent
    return found


MUTANTS: dict[str, tuple[object, str, Callable[..., object] | property]] = {
    "readers trim by position": (EffectsRecord, "behind", _trimmed_by_position),
    "a position that has begun is taken for whole": (EffectsRecord, "end", property(_begun_is_whole)),
    "a message does not say where in a position it begins": (shard_base, "effect_messages", _counted_from_nothing),
    "a marker knows positions alone": (EffectsShard, "snapshot", _marked_by_position),
}


@pytest.mark.slow(reason="many random runs of all shards")
@pytest.mark.parametrize("name", MUTANTS)
def test_who_knows_positions_alone_is_found_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTANTS[name])
    found = Counter[str]()
    for seed in range(3):
        try:
            trial(seed, tmp_path / str(seed))
        except (AssertionError, Fault):
            found["with everything"] += 1
    for seed in range(60):
        try:
            written_by_many(seed)
        except (AssertionError, Fault, Unusable):
            found["of effects alone"] += 1
    assert found["with everything"] >= 2
    assert found["of effects alone"] >= 20


def effect(group: str, number: int, position: int) -> tuple[int, bytes]:
    row = {"type": "margin_warned.v1", "id": f"{group}/{number}", "sequence": position, "at_ns": 1, "account": group}
    return position, msgspec.msgpack.encode(
        {**row, "currency": "USDT", "equity": "1.00", "initial_requirement": "1.00", "maintenance_requirement": "1.00"}
    )


def five() -> list[tuple[int, bytes]]:
    """Five effects at position 8, behind two at 5."""
    return [effect("a", 1, 5), effect("b", 1, 5), *(effect(name, 2 if name in "ab" else 1, 8) for name in "abcde")]


def follow(*records: EffectsRecord) -> EffectsShard:
    shard = EffectsShard(Topics("s"), GENERATION, 1)
    for offset, record in enumerate(records):
        assert shard.accept(offset, messages.encode(record)) is Accepted.FOLDED
    return shard


def record(start: Place, end: Place, rows: list[tuple[int, bytes]]) -> EffectsRecord:
    chain = chain_at(five(), end).at(*end)
    return EffectsRecord(GENERATION, 1, start.sequence, end.sequence, rows, start.within, end.within, chain)


def test_messages_overlap_within_a_position() -> None:
    rows = five()
    shard = follow(
        record(Place(0), Place(7, 2), rows[:4]),
        record(Place(0), Place(7, 1), rows[:3]),
        record(Place(7, 1), Place(7, 3), rows[3:5]),
        record(Place(7), Place(7, 3), rows[2:5]),
        record(Place(0), Place(9), rows),
        record(Place(7, 4), Place(11), rows[6:]),
    )
    assert (set(shard.book.groups), shard.sequence, shard.trimmed, shard.holes) == (
        set("abcde"),
        11,
        3 + 1 + 3 + 5 + 1,
        0,
    )
    assert len(shard.drain()) == 7


def test_a_hole_within_a_position_is_passed_over_until_it_is_filled() -> None:
    rows = five()
    first, second, third = (
        record(Place(0), Place(7, 1), rows[:3]),
        record(Place(7, 1), Place(7, 3), rows[3:5]),
        record(Place(7, 3), Place(9), rows[5:]),
    )
    shard = follow(first, third)
    assert (shard.holes, shard.sequence, sorted(shard.book.groups)) == (1, 7, ["a", "b"])
    shard = follow(first, third, second, third)
    assert (shard.holes, shard.sequence, sorted(shard.book.groups)) == (1, 9, list("abcde"))


@pytest.mark.parametrize(
    ("start", "end", "rows"),
    [
        (Place(0), Place(7, 3), five()[:4]),
        (Place(0), Place(7, 1), five()[:4]),
        (Place(0), Place(7), five()[:3]),
        (Place(0), Place(7, 1), five()[:2]),
        (Place(5), Place(9), five()),
        (Place(0), Place(9), [*five()[2:], *five()[:2]]),
    ],
)
def test_a_message_that_has_not_what_it_says_is_a_fault(
    start: Place, end: Place, rows: list[tuple[int, bytes]]
) -> None:
    with pytest.raises(Fault, match="effects"):
        record(start, end, rows).behind(start)


def test_a_marker_that_does_not_fit_its_rows_is_not_used() -> None:
    """Its digest is over the rows, and over the place up to which effects were taken: one of an older build has
    neither."""
    shard = follow(record(Place(0), Place(9), five()))
    rows, marker = shard.snapshot()
    assert marker.sent == [9, 0]
    for other in (
        msgspec.structs.replace(marker, sent=[9]),
        msgspec.structs.replace(marker, sent=[9, 1]),
        msgspec.structs.replace(marker, sequence=8),
    ):
        with pytest.raises(Unusable):
            EffectsShard(Topics("s"), GENERATION, 1).restore(sorted(rows), other)
    with pytest.raises(Unusable, match="rows of 'g', which nothing here reads"):
        EffectsShard(Topics("s"), GENERATION, 1).restore([(b"g/a", rows[0][1])], marker)


def test_a_table_stands_within_a_position() -> None:
    rows = five()
    shard = follow(record(Place(0), Place(7, 2), rows[:4]))
    kept, marker = shard.snapshot()
    again = EffectsShard(Topics("s"), GENERATION, 1)
    again.restore(sorted(kept), marker)
    again.accept(1, messages.encode(record(Place(0), Place(9), rows)))
    assert (again.trimmed, sorted(again.book.groups)) == (4, list("abcde"))


def drained(shard: IntakeShard | AccountsShard, values: list[bytes]) -> list[shards.Send]:
    for offset, value in enumerate(values):
        shard.accept(offset, value)
    return shard.drain()


@pytest.mark.parametrize("limit", [1, 40, 1000])
def test_a_row_too_large_for_a_message_goes_on_in_the_next(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The intake's row of facts grows with the gaps in the numbers of its books; the parts of a base may come in any
    order."""
    monkeypatch.setattr(shard_table, "PART_BYTES", limit)
    intake = IntakeShard(Topics("s"), GENERATION, 1, rules_version=LATEST)
    gaps = [line.replace(b'"source_seq":', b'"source_seq":1%03d' % n) for n, line in enumerate(crowded_day(3, steps=3))]
    for offset, line in enumerate(gaps):
        intake.accept(offset, line)
    intake.drain()
    kept, marker = intake.snapshot()
    assert max(len(value) for _, value in kept) > 1000
    table = ShardTable(tmp_path / "one", GENERATION)
    table.write(Snapshot(kept, marker))
    _, base, messages = table.delta()
    table.close()
    assert base
    assert len(messages) > 3
    assert max(map(len, messages)) < 2 * limit + 300
    Random(limit).shuffle(messages)
    again = ShardTable(tmp_path / "two", GENERATION)
    for offset, message in enumerate(messages):
        assert again.marker is None
        again.apply_changelog(offset, message)
    restored = IntakeShard(Topics("s"), GENERATION, 1, rules_version=LATEST)
    assert again.load(restored)
    again.close()
    assert restored.intake.digest() == intake.intake.digest()
    log = Log()
    log.values["s.inputs", 0].extend(gaps)
    log.values["s.inputs.changelog", 0].extend(messages)
    assert verified_of(log, 1).problems == []
    log.values["s.inputs.changelog", 0][1:2] = []
    assert verified_of(log, 1).checkpoint_position == 0


@pytest.mark.slow(reason="many random runs of all shards")
def test_a_record_of_nothing_but_poison_says_no_more_than_messages_hold() -> None:
    """8 MiB of short lines are refused one by one: what is said of them is many times that."""
    lines = b"\n".join(b"%d" % n for n in range(70_000))
    sends = drained(IntakeShard(Topics("s"), GENERATION, 1, rules_version=LATEST), [lines])
    sizes = [len(send.value) for send in sends if send.topic == "s.effects"]
    assert sum(sizes) > MESSAGE_LIMIT
    assert max(sizes) <= batch_messages.SPLIT_BYTES + 100


@pytest.mark.slow(reason="many random runs of all shards")
def test_what_one_clock_says_of_very_many_accounts_fits_messages() -> None:
    """Seventeen thousand accounts go down at one clock: more than the broker takes as one message, and all at one
    position."""
    lines = everyone_goes_down(17_000)
    intake, accounts = (
        IntakeShard(Topics("s"), GENERATION, 1, rules_version=LATEST),
        AccountsShard(Topics("s"), GENERATION, 1, rules_version=LATEST),
    )
    routed = [send.value for send in drained(intake, [b"\n".join(lines)]) if send.topic == "s.accounts"]
    log = Log()
    for send in drained(accounts, routed):
        assert len(send.value) <= batch_messages.SPLIT_BYTES + 100
        log.send(send)
    records = [messages.decode_effects(value or b"") for value in log.values["s.effects", 1]]
    at_one = [data for found in records for position, data in found.effects if position == accounts.sequence]
    assert sum(map(len, at_one)) > MESSAGE_LIMIT
    for send in drained(intake, []):
        log.send(send)
    follower = EffectsShard(Topics("s"), GENERATION, 1)
    for offset, value in enumerate(log.values["s.effects", 1]):
        follower.accept(offset, value)
    assert (len(list(follower.book.groups)), follower.sequence, follower.holes) == (17_000, accounts.sequence, 0)


def everyone_goes_down(accounts: int) -> list[bytes]:
    """A day whose last line, a clock, brings a version of the profile under which every account is to be sold out."""
    day = Day().opened()
    for n in range(accounts):
        name = f"account-with-a-name-as-long-as-they-come-{n}"
        day.account(name)
        day.money(name, "1", "BTC")
        day.money(name, "-25000")
    parameters = {**PARAMETERS, "warn": "2.40", "call": "2.25", "close_out": "2.10", "restore": "2.40"}
    fields = {
        "profile": "prime",
        "model": "prime",
        "version": 2,
        "effective_from": "2021-05-19T00:00:01Z",
        "approved_by": "risk",
    }
    day.book("profile_activated", **fields, parameters=parameters)
    day.clock(1)
    return day.lines


@pytest.mark.slow
def test_more_than_a_message_at_one_position_goes_through_a_real_broker(broker: Broker, tmp_path: Path) -> None:
    """A worker died between two of the messages of that position; the next one cuts them otherwise and sends all of
    it."""
    lines = everyone_goes_down(17_000)
    store = f"kafka://{broker.server}/spread"
    address = parse_address(store)
    expected = StoreFold(1, rules_version=LATEST)
    for line in lines:
        expected.admission.line(line)
    of_intake, own = expected.fold()
    assert sum(len(row.data) for row in own if row.sequence == expected.sequence) > MESSAGE_LIMIT
    with Client(address.servers) as client:
        manifest = topics_admin.init(client, address, 1)
        with patch.object(batch_messages, "SPLIT_BYTES", 1_500_000):
            rows = [(row.sequence, row.data) for row in own]
            sent = list(shard_base.effect_messages(manifest.generation, 1, 0, expected.sequence, rows, Chain()))
        assert messages.decode_effects(sent[2]).upto > 0
        client.send("spread.effects", sent[:3], partition=1)
        with workers(store, tmp_path):
            produce(client, address, records_of(lines, LATEST))
            deadline = time.monotonic() + 120
            last = client.end("spread.inputs") - 1
            said = await_folded(DigestReader(client, address, manifest), last, lambda: time.monotonic() < deadline)
            # Alerts follow the effects: they come after them.
            while client.end("spread.alerts") < len(own) and time.monotonic() < deadline:
                time.sleep(0.2)
        assert said is not None, (tmp_path / "w0.log").read_text()[-2000:]
        assert said.digests == expected.digests()
        verified = verify(client, address)
        assert (verified.problems, verified.folded, verified.effects) == ([], True, len(of_intake) + len(own))
        assert list(KafkaReader(client, address).effects(1)) == [row.data for row in own]
        values = [record.value for record in client.read("spread.effects", 1)]
        assert sum(messages.decode_effects(value).upto > 0 for value in values) > 10
        assert checker.effects_of({1: values}, manifest.generation)[1] > 5000
        alerts = {json.loads(record.value)["id"] for record in client.read("spread.alerts")}
    assert len(alerts) == len(own)
