"""The codes of the error catalogue that only a real broker can give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer

from margin_stream.cli.errors import BY_CODE
from margin_stream.kafka.address import KafkaAddress, parse_address
from margin_stream.kafka.client import Client
from margin_stream.simulation.broker import Broker
from tests.integration.test_errors import Said, command, said


def made(broker: Broker, name: str, partitions: int = 2) -> KafkaAddress:
    address = parse_address(f"kafka://{broker.server}/{name}")
    assert command("kafka", "init", "--store", address.url, "--partitions", str(partitions))[0] == 0
    return address


def topics_missing(broker: Broker) -> Said:
    return said("digest", "--store", f"kafka://{broker.server}/nobody")


def topics_incomplete(broker: Broker) -> Said:
    address = made(broker, "incomplete")
    with Client(address.servers) as client:
        client.delete_topics([address.topics.effects])
    return said("digest", "--store", address.url)


def store_differs(broker: Broker) -> Said:
    return said("kafka", "init", "--store", made(broker, "differs").url, "--partitions", "3")


def workers_run(broker: Broker) -> Said:
    address = made(broker, "busy")

    async def joined() -> Said:
        consumer = AIOKafkaConsumer(
            address.topics.inputs, bootstrap_servers=list(address.servers), group_id=address.group
        )
        await consumer.start()
        try:
            return await asyncio.to_thread(said, "kafka", "repartition", "--store", address.url, "--partitions", "3")
        finally:
            await consumer.stop()

    return asyncio.run(joined())


def broker_refused(broker: Broker) -> Said:
    return said("kafka", "init", "--store", f"kafka://{broker.server}/copies", "--replicas", "3")


@pytest.mark.slow
@pytest.mark.parametrize(
    "reproduce",
    [topics_missing, topics_incomplete, store_differs, workers_run, broker_refused],
    ids=lambda f: f.__name__,
)
def test_what_the_broker_has_not_or_refuses_has_its_code(broker: Broker, reproduce: Callable[[Broker], Said]) -> None:
    code, exit_code, where = reproduce(broker)
    assert (code, exit_code) == (reproduce.__name__, BY_CODE[code].exit)
    if code != "broker_refused":
        assert where is not None
        assert where["store"].startswith("kafka://")
