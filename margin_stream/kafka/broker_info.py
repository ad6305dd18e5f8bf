"""What brokers say of themselves and of topics: versions, settings, copies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from margin_stream.kafka.client import Client

FETCH, DESCRIBE_CLUSTER = 1, 60
"""Numbers of requests in Kafka's protocol."""


class Brokers(NamedTuple):
    """The cluster."""

    size: int
    controller: int
    at_least: tuple[int, int] | None
    """The version that its protocol shows it has at least: brokers do not tell their own. None below 2.8."""
    settings: dict[str, str]
    """Of one broker."""


class Topic(NamedTuple):
    """A topic."""

    partitions: int
    replicas: int
    """The fewest copies that a partition has."""
    offline: int
    """Partitions without a leader."""
    settings: dict[str, str]


def describe_brokers(client: Client) -> Brokers:
    """Return what the cluster states of itself.

    Raises:
        Unreachable: it does not answer.
    """

    async def work(admin: AIOKafkaAdminClient) -> Brokers:
        cluster = await admin.describe_cluster()
        first = cluster["brokers"][0]["node_id"]
        settings = await _settings(admin, ConfigResourceType.BROKER, [str(first)])
        return Brokers(len(cluster["brokers"]), cluster["controller_id"], _version(admin), settings.get(str(first), {}))

    return client.ask(work)


def describe_topics(client: Client, names: Iterable[str]) -> dict[str, Topic]:
    """Return what there is to know of topics, by name, of those that exist."""

    async def work(admin: AIOKafkaAdminClient) -> dict[str, Topic]:
        rows = {
            row["topic"]: row["partitions"] for row in await admin.describe_topics(list(names)) if not row["error_code"]
        }
        settings = await _settings(admin, ConfigResourceType.TOPIC, list(rows))
        return {
            name: Topic(
                len(partitions),
                min((len(row["replicas"]) for row in partitions), default=0),
                sum(row["leader"] < 0 for row in partitions),
                settings.get(name, {}),
            )
            for name, partitions in rows.items()
        }

    return client.ask(work)


async def _settings(
    admin: AIOKafkaAdminClient, kind: ConfigResourceType, names: list[str]
) -> dict[str, dict[str, str]]:
    answers = await admin.describe_configs([ConfigResource(kind, name) for name in names])
    return {
        name: {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        for answer in answers
        for _code, _text, _kind, name, entries in answer.resources
    }


def _version(admin: AIOKafkaAdminClient) -> tuple[int, int] | None:
    """Kafka 4.0 dropped the oldest forms of its requests; 2.8 brought the request that describes a cluster."""
    connections: Any = getattr(getattr(admin, "_client", None), "_conns", {})
    for connection in connections.values():
        versions = getattr(connection, "_versions", {})
        if versions.get(FETCH, (0, 0))[0] >= 4:
            return 4, 0
        if DESCRIBE_CLUSTER in versions:
            return 2, 8
    return None
