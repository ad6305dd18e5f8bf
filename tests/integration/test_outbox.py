"""Questions and answers through the journal: an outbox killed at every step, on both hosts, loses nothing and does nothing twice in the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from margin_stream.core import folds
from margin_stream.core.system import System
from margin_stream.host.embedded import Host
from margin_stream.journal.disk import Disk
from margin_stream.kafka.copying import to_topic
from margin_stream.kafka.names import parse_address
from margin_stream.kafka.producing import records_of
from margin_stream.kafka.reader import KafkaReader
from margin_stream.kafka.shards import Shard, shard_of
from margin_stream.outbox.cursors import Cursor, CursorDamaged, FileCursor, TopicCursor
from margin_stream.outbox.outbox import Answer, Outbox, Unavailable, step_on_folder, step_on_topics
from replay.browsing import effects, events
from replay.reader import StoreReader
from replay.replaying import replay
from schemas.effects import AnswerRequested, AnyEffect
from schemas.engines import LATEST
from tests.days import Day, random_day
from tests.kafka.simulated import Log, Topical
from tests.notices import Notices

ADDRESS = parse_address("kafka://h:1/s")
Place = tuple[int, str, int]


@pytest.fixture(autouse=True)
def _notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "PARTITION_FOLDS", (Notices,))


def a_day() -> list[bytes]:
    """Four accounts fall at once and again later, so calls of several partitions share a sequence number; then clocks for an hour and more."""
    day = Day().opened()
    for name in ("A", "B", "C", "D"):
        day.account(name)
        day.money(name, "1", "BTC")
        day.money(name, "-28000")
    for price in ("36500", "35500", "34500"):
        day.believe("BTCUSDT", price)
        day.clock(61)
        day.clock(61)
    for _ in range(3):
        day.clock(2000)
    return day.lines


LINES = a_day()


class Killed(BaseException):
    """A kill, wherever it is counted."""


class Kill:
    """Ends everything at the n-th point that it passes."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.struck = False

    def point(self) -> None:
        if not self.struck and self._left == 0:
            self.struck = True
            raise Killed
        self._left -= 1


class KillingDisk(Disk):
    def __init__(self, kill: Kill) -> None:
        super().__init__()
        self._kill = kill

    def replace(self, path: Path, data: bytes) -> None:
        self._kill.point()
        super().replace(path, data)
        self._kill.point()


class Consumer:
    """Acts on questions; its answer says which try it was, so that a second one differs from the first."""

    def __init__(self, kill: Kill) -> None:
        self._kill = kill
        self.tries: Counter[str] = Counter()
        self.places: list[list[Place]] = [[]]
        """Of each life, in order."""

    def __call__(self, effect: AnyEffect) -> Sequence[Answer]:
        self._kill.point()
        group, _, number = effect.id.rpartition("/")
        self.places[-1].append((effect.position, group, int(number)))
        if not isinstance(effect, AnswerRequested):
            return ()
        self.tries[effect.id] += 1
        self._kill.point()
        return [Answer(f"try-{self.tries[effect.id]}", effect.at_ns, number=n) for n in (1, 2)]


def checked(consumer: Consumer, expected: list[Place], journal: list[dict[str, Any]]) -> None:
    """Every effect was handled, in order within a life, each life no further on than the one before; each answer stands once, the first one."""
    for life in consumer.places:
        assert life == sorted(set(life))
    assert sorted({place for life in consumer.places for place in life}) == expected
    for before, after in zip(consumer.places, consumer.places[1:], strict=False):
        if before and after:
            assert after[0] <= expected[min(expected.index(before[-1]) + 1, len(expected) - 1)]
    answers = [row for row in journal if row["type"] == "effect_answered"]
    assert sorted((row["effect"], row["source_seq"]) for row in answers) == sorted((name, n) for name in consumer.tries for n in (1, 2))
    assert len(consumer.tries) >= 8
    assert all(row["outcome"].startswith("try-") for row in answers)
    assert all(int(row["outcome"].removeprefix("try-")) <= consumer.tries[row["effect"]] for row in answers)


def places_of(rows: list[dict[str, Any]]) -> list[Place]:
    return sorted((row["position"], row["id"].rpartition("/")[0], int(row["id"].rpartition("/")[2])) for row in rows)


def on_folder(path: Path, kill: Kill, consumer: Consumer) -> None:
    """One life: take a line, let the outbox step; killed, it leaves everything as it lies."""
    host = Host(path / "s", partitions=3, checkpoint_items=25)
    commit = host.commit

    def killing_commit() -> None:
        kill.point()
        commit()
        kill.point()

    host.commit = killing_commit  # type: ignore[method-assign]
    try:
        outbox = Outbox("mail", FileCursor(path / "outbox" / "mail", KillingDisk(kill)), consumer)
        for line in LINES:
            host.offer(line)
            step_on_folder(outbox, host)
        while step_on_folder(outbox, host):
            pass
        host.close()
    except Killed:
        host.abandon()
        raise


