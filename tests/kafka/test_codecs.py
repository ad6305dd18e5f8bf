"""Inputs in batches of every codec, and batches that cannot be unpacked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from margin_stream.host.embedded import Host
from margin_stream.kafka.client import Client
from margin_stream.kafka.codecs import UNPACKED_LIMIT
from margin_stream.simulation.broker import Broker
from tests.days import random_day
from tests.kafka.running import run, summary, workers

LINES = random_day(31, accounts=8, steps=300)
CODECS = ("gzip", "snappy", "lz4", "zstd")


async def send(broker: Broker, topic: str, values: list[bytes], codec: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.server,
        compression_type=codec,
        linger_ms=20,
        max_batch_size=1 << 20,
        max_request_size=2 * UNPACKED_LIMIT,
    )
    await producer.start()
    futures = [await producer.send(topic, value) for value in values]
    await asyncio.gather(*futures)
    await producer.stop()


@pytest.mark.slow
def test_every_codec_is_read_and_a_bomb_is_kept_as_refused(broker: Broker, tmp_path: Path) -> None:
    store = f"kafka://{broker.server}/codecs"
    run("kafka", "init", "--store", store, "--partitions", "2")
    topic = "codecs.inputs"
    part = len(LINES) // 4 + 1
    for n, codec in enumerate(CODECS):
        asyncio.run(send(broker, topic, LINES[n * part : (n + 1) * part], codec))
        # A few kilobytes that unpack to more than any batch may have.
        asyncio.run(send(broker, topic, [bytes(UNPACKED_LIMIT + 1000)], "zstd"))
    with Client([broker.server]) as client:
        records: list[Any] = list(client.read(topic, whole=True))
    assert [record.offset for record in records] == list(range(len(LINES) + 4))
    assert max(len(record.value) for record in records) < 20_000
    with Host(tmp_path / "embedded") as host:
        host.ingest([record.value for record in records])
        expected = host.checkpoint()
    last = tmp_path / "again.ndjson"
    last.write_bytes(LINES[-1] + b"\n")
    with workers(store, tmp_path / "w"):
        assert summary(run("ingest", str(last), "--store", store)[0]) == tuple(expected)
    assert run("replay", "--store", store)[0]["equal"] is True
    run("verify", "--store", store)
    assert "cannot be unpacked" in (tmp_path / "w" / "w0.log").read_text()
    with Client([broker.server]) as client:
        refused = [json.loads(record.value) for record in client.read("codecs.quarantine")]
    assert len({row["id"] for row in refused if "raw_base64" in row}) >= 1
