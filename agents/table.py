"""A Faust table whose rows are those of a fold: one RocksDB database a partition, restored and checkpointed by its
followers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import faust
from faust.stores import rocksdb
from faust.types import TP, EventT

from margin_stream.agents.crash import die
from margin_stream.agents.follower import Follower
from margin_stream.kafka.shard_table import ShardTable

OPEN_LIMIT_S = 120


class FoldStore(rocksdb.Store):
    """The databases of the partitions that this worker has."""

    def __init__(self, table: FoldTable) -> None:
        super().__init__(
            "rocksdb://",
            table.app,
            table,
            table_name=table.name,
            options={"driver": "rocksdict", "block_cache_size": 8 << 20, "write_buffer_size": 4 << 20},
        )
        self._table = table

    def persisted_offset(self, tp: TP) -> int | None:
        """Return how far the changelog of a partition was read."""
        follower = self._table.followers.get(tp.partition)
        return None if follower is None or follower.table is None else follower.table.changelog_offset

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Nothing: the database notes how far its changelog was read in the batch with the rows."""

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Close the databases of partitions that went, open those of partitions that came."""
        await self._table.follow({tp.partition for tp in assigned if tp.topic == self._table.changelog_topic_name})

    def apply_changelog_batch(
        self, batch: Iterable[EventT], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Apply deltas."""
        touched: dict[int, ShardTable] = {}
        for event in batch:
            follower = self._table.followers.get(event.message.partition)
            if follower is not None and follower.table is not None:
                follower.table.apply_changelog(event.message.offset, event.message.value)
                touched[event.message.partition] = follower.table
        for _, table in sorted(touched.items()):
            table.note_changelog()

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Fill the shards from their rows."""
        try:
            await asyncio.gather(
                *(
                    self._table.followers[tp.partition].load()
                    for tp in active_tps
                    if tp.partition in self._table.followers
                )
            )
        except Exception as error:
            die(f"restoring {self._table.name}: {error!r}")

    async def stop(self) -> None:
        """Nothing: the table closes the databases."""

    def reset_state(self) -> None:
        """Nothing: what cannot be trusted is thrown away when it is opened."""


class FoldTable(faust.Table):
    """A table that follows one source topic; its changelog is a topic of deltas, with as many partitions."""

    def __init__(self, app: Any, *, source: str, partitions: int, folder: Path, **kwargs: Any) -> None:
        self.source = source
        self.folder = folder
        self.followers: dict[int, Follower] = {}
        changelog = app.topic(
            app.address.topics.changelog(source),
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=partitions,
            acks=False,
            internal=True,
            allow_empty=True,
            maxsize=64,
        )
        super().__init__(
            app, name=source, partitions=partitions, changelog_topic=changelog, recovery_buffer_size=16, **kwargs
        )

    def _new_store(self) -> FoldStore:
        return FoldStore(self)

    async def follow(self, partitions: set[int]) -> None:
        """Follow just these partitions."""
        for partition in sorted(set(self.followers) - partitions):
            await self.followers.pop(partition).close()
        fresh = sorted(partitions - set(self.followers))
        for partition in fresh:
            path = self.folder / f"{self.source.rpartition('.')[2]}-{partition}"
            self.followers[partition] = Follower(self.app, self.source, partition, self.changelog_topic_name, path)
        try:
            await asyncio.wait_for(
                asyncio.gather(*(self.followers[partition].open() for partition in fresh)), OPEN_LIMIT_S
            )
        except Exception as error:
            die(f"opening tables of {self.source}: {error!r}")

    async def take(self, event: EventT) -> None:
        """Hand a record to the follower of its partition; wait where more is to be sent than should be held."""
        follower = self.followers.get(event.message.partition)
        if follower is not None:
            follower.accept(event.message.offset, event.message.value)
            await follower.ebb()

    async def finish(self) -> None:
        """Write last checkpoints and close everything."""
        for follower in list(self.followers.values()):
            await follower.checkpoint()
        await self.follow(set())
