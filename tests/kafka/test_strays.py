"""The journal's topic is given more partitions: partition 0 stays the journal, workers go on, and what lies elsewhere is
reported and moved in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from margin_stream.host.embedded import Host
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.client import Client
from margin_stream.simulation.broker import Broker
from tests.days import random_day
from tests.integration.test_errors import command
from tests.kafka.running import run, workers
from tests.kafka.test_doctor_on_kafka import examined


def widen(broker: Broker, topic: str, partitions: int) -> None:
    async def work() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.server)
        await admin.start()
        try:
            await admin.create_partitions({topic: NewPartitions(partitions)})
        finally:
            await admin.close()

    asyncio.run(work())


@pytest.mark.slow
def test_records_outside_the_first_partition_are_reported_and_moved_in(broker: Broker, tmp_path: Path) -> None:
    lines = random_day(51, accounts=6, steps=500)
    first, strayed, last = lines[:200], lines[200:260], lines[260:]
    assert last
    with Host(tmp_path / "folder", partitions=2) as host:
        host.ingest(lines)
    expected = run("digest", "--store", str(tmp_path / "folder"))[0]
    address = parse_address(f"kafka://{broker.server}/wide")
    store = address.url
    run("kafka", "init", "--store", store, "--partitions", "2")
    (tmp_path / "first").write_bytes(b"\n".join(first))
    (tmp_path / "last").write_bytes(b"\n".join(last))
    with workers(store, tmp_path / "data", 1):
        run("ingest", str(tmp_path / "first"), "--store", store)
        widen(broker, address.topics.inputs, 3)
        with Client(address.servers) as client:
            for n, line in enumerate(strayed):
                client.send(address.topics.inputs, [line], partition=1 + n % 2)
        code, rows, _ = command("kafka", "status", "--store", store)
        assert (code, rows[0]["code"], rows[0]["where"]) == (0, "records_outside_journal", {"store": store})
        assert "60 records lie" in rows[0]["message"]
        _, found = examined("--store", store)
        assert "kafka move-strays" in found["store.strays"]["next"]
        assert run("digest", "--store", store)[0]["last"] < expected["last"]
    # Workers start on the wider topic too.
    with workers(store, tmp_path / "data", 2):
        assert run("kafka", "move-strays", "--store", store)[0]["records_moved"] == 60
        assert run("kafka", "move-strays", "--store", store)[0]["records_moved"] == 0
        done = run("ingest", str(tmp_path / "last"), "--store", store)[0]
        assert {name: done[name] for name in ("last", "state_digest", "effects_digest")} == {
            name: expected[name] for name in ("last", "state_digest", "effects_digest")
        }
        assert run("kafka", "status", "--store", store)[0]["records_outside_the_journal"] == 0
    assert run("verify", "--store", store)[0]["ok"]
    assert run("replay", "--store", store)[0]["equal"]
