"""The Faust application: settings, topics, tables, and what keeps time for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faust
import mode
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from faust.types import TP

from margin_stream.agents import accounts, alerts, effects, intake
from margin_stream.agents.assignor import FoldAssignor
from margin_stream.agents.consumer import FoldTransport
from margin_stream.agents.crash import die
from margin_stream.agents.follower import Follower, cut_short
from margin_stream.agents.table import OPEN_LIMIT_S, FoldTable
from margin_stream.kafka.address import MESSAGE_LIMIT, KafkaAddress
from margin_stream.kafka.client import Client, security
from margin_stream.kafka.messages import StoreManifest
from margin_stream.kafka.seals import Seal, configured_seal
from margin_stream.kafka.shard import ANOTHER_RECORD, record_hash

log = logging.getLogger("margin_stream.agents")

BEAT_S = 0.05
STUCK_S = 45.0
BUFFERED = 256
"""Records of one topic that wait for their fold; the consumer fetches no more until they are folded."""


class FoldApp(faust.App):
    """Faust with our transport."""

    address: KafkaAddress
    manifest: StoreManifest
    seal: Seal
    checkpoint_s: float
    fold_tables: dict[str, FoldTable]
    answers: mode.Service | None = None

    async def on_first_start(self) -> None:
        """Answer questions from the start: what is restored, and how far, is one of them."""
        await super().on_first_start()
        if self.answers is not None:
            await self.add_runtime_dependency(self.answers)
        self.add_future(self._watch())

    async def _watch(self) -> None:
        """End the worker where it neither is ready nor comes nearer to it: what has hung is found nowhere else."""
        seen: object = None
        since = time.monotonic()
        while not self.should_stop:
            await asyncio.sleep(1.0)
            found = list(self.followers())
            now = (
                self.changelog_left,
                len(found),
                sum(f.loaded for f in found),
                self.consumer_generation_id,
                any(f.busy for f in found),
            )
            if now != seen or self.ready:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > (OPEN_LIMIT_S if now[4] else STUCK_S):
                die("not ready, and nothing moves")

    def _new_transport(self) -> FoldTransport:
        return FoldTransport(self.conf.broker_consumer, self)

    def wanted_topics(self) -> dict[str, int]:
        """Return the topics that workers follow, and how many partitions each has."""
        topics = self.address.topics
        counts = topics.partitions(self.manifest.partitions)
        return {
            topics.inputs: 1,
            **{name: n for name, n in counts.items() if name not in (topics.quarantine, topics.digests)},
        }

    def followers(self) -> Iterator[Follower]:
        """Yield every shard that this worker has."""
        for table in self.fold_tables.values():
            yield from list(table.followers.values())

    def places(self) -> Iterator[tuple[TP, int]]:
        """Yield where each followed partition goes on."""
        for follower in self.followers():
            if follower.loaded:
                yield TP(follower.topic, follower.partition), follower.shard.offset + 1

    async def forget_before(self, topic: str, partition: int, offset: int) -> None:
        """Let the broker delete what lies before an offset; where it does not, it stays, and costs only room."""
        admin = AIOKafkaAdminClient(bootstrap_servers=list(self.address.servers), **security())
        try:
            await admin.start()
            await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})
        except Exception as error:
            log.info("%s-%d: what lies before offset %d stays: %r", topic, partition, offset, error)
        finally:
            await admin.close()

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        """Read a partition again from an offset."""
        tp = TP(topic, partition)
        if tp in self.consumer.assignment():
            log.info("%s-%d: back to offset %d", topic, partition, offset)
            await self.consumer.seek(tp, offset)

    async def changed(self, topic: str, partition: int, offset: int, digest: bytes) -> str:
        """Return what is wrong with a partition of which a record was folded; empty where the record is there still."""

        def look() -> str:
            with Client(self.address.servers) as client:
                end = client.end(topic, partition)
                if end <= offset:
                    return cut_short(end, offset)
                record = next(iter(client.read(topic, partition, offset, offset + 1)), None)
                if record is not None and record_hash(record.value) == digest:
                    return ""
                return f"offset {offset}: not so: {ANOTHER_RECORD}"

        # Only the journal must be there from its beginning.
        return await asyncio.to_thread(look) if topic == self.address.topics.inputs and offset >= 0 else ""

    def highwater(self, topic: str, partition: int) -> int | None:
        """Return the end of a partition as the consumer knows it."""
        tp = TP(topic, partition)
        try:
            found = self.consumer.highwater(tp) if tp in self.consumer.assignment() else None
        except Exception:
            return None
        return found if isinstance(found, int) else None

    @property
    def changelog_left(self) -> int:
        """Messages of changelogs that are still to be applied."""
        return sum(max(0, left) for left in self.tables.recovery.active_remaining().values())

    async def on_stop(self) -> None:
        """Write last checkpoints, then stop."""
        for table in self.fold_tables.values():
            await table.finish()
        await super().on_stop()

    @property
    def ready(self) -> bool:
        """Every shard that this worker has is restored, and none has stopped."""
        found = list(self.followers())
        return (
            self.tables.recovery.completed.is_set()
            and all(f.loaded and f.failed is None for f in found)
            and not self.rebalancing
        )


def build(
    address: KafkaAddress,
    manifest: StoreManifest,
    data: Path,
    *,
    worker: str,
    url: str,
    checkpoint_s: float,
    session_s: float,
) -> FoldApp:
    """Return the application of one worker.

    Args:
        address: the store.
        manifest: as its topic states.
        data: this worker's own folder.
        worker: its name: with the same one it comes back to the same partitions at once.
        url: where it answers questions.
        checkpoint_s: seconds between checkpoints.
        session_s: after so many seconds of silence its partitions go to others.
    """
    app = FoldApp(
        address.group,
        broker=[f"kafka://{server}" for server in address.servers],
        broker_credentials=_credentials(),
        store="rocksdb://",
        datadir=str(data / "faust"),
        canonical_url=url,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_wait_empty=False,
        stream_buffer_maxsize=BUFFERED,
        stream_recovery_delay=0.0,
        stream_processing_timeout=1e9,
        broker_commit_livelock_soft_timeout=1e9,
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 6,
        broker_rebalance_timeout=30.0,
        broker_request_timeout=max(30.0, session_s + 1),
        broker_max_poll_interval=3600.0,
        consumer_group_instance_id=worker,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MESSAGE_LIMIT,
        producer_linger=0,
        producer_acks=-1,
        producer_max_request_size=MESSAGE_LIMIT,
        producer_max_batch_size=1 << 20,
        producer_request_timeout=30.0,
        PartitionAssignor=FoldAssignor,
        agent_supervisor=mode.CrashingSupervisor,
        autodiscover=False,
    )
    app.address, app.manifest, app.checkpoint_s, app.fold_tables = address, manifest, checkpoint_s, {}
    app.seal = configured_seal()
    topics = address.topics
    for source, partitions in (
        (topics.inputs, 1),
        (topics.accounts, manifest.partitions),
        (topics.effects, manifest.partitions + 1),
    ):
        table = FoldTable(app, source=source, partitions=partitions, folder=data / "tables")
        app.fold_tables[source] = app.tables.add(table)
    intake.wire(app, app.fold_tables[topics.inputs])
    accounts.wire(app, app.fold_tables[topics.accounts])
    effects.wire(app, app.fold_tables[topics.effects])
    alerts.wire(app)

    @app.task
    async def keep_time() -> None:
        while not app.should_stop:
            await asyncio.sleep(BEAT_S)
            for follower in app.followers():
                await follower.beat()

    return app


def _credentials() -> Any:
    settings = security()
    protocol = settings["security_protocol"]
    if protocol == "PLAINTEXT":
        return None
    if protocol == "SSL":
        return faust.SSLCredentials(settings["ssl_context"])
    return faust.SASLCredentials(
        username=settings["sasl_plain_username"],
        password=settings["sasl_plain_password"],
        ssl_context=settings.get("ssl_context"),
        mechanism=settings["sasl_mechanism"],
    )