@pytest.mark.slow(reason="some fifty stores")
def test_killed_at_every_step_on_a_folder(tmp_path: Path) -> None:
    at = 0
    while True:
        kill, path = Kill(at), tmp_path / str(at)
        consumer = Consumer(kill)
        for _ in range(2):
            try:
                on_folder(path, kill, consumer)
                break
            except Killed:
                consumer.places.append([])
        found = replay(path / "s")
        assert found.equal
        checked(consumer, places_of(list(effects(path / "s"))), list(events(path / "s")))
        log = Log()
        to_topic(StoreReader(path / "s"), Topical(log, 2), ADDRESS)  # type: ignore[arg-type]
        again = replay(KafkaReader(Topical(log, 2), ADDRESS))  # type: ignore[arg-type]
        assert (again.state_digest, again.effects_digest) == (found.state_digest, found.effects_digest)
        if not kill.struck:
            break
        # Every point near the start, then every 7th, which meets every kind of point.
        at += 1 if at < 30 else 7
    assert at > 150


class Workers:
    """All shards of a store on topics in memory; the outbox's producer and the inputs go to the same journal."""

    def __init__(self, log: Log, partitions: int) -> None:
        self.log = log
        self.client = Topical(log, partitions)
        manifest = KafkaReader(self.client, ADDRESS).manifest  # type: ignore[arg-type]
        topics = ADDRESS.topics
        self._shards = [(topics.inputs, 0), *((topics.accounts, p) for p in range(partitions))]
        self._found: list[Shard] = [shard_of(topics, manifest, topic, number) for topic, number in self._shards]

    def follow(self) -> None:
        self._found[0].ask_digests()  # type: ignore[attr-defined]
        for (topic, number), shard in zip(self._shards, self._found, strict=True):
            values = self.log.values[topic, number]
            while shard.offset + 1 < len(values):
                shard.accept(shard.offset + 1, values[shard.offset + 1])
            for send in shard.drain():
                self.log.send(send)


class KillingClient:
    """The client of the outbox: killed around each message that it sends."""

    def __init__(self, client: Topical, kill: Kill) -> None:
        self._client, self._kill = client, kill

    def send(self, topic: str, values: Sequence[bytes | None], *, partition: int = 0) -> int:
        self._kill.point()
        last = self._client.send(topic, values, partition=partition)
        self._kill.point()
        return last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def on_topics(workers: Workers, lines: Callable[[], bytes | None], kill: Kill, consumer: Consumer) -> None:
    client = KillingClient(workers.client, kill)
    outbox = Outbox("mail", TopicCursor(client, ADDRESS, "mail"), consumer)  # type: ignore[arg-type]
    while (line := lines()) is not None:
        workers.client.send("s.inputs", list(records_of([line], LATEST)))
        workers.follow()
        step_on_topics(outbox, client, ADDRESS)  # type: ignore[arg-type]
    while True:
        workers.follow()
        if not step_on_topics(outbox, client, ADDRESS):  # type: ignore[arg-type]
            break


@pytest.mark.slow(reason="some thirty stores")
def test_killed_at_every_step_on_topics() -> None:
    at = 0
    while True:
        kill, log = Kill(at), Log()
        consumer, workers = Consumer(kill), Workers(log, 3)
        left = iter(LINES)
        for _ in range(2):
            try:
                on_topics(workers, lambda left=left: next(left, None), kill, consumer)  # type: ignore[misc]
                break
            except Killed:
                consumer.places.append([])
        reader = KafkaReader(workers.client, ADDRESS)  # type: ignore[arg-type]
        found = replay(reader)
        assert found.equal
        assert found.recorded_until == found.position
        checked(consumer, places_of(list(effects(reader))), list(events(reader)))
        if not kill.struck:
            break
        at += 1 if at < 20 else 7
    assert at > 60


def test_an_effect_that_cannot_be_handled_now_comes_again_and_is_not_passed_over(tmp_path: Path) -> None:
    handled: list[str] = []
    down = [True]

    def handle(effect: AnyEffect) -> Sequence[Answer]:
        if down[0] and isinstance(effect, AnswerRequested):
            raise Unavailable
        handled.append(effect.id)
        return ()

    with Host(tmp_path / "s", partitions=2) as host:
        host.ingest(LINES)
        outbox = Outbox("mail", FileCursor(tmp_path / "cursor"), handle)
        before = step_on_folder(outbox, host)
        assert step_on_folder(outbox, host) == 0
        down[0] = False
        again = Outbox("mail", FileCursor(tmp_path / "cursor"), handle)
        while step_on_folder(again, host):
            pass
    rows = list(effects(tmp_path / "s"))
    assert 0 < before < len(rows)
    assert handled == [row["id"] for row in rows]


