"""Questions and answers through the journal: an outbox killed at every step, on both hosts, loses nothing and does
nothing twice in the journal."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from margin_stream.core import folds
from margin_stream.core.checks import Fault
from margin_stream.core.effect_book import EffectBook
from margin_stream.core.sequenced import Clocked, Opened
from margin_stream.core.store_fold import StoreFold
from margin_stream.host.embedded import Host
from margin_stream.journal.disk import Disk
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.copies import to_topic
from margin_stream.kafka.producer import records_of
from margin_stream.kafka.reader import KafkaReader
from margin_stream.kafka.shard import Shard
from margin_stream.kafka.shards import shard_of
from margin_stream.outbox.cursors import Cursor, CursorDamaged, CursorDiffers, FileCursor, TopicCursor
from margin_stream.outbox.outbox import Answer, Outbox, Unavailable, step_on_folder, step_on_topics
from margin_stream.replay.replay import replay
from margin_stream.schemas.binary import encode
from margin_stream.schemas.effects import AnswerExpired, AnswerRequested, AnyEffect
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.views.journal import effects, events
from margin_stream.views.source import StoreReader
from tests.days import Day, random_day
from tests.kafka.simulated import Log, Topical
from tests.notices import Notices, PlainFold

ADDRESS = parse_address("kafka://h:1/s")
Place = tuple[int, str, int]


@pytest.fixture(autouse=True)
def _notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "PARTITION_FOLDS", (Notices,))


def a_day() -> list[bytes]:
    """Four accounts fall at once and again later, so calls of several partitions share a sequence number; then clocks
    for an hour and more."""
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
        self.places[-1].append((effect.sequence, group, int(number)))
        if not isinstance(effect, AnswerRequested):
            return ()
        self.tries[effect.id] += 1
        self._kill.point()
        return [Answer(f"try-{self.tries[effect.id]}", effect.at_ns, number=n) for n in (1, 2)]


def checked(consumer: Consumer, expected: list[Place], journal: list[dict[str, Any]]) -> None:
    """Every effect was handled, in order within a life, each life no further on than the one before; each answer stands
    once, the first one."""
    for life in consumer.places:
        assert life == sorted(set(life))
    assert sorted({place for life in consumer.places for place in life}) == expected
    for before, after in zip(consumer.places, consumer.places[1:], strict=False):
        if before and after:
            assert after[0] <= expected[min(expected.index(before[-1]) + 1, len(expected) - 1)]
    answers = [row for row in journal if row["type"] == "effect_answered"]
    assert sorted((row["effect"], row["source_seq"]) for row in answers) == sorted(
        (name, n) for name in consumer.tries for n in (1, 2)
    )
    assert len(consumer.tries) >= 8
    assert all(row["outcome"].startswith("try-") for row in answers)
    assert all(int(row["outcome"].removeprefix("try-")) <= consumer.tries[row["effect"]] for row in answers)


def places_of(rows: list[dict[str, Any]]) -> list[Place]:
    return sorted((row["sequence"], row["id"].rpartition("/")[0], int(row["id"].rpartition("/")[2])) for row in rows)


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
        assert found.recorded_until == found.sequence
        checked(consumer, places_of(list(effects(reader))), list(events(reader)))
        if not kill.struck:
            break
        at += 1 if at < 12 else 13
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
    line = b'{"type":"effect_answered","source":"@mail","source_seq":1,'
    line += b'"event_time":"2021-05-19T00:00:00Z","effect":"%s","outcome":"%s"}'
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


@pytest.mark.slow(reason="folds whole days with partitions, cuts and checkpoints of every kind")
@pytest.mark.parametrize("lines", [LINES, random_day(5, accounts=9, steps=200)])
def test_a_fold_behind_the_accounts_gives_the_same_for_any_partitions_cuts_and_checkpoints(
    lines: list[bytes], tmp_path: Path
) -> None:
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
    system = StoreFold(1, rules_version=LATEST)
    for line in LINES:
        system.admission.line(line)
    _, out = system.fold()
    notices = system.sets[1].folds[1]
    assert isinstance(notices, Notices)
    assert notices.seen == sorted(notices.seen)
    own = {(row.sequence, row.group, row.number) for row in out if b"answer_" in row.data}
    assert own
    assert set(notices.seen) == {(row.sequence, row.group, row.number) for row in out} - own
    assert [(row.sequence, row.group, row.number) for row in out] == sorted(
        (row.sequence, row.group, row.number) for row in out
    )


def test_a_cursor_that_is_damaged_is_an_error_and_one_of_another_record_of_effects_keeps_its_place(
    tmp_path: Path,
) -> None:
    store = FileCursor(tmp_path / "c")
    assert store.load() == Cursor()
    cursor = Cursor(5, "A", 2, "s", "x", [[1, 1, 30, b"chain"], []])
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
        store.save(Cursor(*middle, host.manifest.store_id, "another generation", [[9, 9, 9, b"x"]] * 2))
        outbox = Outbox("mail", store, handle)
        while step_on_folder(outbox, host):
            pass
    assert handled == [row["id"] for row in rows][len(rows) // 2 + 1 :]


def test_nothing_is_handled_beyond_the_number_up_to_which_every_log_is_complete(tmp_path: Path) -> None:
    handled: list[int] = []

    def handle(effect: AnyEffect) -> Sequence[Answer]:
        handled.append(effect.sequence)
        return ()

    with Host(tmp_path / "s", partitions=3) as host:
        host.ingest(LINES)
        last = host.publish_effects()
        outbox = Outbox("mail", FileCursor(tmp_path / "cursor"), handle)
        positions = sorted(row["sequence"] for row in effects(tmp_path / "s"))
        for upto in range(last + 1):
            while outbox.step(StoreReader(tmp_path / "s"), upto, lambda answers: None):
                pass
            assert handled == [position for position in positions if position <= upto]


def test_a_cursor_of_another_store_or_of_a_later_state_is_an_error(tmp_path: Path) -> None:
    with Host(tmp_path / "s") as host:
        host.ingest(LINES[:20])
    shutil.copytree(tmp_path / "s", tmp_path / "older")
    for name in ("s", "other"):
        with Host(tmp_path / name) as host:
            host.ingest(LINES)
            outbox = Outbox("mail", FileCursor(tmp_path / f"{name}.cursor"), lambda effect: ())
            while step_on_folder(outbox, host):
                pass
    for name, cursor, what in (("other", "s", "is of store"), ("older", "s", "a later state, which was lost")):
        with Host(tmp_path / name) as host, pytest.raises(CursorDiffers, match=what):
            step_on_folder(Outbox("mail", FileCursor(tmp_path / f"{cursor}.cursor"), lambda effect: ()), host)


class Breaker(PlainFold):
    """A fold of the whole store with effects and facts: one a clock."""

    name = "breaker"
    reads = (Clocked,)

    def __init__(self, book: EffectBook) -> None:
        self._book, self._clocks = book, 0

    def apply(self, item: Clocked) -> None:
        self._clocks += 1
        self._book.emit(AnswerExpired, item.sequence, item.now_ns, "@breaker", question="x/1")

    def sums(self) -> Mapping[int, int]:
        return {7: self._clocks}

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        yield b"clocks", encode(self._clocks)

    def mark_stored(self) -> None:
        pass

    def restore(self, _position: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        for _, value in rows:
            self._clocks = msgspec.msgpack.decode(value)

    def digest(self) -> bytes:
        return encode(self._clocks)


def test_a_fold_of_the_whole_store_is_in_the_digests_of_both_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = StoreFold(2, rules_version=LATEST)
    monkeypatch.setattr(folds, "STORE_FOLDS", (*folds.STORE_FOLDS, Breaker))
    for system in (without, whole := StoreFold(2, rules_version=LATEST)):
        for line in LINES:
            system.admission.line(line)
        system.fold()
    assert whole.digests().state != without.digests().state
    assert whole.digests().effects != without.digests().effects
    with Host(tmp_path / "s", partitions=3, checkpoint_items=20, group_items=7) as host:
        host.ingest(LINES)
    assert replay(tmp_path / "s").equal
    with Host(tmp_path / "s") as host:
        assert host.recovery.folded == 0
        assert host.system.digests() == whole.digests()
    workers = Workers(Log(), 2)
    workers.client.send("s.inputs", list(records_of(LINES, LATEST)))
    for _ in range(2):
        workers.follow()
    found = replay(KafkaReader(workers.client, ADDRESS))  # type: ignore[arg-type]
    assert found.equal
    assert (found.state_digest, found.effects_digest) == whole.digests()[1:]
    assert (found.recorded_state_digest, found.recorded_effects_digest) == whole.digests()[1:]


def test_a_fold_that_reads_what_its_set_is_not_given_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaker, "reads", (Clocked, Opened))
    monkeypatch.setattr(folds, "STORE_FOLDS", (Breaker,))
    with pytest.raises(Fault, match=r"a fold reads what its set is given \(fold=breaker, kind=Opened\)"):
        StoreFold(1, rules_version=LATEST)


def test_a_fold_that_was_registered_later_is_folded_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Host(tmp_path / "s", partitions=2) as host:
        host.ingest(LINES)
    monkeypatch.setattr(folds, "STORE_FOLDS", (*folds.STORE_FOLDS, Breaker))
    shutil.copytree(tmp_path / "s", tmp_path / "t")
    with pytest.raises(Fault, match=r"was recorded otherwise|not recomputed"):
        # Its effects are not in the record.
        Host(tmp_path / "s")
    monkeypatch.setattr(folds, "STORE_FOLDS", (*folds.STORE_FOLDS[:-1], Quiet))
    with Host(tmp_path / "t") as host:
        assert host.recovery.from_sequence == 0
        assert [note for note in host.recovery.notes if "tables are rebuilt from the journal" in note]
        assert host.system.sets[0].folds[-1].digest() != encode(0)


class Quiet(Breaker):
    """The same, without effects."""

    def apply(self, item: Clocked) -> None:
        self._clocks += 1

    def sums(self) -> Mapping[int, int]:
        return {}


@pytest.mark.parametrize(
    "answer",
    [
        Answer("sent", 1.5),
        Answer("sent", -5),
        Answer("", 1),
        Answer("x" * 65, 1),
        Answer("x", 1, "d" * 513),
        Answer("x", 2**63),
    ],
)  # type: ignore[arg-type]
def test_an_answer_that_does_not_keep_the_schema_is_an_exception_and_never_journalled(
    answer: Answer, tmp_path: Path
) -> None:
    with Host(tmp_path / "s") as host:
        host.ingest(LINES)
        before = host.checkpoint()
        outbox = Outbox("mail", FileCursor(tmp_path / "cursor"), lambda effect: [answer])
        with pytest.raises(msgspec.ValidationError):
            step_on_folder(outbox, host)
        assert host.checkpoint() == before
    assert replay(tmp_path / "s").equal
    with pytest.raises(ValueError, match="is no name of an outbox"):
        Outbox("@mail", FileCursor(tmp_path / "cursor"), lambda effect: ())


def test_the_example_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[2] / "docs" / "outbox.md"
    code = page.read_text().partition("```python\n")[2].partition("```")[0]
    with Host(tmp_path / "margin-store") as host:
        host.ingest(LINES)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert "A/call/1 " in capsys.readouterr().out
    answers = [row for row in events(tmp_path / "margin-store") if row["type"] == "effect_answered"]
    calls = [row for row in effects(tmp_path / "margin-store") if row["type"] == "margin_call_issued"]
    assert [row["effect"] for row in answers] == [row["id"] for row in calls]
    assert replay(tmp_path / "margin-store").equal
