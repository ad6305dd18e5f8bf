"""The agents' parts without a broker: followers, tables, what a worker answers over HTTP."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from margin_stream.agents import assignor as assigning
from margin_stream.agents import follower as following
from margin_stream.agents.assignor import FoldAssignor
from margin_stream.agents.follower import Follower
from margin_stream.agents.metrics import shard_row
from margin_stream.agents.web import Web
from margin_stream.kafka import fetched, messages
from margin_stream.kafka.address import Topics
from margin_stream.kafka.chains import Chain
from margin_stream.kafka.seals import OPEN, Seal
from margin_stream.kafka.shard import record_hash
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.simulation.broker import free_port
from tests.days import random_day
from tests.folding import fold

GENERATION = "0123456789abcdef"


class Died(BaseException):
    """Instead of ending the process."""


class Producer:
    """Takes messages; acknowledges at once, or when told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, bytes]] = []
        self.held: list[asyncio.Future[Any]] | None = None
        self.broken = False

    async def send(
        self, topic: str, key: bytes | None, value: bytes, partition: int, timestamp: None, headers: None
    ) -> asyncio.Future[Any]:
        if self.broken:
            raise ConnectionError("gone")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent.append((topic, partition, value))
        if self.held is None:
            future.set_result(SimpleNamespace(offset=len(self.sent) - 1))
        else:
            self.held.append(future)
        return future


class App:
    """What a follower needs of the application."""

    def __init__(self) -> None:
        self.address = SimpleNamespace(topics=Topics("s"))
        self.producer = Producer()
        self.checkpoint_s = 1.0
        self.seal: Seal = OPEN
        self.sought: list[int] = []
        self.forgotten: list[int] = []
        self.manifest = SimpleNamespace(generation=GENERATION, partitions=1, rules_version=LATEST)
        self.ready = True
        self.changelog_left = 0
        self.all: list[Follower] = []
        self.end: int | None = None
        self.wrong = ""
        self.looked: list[tuple[str, int, bytes]] = []

    async def forget_before(self, topic: str, partition: int, offset: int) -> None:
        self.forgotten.append(offset)

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        self.sought.append(offset)

    def followers(self) -> Iterator[Follower]:
        yield from self.all

    def highwater(self, topic: str, partition: int) -> int | None:
        return self.end

    async def changed(self, topic: str, partition: int, offset: int, digest: bytes) -> str:
        self.looked.append((topic, offset, digest))
        return self.wrong


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> App:
    def die(why: str) -> None:
        raise Died(why)

    monkeypatch.setattr(following, "die", die)
    return App()


async def opened(app: App, folder: Path, topic: str = "s.inputs", partition: int = 0) -> Follower:
    found = Follower(app, topic, partition, f"{topic}.changelog", folder / f"{topic}-{partition}")
    app.all.append(found)
    await found.open()
    await found.load()
    return found


@pytest.fixture
async def intake(app: App, tmp_path: Path) -> AsyncIterator[Follower]:
    found = await opened(app, tmp_path)
    yield found
    await found.close()


def feed(follower: Follower, lines: list[bytes], start: int = 0) -> None:
    for n, line in enumerate(lines):
        follower.accept(start + n, line)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_records_close_together_share_messages(app: App, intake: Follower) -> None:
    feed(intake, random_day(1, accounts=4, steps=100))
    await settle()
    routed = [value for topic, _, value in app.producer.sent if topic == "s.accounts"]
    assert 1 <= len(routed) < 30
    first = messages.decode_sequenced(routed[0])
    assert (first.generation, first.previous) == (GENERATION, 0)
    for before, after in itertools.pairwise(routed):
        assert messages.decode_sequenced(after).previous == messages.decode_sequenced(before).last


async def test_a_missing_record_is_sought_once(app: App, intake: Follower) -> None:
    intake.accept(3, b"{}")
    intake.accept(4, b"{}")
    await settle()
    assert app.sought == [0]
    assert intake.shard.offset == -1