def test_a_question_without_an_answer_is_closed_by_its_limit_and_a_late_answer_changes_nothing(tmp_path: Path) -> None:
    with Host(tmp_path / "s", partitions=2) as host:
        host.ingest(LINES)
    rows = list(effects(tmp_path / "s"))
    asked = {row["id"]: row["expires_at"] for row in rows if row["type"] == "answer_requested"}
    expired = [row["question"] for row in rows if row["type"] == "answer_expired"]
    assert len(asked) >= 8
    assert sorted(expired) == sorted(asked)
    line = b'{"type":"effect_answered","source":"@mail","source_seq":1,"event_time":"2021-05-19T00:00:00Z","effect":"%s","outcome":"%s"}'
    with Host(tmp_path / "s") as host:
        before = [part.folds[1].digest() for part in host.system.sets[1:]]
        first = expired[0].encode()
        assert host.offer(line % (first, b"late")).value == "accepted"
        assert host.offer(line % (first, b"other")).value == "duplicate"
        host.commit()
        assert [part.folds[1].digest() for part in host.system.sets[1:]] == before
    with Host(tmp_path / "s") as host:
        assert host.recovery.folded == 0
        assert host.offer(line % (first, b"another")).value == "duplicate"
        for effect, source, n, reason in (
            (b"nobody/1", b"@mail", b"1", "account_unknown"),
            (first, b"mail", b"1", "answer_invalid"),
            (first, b"@mail", b"0", "answer_invalid"),
        ):
            text = (line % (effect, b"x")).replace(b'"@mail","source_seq":1', b'"%s","source_seq":%s' % (source, n))
            assert host.offer(text).value == "refused"
            assert host.system.intake.last_refusal is not None
            assert host.system.intake.last_refusal[0].value == reason


@pytest.mark.parametrize("lines", [LINES, random_day(5, accounts=9, steps=200)])
def test_a_fold_behind_the_accounts_gives_the_same_for_any_partitions_cuts_and_checkpoints(lines: list[bytes], tmp_path: Path) -> None:
    digests = set()
    for partitions, group in ((1, 2000), (2, 7), (7, 1), (16, 40)):
        path = tmp_path / str(partitions)
        with Host(path, partitions=partitions, group_items=group, checkpoint_items=60) as host:
            host.ingest(lines[: len(lines) // 2])
        with Host(path) as host:
            host.ingest(lines)
            digests.add(host.checkpoint()[1:])
        assert replay(path).equal
    assert len(digests) == 1
    rows = list(effects(tmp_path / "2"))
    assert any(row["type"] == "answer_requested" for row in rows) or lines is not LINES
    assert [int(row["id"].rpartition("/")[2]) for row in rows if row["id"].startswith("A/")] == list(
        range(1, 1 + sum(row["id"].startswith("A/") for row in rows))
    )


def test_effects_are_followed_in_order_of_group_and_number_and_only_those_of_earlier_folds() -> None:
    system = System(1, rules_version=LATEST)
    for line in LINES:
        system.admission.line(line)
    _, out = system.fold()
    notices = system.sets[1].folds[1]
    assert isinstance(notices, Notices)
    assert notices.seen == sorted(notices.seen)
    own = {(row.position, row.group, row.number) for row in out if b"answer_" in row.data}
    assert own
    assert set(notices.seen) == {(row.position, row.group, row.number) for row in out} - own
    assert [(row.position, row.group, row.number) for row in out] == sorted((row.position, row.group, row.number) for row in out)


def test_a_cursor_that_is_damaged_is_an_error_and_one_of_another_record_of_effects_keeps_its_place(tmp_path: Path) -> None:
    store = FileCursor(tmp_path / "c")
    assert store.load() == Cursor()
    cursor = Cursor(5, "A", 2, "x", [[1, 1, 30, b"chain"], []])
    store.save(cursor)
    assert FileCursor(tmp_path / "c").load() == cursor
    data = (tmp_path / "c").read_bytes()
    for n in range(0, len(data), 5):
        (tmp_path / "c").write_bytes(data[:n] + bytes((data[n] ^ 1,)) + data[n + 1 :])
        with pytest.raises(CursorDamaged):
            store.load()
    handled: list[str] = []

    def handle(effect: AnyEffect) -> Sequence[Answer]:
        handled.append(effect.id)
        return ()

    with Host(tmp_path / "s") as host:
        host.ingest(LINES)
        host.publish_effects()
        rows = list(effects(tmp_path / "s"))
        middle = places_of(rows)[len(rows) // 2]
        store.save(Cursor(*middle, "another record", [[9, 9, 9, b"x"]] * 2))
        outbox = Outbox("mail", store, handle)
        while step_on_folder(outbox, host):
            pass
    assert handled == [row["id"] for row in rows][len(rows) // 2 + 1 :]


def test_nothing_is_handled_beyond_the_number_up_to_which_every_log_is_complete(tmp_path: Path) -> None:
    handled: list[int] = []

    def handle(effect: AnyEffect) -> Sequence[Answer]:
        handled.append(effect.position)
        return ()

    with Host(tmp_path / "s", partitions=3) as host:
        host.ingest(LINES)
        last = host.publish_effects()
        outbox = Outbox("mail", FileCursor(tmp_path / "cursor"), handle)
        positions = sorted(row["position"] for row in effects(tmp_path / "s"))
        for upto in range(last + 1):
            while outbox.step(StoreReader(tmp_path / "s"), upto, lambda answers: None):
                pass
            assert handled == [position for position in positions if position <= upto]
