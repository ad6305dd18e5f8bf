"""Sending inputs to a store on Kafka, and waiting until they are folded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from margin_stream.journal.record_builder import PayloadBuilder
from margin_stream.kafka.address import KafkaAddress
from margin_stream.kafka.client import Client
from margin_stream.kafka.digest_quorum import Reported, Statements
from margin_stream.kafka.messages import StoreManifest
from margin_stream.kafka.seals import configured_seal
from margin_stream.schemas.binary import canonical_bytes, encode, encode_payload
from margin_stream.schemas.inputs import PriceTicked
from margin_stream.schemas.ndjson import clipped
from margin_stream.schemas.records import LINE, compact
from margin_stream.schemas.refusals import RefusedInput

RECORD_ITEMS = 500
RECORD_BYTES = 128 << 10
GROUP_RECORDS = 64
POLL_S = 0.05


def records_of(
    lines: Iterable[bytes], rules_version: int, refused: Callable[[RefusedInput], bool] | None = None
) -> Iterator[bytes]:
    """Yield the records that hold NDJSON lines: in compact form what can be given back from it, ticks in columns; the
    rest as it came.

    Args:
        lines: without line ends.
        rules_version: with which the store began.
        refused: told of each line that cannot be decoded (it is sent all the same, and kept); True ends the run behind
            it.
    """
    builder = PayloadBuilder()
    for line in map(clipped, lines):
        stop = False
        event = None
        try:
            event = compact(line, rules_version)
        except RefusedInput as error:
            stop = refused is not None and refused(error)
        if event is None:
            builder.add(encode(LINE + line))
        elif type(event) is PriceTicked:
            builder.add_tick(event)
        else:
            builder.add(canonical_bytes(event))
        if builder.count >= RECORD_ITEMS or builder.size >= RECORD_BYTES or stop:
            yield encode_payload(builder.take())
        if stop:
            return
    if builder.count:
        yield encode_payload(builder.take())


def produce(
    client: Client,
    address: KafkaAddress,
    records: Iterable[bytes | None],
    *,
    sent: Callable[[], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> int:
    """Send records to the journal in order; return the offset of the last once the broker has all of them, -1 where
    there were none."""
    topic = address.topics.inputs
    group: list[bytes | None] = []
    last = -1
    for record in records:
        group.append(record)
        if len(group) >= GROUP_RECORDS:
            last = client.send(topic, group)
            group = []
            if sent is not None:
                sent()
            if stop is not None and stop():
                return last
    return client.send(topic, group) if group else last


class DigestReader:
    """Follows what the shards say of themselves."""

    def __init__(self, client: Client, address: KafkaAddress, manifest: StoreManifest) -> None:
        self._client = client
        self._topic = address.topics.digests
        self._next = 0
        self.statements = Statements(manifest.generation, manifest.partitions, self._topic, configured_seal())

    def poll(self) -> Reported | None:
        """Read what is new; return the digests at the highest sequence number of which all shards spoke."""
        end = self._client.end(self._topic)
        if end > self._next:
            for record in self._client.read(self._topic, 0, self._next, end):
                self.statements.take(record.value)
            self._next = end
        return self.statements.last


def await_folded(
    reader: DigestReader,
    offset: int,
    alive: Callable[[], bool],
    waiting: Callable[[Reported | None], None] | None = None,
) -> Reported | None:
    """Wait until all shards have folded the journal up to an offset and reported their digests there.

    Args:
        reader: of digests.
        offset: of the journal.
        alive: asked now and then whether workers are there to do it.
        waiting: told of the last digests while waiting.

    Returns:
        None where no worker is there.
    """
    asked_at = time.monotonic()
    while True:
        reported = reader.poll()
        if reported is not None and reported.offset >= offset:
            return reported
        if waiting is not None:
            waiting(reported)
        if time.monotonic() - asked_at > 2.0:
            if not alive():
                return None
            asked_at = time.monotonic()
        time.sleep(POLL_S)