async def test_a_record_that_never_comes_is_a_fault(
    app: App, intake: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SEEK_AGAIN_S", 0.0)
    for _ in range(following.SEEKS_LIMIT + 1):
        assert intake.failed is None
        intake.accept(3, b"{}")
        await asyncio.sleep(0.001)
    assert intake.failed is not None
    assert "no record at the offsets 0 to 2" in intake.failed
    assert len(app.sought) == following.SEEKS_LIMIT


async def test_what_a_transaction_leaves_is_passed_over(
    app: App, intake: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched, "_passed", {})
    topic = intake.topic
    fetched.note(topic, 0, 0, 2)
    fetched.note(topic, 0, 2, 3)
    lines = random_day(1, accounts=1, steps=1)
    intake.accept(3, lines[0])
    assert (intake.shard.offset, intake.shard.sequence) == (3, 1)
    # Another partition's, one further on, and one that does not reach the record explain nothing.
    fetched.note(topic, 1, 4, 6)
    fetched.note(topic, 0, 5, 6)
    intake.accept(6, lines[1])
    assert (intake.shard.offset, app.sought) == (3, [])
    await settle()
    assert app.sought == [4]
    fetched.note(topic, 0, 4, 5)
    # Nothing may follow it: the end of the topic is passed over with the next beat.
    await intake.beat()
    assert intake.shard.offset == 5


async def test_another_record_at_the_last_offset_is_a_fault(app: App, intake: Follower) -> None:
    lines = random_day(1, accounts=1, steps=1)
    feed(intake, lines[:2])
    intake.accept(1, lines[1])
    intake.accept(0, lines[1])
    assert intake.failed is None
    intake.accept(1, lines[0])
    assert intake.failed is not None
    assert "cut or made anew" in intake.failed


async def test_a_topic_that_ends_before_what_was_folded_is_a_fault(app: App, intake: Follower) -> None:
    feed(intake, random_day(1, accounts=1, steps=1)[:2])
    app.end = 2
    await intake.beat()
    assert intake.failed is None
    app.end = 1
    await intake.beat()
    assert intake.failed == (
        f"{intake.topic}-0: it ends at offset 1, and offset 1 was folded: the topic was cut or made anew"
    )


async def test_what_was_folded_last_is_looked_for_when_a_table_is_loaded(app: App, tmp_path: Path) -> None:
    lines = random_day(1, accounts=1, steps=1)[:2]
    first = await opened(app, tmp_path)
    feed(first, lines)
    await first.checkpoint()
    await first.close()
    assert app.looked == [("s.inputs", -1, b"")]
    again = await opened(app, tmp_path)
    assert again.failed is None
    assert app.looked[1:] == [("s.inputs", 1, record_hash(lines[1]))]
    await again.close()
    app.wrong = "it ends at offset 1"
    stopped = await opened(app, tmp_path)
    assert stopped.failed == "s.inputs-0: it ends at offset 1"
    stopped.accept(2, lines[0])
    assert stopped.shard.offset == 1
    await stopped.close()


async def test_a_checkpoint_waits_for_the_broker(app: App, intake: Follower) -> None:
    app.producer.held = []
    feed(intake, random_day(1, accounts=3, steps=20))
    writing = asyncio.create_task(intake.checkpoint())
    await settle()
    assert intake.table is not None
    assert intake.table.marker is None
    for future in app.producer.held:
        future.set_result(SimpleNamespace(offset=0))
    app.producer.held = None
    await writing
    assert intake.table.marker is not None
    assert intake.table.marker.offset == intake.shard.offset


async def test_a_message_that_the_broker_refuses_ends_the_worker(app: App, intake: Follower) -> None:
    app.producer.broken = True
    feed(intake, random_day(1, accounts=3, steps=20))
    await settle()
    assert isinstance(intake._pump.exception(), Died)


async def test_what_was_folded_is_restored(app: App, tmp_path: Path) -> None:
    lines = random_day(2, accounts=5, steps=120)
    first = await opened(app, tmp_path)
    feed(first, lines)
    await first.checkpoint()
    position = first.shard.sequence
    await first.close()
    again = await opened(app, tmp_path)
    assert (again.shard.sequence, again.shard.offset) == (position, len(lines) - 1)
    assert position == fold(lines)[0].sequence
    await again.close()


async def test_a_table_of_another_generation_is_thrown_away(app: App, tmp_path: Path) -> None:
    first = await opened(app, tmp_path)
    feed(first, random_day(2, accounts=5, steps=50))
    await first.checkpoint()
    await first.close()
    app.manifest.generation = "f" * 16
    again = await opened(app, tmp_path)
    assert again.shard.sequence == 0
    await again.close()


async def test_a_fault_stops_one_shard_and_names_the_place(app: App, tmp_path: Path) -> None:
    accounts = await opened(app, tmp_path, "s.accounts")
    accounts.accept(0, messages.encode(messages.SequencedBatch(GENERATION, 0, 5, [], b"\1" * 32, False, Chain().at(5))))
    assert accounts.failed is not None
    assert "s.accounts-0: offset 0" in accounts.failed
    accounts.accept(1, messages.encode(messages.SequencedBatch(GENERATION, 5, 6, [], b"", False, Chain().at(6))))
    assert accounts.shard.sequence in (0, 5)
    await accounts.close()


async def test_digests_are_asked_for_when_nothing_comes(
    app: App, intake: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "IDLE_S", 0.0)
    lines = random_day(3, accounts=4, steps=60)
    feed(intake, lines)
    await intake.beat()
    await settle()
    part = messages.decode_digest_part(next(value for topic, _, value in app.producer.sent if topic == "s.digests"))
    assert (part.shard, part.sequence, part.offset) == (0, fold(lines)[0].sequence, len(lines) - 1)


async def test_a_digest_is_said_once_the_broker_has_the_effects_before_it(app: App, tmp_path: Path) -> None:
    intake, accounts = await opened(app, tmp_path), await opened(app, tmp_path, "s.accounts")
    feed(intake, random_day(3, accounts=4, steps=60))
    intake.shard.ask_digests()  # type: ignore[attr-defined]
    intake.flush()
    await settle()
    routed = [value for topic, _, value in app.producer.sent if topic == "s.accounts"]
    app.producer.sent.clear()
    app.producer.held = []
    feed(accounts, routed)
    accounts.flush()
    await settle()
    assert {topic for topic, _, _ in app.producer.sent} == {"s.effects"}
    for future in app.producer.held:
        future.set_result(SimpleNamespace(offset=0))
    await settle()
    assert {topic for topic, _, _ in app.producer.sent} == {"s.effects", "s.digests"}
    for future in app.producer.held:
        if not future.done():
            future.set_result(SimpleNamespace(offset=0))
    await intake.close()
    await accounts.close()


async def test_a_worker_answers_over_http(app: App, tmp_path: Path) -> None:
    intake = await opened(app, tmp_path)
    accounts = await opened(app, tmp_path, "s.accounts")
    feed(intake, random_day(4, accounts=4, steps=80))
    await settle()
    feed(accounts, [value for topic, _, value in app.producer.sent if topic == "s.accounts"])
    port = free_port()
    web = Web(app, "127.0.0.1", port)
    await web.on_start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            assert (await session.get("/livez")).status == 200
            assert (await session.get("/readyz")).status == 200
            app.ready = False
            assert (await session.get("/readyz")).status == 503
            name = next(iter(accounts.shard.accounts.accounts())).id  # type: ignore[attr-defined]
            state = await (await session.get(f"/accounts/{name}")).json()
            assert (state["account"], state["sequence"]) == (name, accounts.shard.sequence)
            assert (await session.get("/accounts/nobody")).status == 404
            assert (await (await session.get("/calls")).json())["partitions"] == [0]
            rows = await (await session.get("/shards")).json()
            assert {row["kind"] for row in rows} == {"intake", "accounts"}
            metrics = await (await session.get("/metrics")).text()
            assert 'margin_stream_sequence_number{partition="0",topic="s.accounts"}' in metrics
            for name in (
                "lag_records",
                "checkpoint_age_seconds",
                "restore_seconds",
                "items_trimmed",
                "duplicates",
                "rebalances",
            ):
                assert f"margin_stream_{name}" in metrics
    finally:
        await web.on_stop()
        await intake.close()
        await accounts.close()


async def test_letting_go_during_a_checkpoint_does_not_hang(app: App, tmp_path: Path) -> None:
    found = await opened(app, tmp_path)
    app.producer.held = []
    feed(found, random_day(1, accounts=3, steps=20))
    writing = asyncio.create_task(found.checkpoint())
    await settle()
    found.loaded = False
    await asyncio.wait_for(writing, 5)
    await asyncio.wait_for(found.close(), 5)


async def test_a_slow_broker_holds_up_the_folding(app: App, intake: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "WAITING_LIMIT", 0)
    app.producer.held = []
    intake._to_send.append(following.Send("s.effects", 0, None, b""))
    waiting = asyncio.create_task(intake.ebb())
    await settle()
    assert not waiting.done()
    intake._wake.set()
    await asyncio.wait_for(waiting, 5)


async def test_what_lies_before_a_base_is_forgotten(app: App, intake: Follower) -> None:
    feed(intake, random_day(1, accounts=3, steps=20))
    await intake.checkpoint()
    await settle()
    first = next(n for n, (topic, _, _) in enumerate(app.producer.sent) if topic == "s.inputs.changelog")
    assert app.forgotten == [first]


def test_a_worker_stopped_before_it_knows_its_tables_does_not_join_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"s.inputs": 1, "s.inputs.changelog": 1}
    app = SimpleNamespace(
        wanted_topics=lambda: wanted, tables=None, conf=SimpleNamespace(canonical_url="http://127.0.0.1:1")
    )
    assignor = FoldAssignor(app)

    def die(why: str) -> None:
        raise Died(why)

    monkeypatch.setattr(assigning, "die", die)
    assert set(assignor.metadata(set(wanted)).subscription) == set(wanted)
    with pytest.raises(Died, match=r"lacks s\.inputs\.changelog"):
        assignor.metadata({"s.inputs"})


async def test_a_checkpoint_is_not_written_where_the_journal_was_made_anew(
    app: App, intake: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic that outgrows the last offset between two fetches shows no gap: the record at that offset does."""
    monkeypatch.setattr(following, "LOOK_S", -1.0)
    feed(intake, random_day(1, accounts=3, steps=20))
    app.wrong = "another record is there"
    await intake.checkpoint()
    assert intake.failed == f"{intake.topic}-0: another record is there"
    assert intake.table is not None
    assert intake.table.marker is None
    assert app.looked[-1] == ("s.inputs", intake.shard.offset, intake.shard.last[1])


async def test_what_is_refused_in_a_changelog_is_logged_and_counted(
    app: App, intake: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    assert intake.table is not None
    for offset, value in enumerate((b"noise", None, b"\x91\xa1\xff")):
        intake.table.apply_changelog(offset, value)
    await intake.load()
    found = [record.message for record in caplog.records if "changelog, offset" in record.message]
    assert len(found) == 3
    assert "refused" in found[0]
    assert intake.table.notes == []
    assert shard_row(app, intake)["foreign"] == 3
