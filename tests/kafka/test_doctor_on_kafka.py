"""The doctor at a real broker: topics as they should be, and each setting that would lose something."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from margin_stream.kafka.address import parse_address
from margin_stream.kafka.client import Client
from margin_stream.simulation.broker import Broker
from tests.integration.test_errors import command


def examined(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    code, _, out = command("doctor", *words)
    return code, {row["check"]: row for row in map(json.loads, out.splitlines())}


def set_topic(broker: Broker, topic: str, **settings: str) -> None:
    async def work() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.server)
        await admin.start()
        try:
            given = {name.replace("_", "."): value for name, value in settings.items()}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=given)])
        finally:
            await admin.close()

    asyncio.run(work())


@pytest.mark.slow
def test_a_store_as_it_was_made_has_no_problem(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    address = parse_address(f"kafka://{broker.server}/health")
    code, found = examined("--store", address.url)
    assert (code, found["store.topics"]["status"]) == (0, "skipped")
    assert "kafka init" in found["store.topics"]["next"]
    with Client(address.servers) as client:
        assert not any(name.startswith("health.") for name in client.topics())
    assert command("kafka", "init", "--store", address.url, "--partitions", "2")[0] == 0
    code, found = examined("--store", address.url)
    assert code == 0
    assert (
        found["broker.reachable"]["status"]
        == found["broker.sessions"]["status"]
        == found["store.topics"]["status"]
        == "ok"
    )
    assert found["broker.version"]["found"].startswith("4.0 or newer")
    # One broker, so one copy of each topic.
    assert found["topic.health.inputs"]["status"] == "warning"
    assert "a lost disk" in found["topic.health.inputs"]["found"]
    assert found["store.journal"] == {
        "check": "store.journal",
        "status": "ok",
        "found": "0 records, from the first",
        "next": "",
    }


@pytest.mark.slow
def test_a_topic_that_would_lose_something_is_a_problem(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address = parse_address(f"kafka://{broker.server}/ill")
    assert command("kafka", "init", "--store", address.url, "--partitions", "2")[0] == 0
    for settings, says in (
        ({"retention_ms": "1000000"}, "retention.ms=-1"),
        ({"retention_ms": "-1", "cleanup_policy": "compact"}, "cleanup.policy=delete"),
        ({"retention_ms": "-1", "retention_bytes": "1000000"}, "retention.bytes=-1"),
        ({"retention_ms": "-1"}, "max.message.bytes="),
    ):
        set_topic(broker, address.topics.inputs, **settings)
        code, found = examined("--store", address.url)
        assert (code, found["topic.ill.inputs"]["status"]) == (1, "problem"), settings
        assert says in found["topic.ill.inputs"]["next"]
    monkeypatch.setenv("MARGIN_STREAM_WORKER_SESSION_S", "1")
    assert examined("--store", address.url)[1]["broker.sessions"]["status"] == "ok"
    with Client(address.servers) as client:
        client.delete_topics([address.topics.effects])
    code, found = examined("--store", address.url)
    assert (code, found["store.topics"]["status"]) == (1, "problem")
