"""Making a store on Kafka, and changing its number of partitions."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import msgspec

from margin_stream.core.digests import SLOTS
from margin_stream.journal.layout import PARTITIONS_LIMIT, PartitionsOutOfRange, StoreError, StoreLocked, StoreMissing
from margin_stream.kafka.address import MESSAGE_LIMIT, KafkaAddress, Topics
from margin_stream.kafka.client import Client
from margin_stream.kafka.messages import MANIFEST_FORMAT, REBUILT_FROM, StoreManifest, decode_manifest
from margin_stream.schemas.rules_versions import latest


class TopicsMissing(StoreMissing, code="topics_missing"):
    """There is no store of that name on the brokers."""


class TopicsIncomplete(StoreError, code="topics_incomplete"):
    """Making or repartitioning was interrupted."""


class StoreDiffers(StoreError, code="store_differs"):
    """A store of that name is there, and is not what was asked for."""


class WorkersRun(StoreLocked, code="workers_run"):
    """Workers follow the store's topics."""


FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "max.message.bytes": str(MESSAGE_LIMIT)}
A_WEEK = {**FOR_EVER, "retention.ms": str(7 * 86_400_000)}


def _settings(topics: Topics, names: Iterable[str]) -> dict[str, dict[str, str]]:
    return {name: A_WEEK if name == topics.digests else FOR_EVER for name in names}


def init(
    client: Client, address: KafkaAddress, partitions: int, replicas: int = 0, *, rules_version: int | None = None
) -> StoreManifest:
    """Make a store's topics. Run again after an interruption it goes on.

    Args:
        partitions: of accounts.
        replicas: of every topic; 0 for as many as there are brokers, at most 3.
        rules_version: that a new store begins with; the latest if left out.

    Raises:
        StoreError: there is a store of that name with other partitions, or the number is out of range.
        KafkaError: the broker refuses.
    """
    if not 1 <= partitions <= PARTITIONS_LIMIT:
        raise PartitionsOutOfRange(
            f"--partitions: from 1 to {PARTITIONS_LIMIT}, not {partitions}", option="--partitions"
        )
    topics = address.topics
    known = _manifest(client, topics)
    if known is not None:
        if known.partitions != partitions:
            raise StoreDiffers(
                f"{address.url}: has {known.partitions} partitions, {partitions} were asked for", store=address.url
            )
        manifest = known
    else:
        manifest = StoreManifest(
            store_id=secrets.token_hex(16),
            generation=secrets.token_hex(8),
            partitions=partitions,
            slots=SLOTS,
            rules_version=rules_version or latest(),
        )
    wanted = {topics.manifest: 1, topics.inputs: 1, **topics.partitions(partitions)}
    client.create_topics(wanted, _settings(topics, wanted), replicas)
    if known is None:
        # The manifest comes last: from here on there is a store.
        client.send(topics.manifest, [msgspec.json.encode(manifest)])
    return manifest


def repartition(client: Client, address: KafkaAddress, partitions: int, replicas: int = 0) -> StoreManifest:
    """Give a store another number of partitions: everything derived is deleted, and rebuilt from the journal by the
    workers.

    Raises:
        StoreLocked: workers run; stop them first.
        StoreMissing, StoreError, KafkaError.
    """
    if not 1 <= partitions <= PARTITIONS_LIMIT:
        raise PartitionsOutOfRange(
            f"--partitions: from 1 to {PARTITIONS_LIMIT}, not {partitions}", option="--partitions"
        )
    topics = address.topics
    known = _manifest(client, topics, REBUILT_FROM)
    if known is None:
        raise TopicsMissing(f"{address.url}: no store of that name", store=address.url)
    members = client.members(address.group)
    if members:
        raise WorkersRun(f"{address.url}: {len(members)} workers run", store=address.url)
    # A new generation first: whatever an old worker still sends is passed over from here on.
    manifest = msgspec.structs.replace(
        known, format=MANIFEST_FORMAT, generation=secrets.token_hex(8), partitions=partitions
    )
    client.send(topics.manifest, [msgspec.json.encode(manifest)])
    client.delete_topics(topics.derived)
    wanted = topics.partitions(partitions)
    client.create_topics(wanted, _settings(topics, wanted), replicas)
    return manifest


def _manifest(client: Client, topics: Topics, oldest: int = MANIFEST_FORMAT) -> StoreManifest | None:
    if topics.manifest not in client.topics():
        return None
    last = client.last(topics.manifest)
    return None if last is None else decode_manifest(last.value or b"", oldest)


def read_manifest(client: Client, address: KafkaAddress) -> StoreManifest:
    """Return a store's manifest.

    Raises:
        StoreMissing: there is no store of that name.
        StoreError: its topics are not what the manifest states: making or repartitioning was interrupted; run it again.
    """
    topics = address.topics
    found = _manifest(client, topics)
    if found is None:
        raise TopicsMissing(f"{address.url}: no store of that name", store=address.url)
    wanted = {topics.inputs: 1, **topics.partitions(found.partitions)}
    counts = client.partition_counts(wanted)
    for name, partitions in wanted.items():
        # The journal is partition 0 of its topic, however many more it was given (``strays.py``).
        if counts.get(name) != partitions and not (name == topics.inputs and counts.get(name)):
            raise TopicsIncomplete(
                f"{address.url}: topic {name} has {counts.get(name, 0)} partitions, {partitions} are needed "
                f"for a store of {found.partitions}",
                store=address.url,
                topic=name,
            )
    return found
