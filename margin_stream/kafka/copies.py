"""Copying a journal from one store to another: folder to topic, topic to folder, and their own kind. Digests are the
same afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from margin_stream.core.store_fold import Digests
from margin_stream.host.embedded import Host
from margin_stream.journal.layout import StoreError
from margin_stream.journal.record_builder import payloads
from margin_stream.kafka.address import KafkaAddress
from margin_stream.kafka.client import Client
from margin_stream.kafka.producer import produce
from margin_stream.kafka.topics_admin import StoreDiffers, read_manifest
from margin_stream.schemas.binary import canonical_bytes, encode
from margin_stream.schemas.columns import TickColumns
from margin_stream.schemas.inputs import Input
from margin_stream.views.source import Source


class TargetTaken(StoreError, code="target_taken"):
    """What is to be copied into holds something already."""


Progress = Callable[[int, int], None]
"""Called with records done and records in all."""


def to_folder(source: Source, folder: Path, partitions: int, progress: Progress | None = None) -> Digests:
    """Copy a journal into a new store in a folder; return its digests.

    Raises:
        StoreError: the folder holds a store already, or something else.
    """
    if folder.exists() and any(folder.iterdir()):
        raise TargetTaken(f"{folder}: not empty", store=folder)
    with Host(folder, partitions=partitions, rules_version=source.rules_version) as host:
        for record in source.items():
            for item in record.items:
                host.offer_item(item)
                if host.group_full:
                    host.begin_commit()
                    host.checkpoint_if_due()
            if progress is not None:
                progress(record.number, source.last_record)
        host.commit()
        return host.checkpoint()


def to_topic(source: Source, client: Client, address: KafkaAddress, progress: Progress | None = None) -> int:
    """Copy a journal into the topic of a store on Kafka that has none yet; return how many records it has then.

    Raises:
        StoreMissing, StoreError: there is no such store, its journal is not empty, or it began with another rules
        version.
    """
    manifest = read_manifest(client, address)
    if manifest.rules_version != source.rules_version:
        raise StoreDiffers(
            f"{address.url}: it began with rules version {manifest.rules_version}, the journal with "
            f"{source.rules_version}: "
            f"make it with `kafka init --rules-version {source.rules_version}`",
            store=address.url,
        )
    topic = address.topics.inputs
    if client.end(topic):
        raise TargetTaken(f"{address.url}: its journal holds {client.end(topic)} records already", store=address.url)

    def records() -> Iterator[bytes]:
        for record in source.items():
            # A record of many short lines grows beyond a message when each has its own head.
            yield from payloads([_encoded(item) for item in record.items])
            if progress is not None:
                progress(record.number, source.last_record)

    return produce(client, address, records()) + 1


def _encoded(item: object) -> bytes:
    if isinstance(item, Input):
        return canonical_bytes(item)
    assert isinstance(item, (bytes, TickColumns))
    return encode(item)
