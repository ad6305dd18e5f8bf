"""Records of the journal's topic that lie outside its first partition: somebody gave the topic more partitions, and
producers spread over them. The journal is partition 0; the others are reported, and can be moved there."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import ConsumerRecord, TopicPartition

from margin_stream.kafka.address import KafkaAddress
from margin_stream.kafka.client import Client
from margin_stream.kafka.producer import produce


def strays(client: Client, address: KafkaAddress) -> dict[int, int]:
    """Return how many offsets each partition but the first has, of those that have any."""
    topic = address.topics.inputs
    counts = {
        partition: client.end(topic, partition) - client.beginning(topic, partition)
        for partition in range(1, client.partition_counts([topic]).get(topic, 1))
    }
    return {partition: count for partition, count in counts.items() if count}


def _timestamp(record: ConsumerRecord) -> int:
    return int(record.timestamp)


def move(client: Client, address: KafkaAddress) -> int:
    """Send the records of the other partitions to the journal, by their timestamps, then delete them there; return how
    many.

    Interrupted and run again, it sends again what was not deleted yet: the inputs are duplicates then, and are dropped.
    """
    topic = address.topics.inputs
    ends = {partition: client.end(topic, partition) for partition in strays(client, address)}
    moved = 0

    def values() -> Iterator[bytes | None]:
        nonlocal moved
        readers = [client.read(topic, partition, end=end) for partition, end in ends.items()]
        for record in heapq.merge(*readers, key=_timestamp):
            moved += 1
            yield record.value

    if ends:
        produce(client, address, values())
        places = {TopicPartition(topic, partition): RecordsToDelete(end) for partition, end in ends.items()}
        client.ask(lambda admin: AIOKafkaAdminClient.delete_records(admin, places))
    return moved
