"""Upstream producers that send in transactions: what they committed is folded, markers and what they took back leave no
trace, and an offset that nothing explains is a fault."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from margin_stream.host.embedded import Host
from margin_stream.kafka import fetched
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.client import Client
from margin_stream.kafka.fetched import OffsetsMissing
from margin_stream.simulation.broker import Broker
from tests.days import random_day
from tests.kafka.running import run, summary, workers

LINES = random_day(21, accounts=8, steps=400)
pytestmark = pytest.mark.slow


def made(broker: Broker, name: str) -> str:
    store = f"kafka://{broker.server}/{name}"
    run("kafka", "init", "--store", store, "--partitions", "2")
    return store


async def send(broker: Broker, topic: str, lines: list[bytes], *, size: int) -> None:
    """Send lines in transactions; before each committed one another is taken back, whose lines come again later."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.server, transactional_id=f"up-{topic}")
    await producer.start()
    for start in range(0, len(lines), size):
        await producer.begin_transaction()
        for line in reversed(lines[start : start + 2 * size]):
            await producer.send(topic, line)
        await producer.abort_transaction()
        async with producer.transaction():
            for line in lines[start : start + size]:
                await producer.send(topic, line)
    await producer.begin_transaction()
    await producer.send(topic, b"taken back")
    await producer.abort_transaction()
    await producer.stop()


def embedded(folder: Path, lines: list[bytes]) -> tuple[int, str, str]:
    with Host(folder) as host:
        host.ingest(lines)
        digests = host.checkpoint()
    return tuple(digests)


@pytest.mark.parametrize("size", [1, 60])
def test_committed_records_alone_are_folded(broker: Broker, tmp_path: Path, size: int) -> None:
    lines = LINES[: 120 if size == 1 else None]
    expected = embedded(tmp_path / "embedded", lines)
    store = made(broker, f"committed{size}")
    asyncio.run(send(broker, f"committed{size}.inputs", lines[:-1], size=size))
    last = tmp_path / "last.ndjson"
    last.write_bytes(lines[-1] + b"\n")
    # Without workers the command folds itself, behind a transaction that was taken back.
    assert summary(run("digest", "--store", store)[0])[0] == embedded(tmp_path / "but-one", lines[:-1])[0]
    with workers(store, tmp_path / "w", 2):
        assert summary(run("ingest", str(last), "--store", store)[0]) == expected
        # And behind one that ends the topic.
        asyncio.run(send(broker, f"committed{size}.inputs", [], size=size))
        for _ in range(50):
            status = run("kafka", "status", "--store", store)[0]
            if all(row["lag"] == 0 for row in status["shards"]):
                break
        assert all(row["ready"] and row["lag"] == 0 for row in status["shards"])
    assert run("replay", "--store", store)[0]["equal"] is True
    run("verify", "--store", store)


def test_records_of_kafkas_own_transactional_producer(broker: Broker, tmp_path: Path) -> None:
    store = made(broker, "performance")
    payload = tmp_path / "payload"
    payload.write_bytes(b"no event of ours\nnor this\n")
    command = broker.java(
        "org.apache.kafka.tools.ProducerPerformance",
        *("--topic", "performance.inputs", "--num-records", "1000", "--throughput", "200", "--payload-file"),
        *(str(payload), "--transactional-id", "perf", "--transaction-duration-ms", "100"),
        *("--producer-props", f"bootstrap.servers={broker.server}"),
    )
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()[-800:]
    with Client([broker.server]) as client:
        records = list(client.read("performance.inputs", whole=True))
        assert client.end("performance.inputs") > len(records) + 5 == 1005
    day = tmp_path / "day.ndjson"
    day.write_bytes(b"\n".join(LINES) + b"\n")
    expected = embedded(tmp_path / "embedded", [*(record.value for record in records), *LINES])
    with workers(store, tmp_path / "w"):
        assert summary(run("ingest", str(day), "--store", store)[0]) == expected
    assert run("replay", "--store", store)[0]["equal"] is True


def test_what_nothing_explains_is_missing(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(broker, "hidden")
    asyncio.run(send(broker, "hidden.inputs", LINES[:90], size=30))
    passed = fetched._CommittedRecords.passed

    def read() -> list[Any]:
        with Client([broker.server]) as client:
            return list(client.read("hidden.inputs", whole=True))

    records = read()
    assert [record.value for record in records] == LINES[:90]
    # A reader that passes over what it should not: every aborted batch, and one that was committed.
    monkeypatch.setattr(fetched, "_passed", {})

    class Hiding(fetched._CommittedRecords):
        def __next__(self) -> Any:
            record = super().__next__()
            return super().__next__() if record.offset == records[40].offset else record

    monkeypatch.setattr(fetched, "_CommittedRecords", Hiding)
    with pytest.raises(OffsetsMissing) as caught:
        read()
    assert caught.value.where["offset"] == records[40].offset
    # A note that is not made: the marker itself is missing.
    monkeypatch.setattr(fetched, "_passed", {})
    monkeypatch.setattr(fetched, "_CommittedRecords", Hiding.__base__)
    monkeypatch.setattr(fetched._CommittedRecords, "passed", lambda *_: None)
    with pytest.raises(OffsetsMissing):
        read()
    monkeypatch.setattr(fetched._CommittedRecords, "passed", passed)
    assert [record.value for record in read()] == LINES[:90]


def test_a_journal_whose_beginning_was_deleted_is_not_read(broker: Broker) -> None:
    store = made(broker, "deleted")
    asyncio.run(send(broker, "deleted.inputs", LINES[:60], size=30))
    place = TopicPartition("deleted.inputs", 0)
    with Client(parse_address(store).servers) as client:
        client.ask(lambda admin: admin.delete_records({place: RecordsToDelete(before_offset=10)}))
        with pytest.raises(OffsetsMissing) as caught:
            list(client.read("deleted.inputs", whole=True))
    assert caught.value.where == {"topic": "deleted.inputs", "partition": 0, "offset": 0}
