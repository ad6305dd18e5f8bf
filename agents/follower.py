"""One shard on this worker: takes its records, sends what comes of them, writes checkpoints."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from margin_stream.agents.crash import crash, die, due
from margin_stream.core.checks import Fault
from margin_stream.kafka import fetched
from margin_stream.kafka.client import KafkaError, Unreachable
from margin_stream.kafka.fetched import OffsetsMissing
from margin_stream.kafka.messages import Deltas
from margin_stream.kafka.shard import Accepted, Send, Shard, Unusable
from margin_stream.kafka.shard_table import ShardTable
from margin_stream.kafka.shards import IntakeShard, shard_of

log = logging.getLogger("margin_stream.agents")

FLUSH_ITEMS = 2000
"""So many items make a message at the latest."""
FLUSH_S = 0.002
"""A record that comes within this time of the last message waits for company."""
WAITING_LIMIT = 1000
"""With so many messages waiting to be sent, no more records are folded."""
CHECKPOINT_RECORDS = 20_000
IDLE_S = 0.2
ASK_S = 30.0
"""While inputs come without a pause, digests are asked for this often."""
ASK_AGAIN_LIMIT_S = 3600.0
LOOK_S = 5.0
"""So often a checkpoint looks whether the last record folded is still where it was."""
SEEK_AGAIN_S = 0.5
SEEKS_LIMIT = 20
"""So often it goes back to a record that is missing; then it is a fault."""


def cut_short(end: int, last: int) -> str:
    """Return what is wrong with a topic that ends before what was folded of it."""
    return f"it ends at offset {end}, and offset {last} was folded: the topic was cut or made anew"


class Follower:
    """Follows one partition of one topic."""

    def __init__(self, app: Any, topic: str, partition: int, changelog: str, path: Path) -> None:
        self.app = app
        self.topic = topic
        self.partition = partition
        self.changelog = changelog
        self.path = path
        self.shard: Shard = self._new()
        self.loaded = False
        self.failed: str | None = None
        """A fault: the shard stopped here, the others go on."""
        self.table: ShardTable | None = None
        self.restore_s = 0.0
        self.restores = 0
        self.checkpointed_at = self.accepted_at = self.flushed_at = time.monotonic()
        self.checkpoint_s = 0.0
        self._lock = asyncio.Lock()
        self._to_send: deque[Send] = deque()
        self._wake = asyncio.Event()
        self._in_flight: set[asyncio.Future[Any]] = set()
        self._sending = False
        self._flush_due: asyncio.TimerHandle | None = None
        self._sought_at = 0.0
        self._seeks = 0
        """Since the last record folded."""
        self._asked_at = self._looked_at = 0.0
        self._ask_pause = IDLE_S
        self._tasks: set[asyncio.Future[None]] = set()
        self._pump = asyncio.create_task(self._send_on())

    def _new(self) -> Shard:
        return shard_of(self.app.address.topics, self.app.manifest, self.topic, self.partition, self.app.seal)

    # ---- restoring ------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the table; Faust then applies what the changelog has more."""
        async with self._lock:
            if self.table is None:
                generation = self.app.manifest.generation
                deltas = Deltas(generation, self.changelog, self.partition, self.app.seal)
                self.table = await asyncio.to_thread(ShardTable, self.path, generation, deltas)
                self._log_notes()

    def _log_notes(self) -> None:
        assert self.table is not None
        for note in self.table.notes:
            log.warning(note)
        self.table.notes.clear()

    async def load(self) -> None:
        """Fill the shard from its table, unless what is in memory reaches further."""
        async with self._lock:
            table = self.table
            assert table is not None
            self._log_notes()
            marker = table.marker
            if self.loaded and (marker is None or self.shard.offset >= marker.offset):
                return
            started = time.monotonic()
            shard = self._new()
            try:
                await asyncio.to_thread(table.load, shard)
            except Unusable as error:
                log.warning("%s-%d: %s: folded anew", self.topic, self.partition, error)
                await asyncio.to_thread(table.wipe, str(error))
                shard = self._new()
            table.loaded()
            self.shard = shard
            changed = await self.app.changed(self.topic, self.partition, *shard.last)
            if changed:
                self._fail(changed)
            self._looked_at = time.monotonic()
            self._to_send.clear()
            self.loaded = True
            self.restores += 1
            self.restore_s = time.monotonic() - started
            self.checkpointed_at = time.monotonic()
            log.info(
                "%s-%d: restored to sequence number %d in %.2f s",
                self.topic,
                self.partition,
                shard.sequence,
                self.restore_s,
            )

    async def close(self) -> None:
        """Let go of the partition."""
        self.loaded = False
        self._pump.cancel()
        if self._flush_due is not None:
            self._flush_due.cancel()
        async with self._lock:
            if self.table is not None:
                table, self.table = self.table, None
                await asyncio.to_thread(table.close)

    # ---- following ------------------------------------------------------------------------------------------------

    def accept(self, offset: int, value: bytes | None) -> None:
        """Fold a record, or go back to one that is missing."""
        if not self.loaded or self.failed is not None:
            return
        self._pass_over()
        try:
            accepted = self.shard.accept(offset, value)
        except Fault as error:
            self._fail(f"offset {offset}: {error}")
            return
        for refusal in self.shard.refusals:
            log.error(refusal)
        self.shard.refusals.clear()
        now = time.monotonic()
        if accepted is Accepted.AHEAD:
            if now - self._sought_at > SEEK_AGAIN_S:
                self._sought_at = now
                self._seeks += 1
                if self._seeks > SEEKS_LIMIT:
                    self._fail(str(OffsetsMissing(self.topic, self.partition, self.shard.offset + 1, offset)))
                    return
                self._later(self.app.seek(self.topic, self.partition, self.shard.offset + 1))
            return
        if accepted is Accepted.SKIPPED:
            return
        self.accepted_at = now
        self._seeks = 0
        self._ask_pause = IDLE_S
        if self.shard.unsent >= FLUSH_ITEMS or now - self.flushed_at > FLUSH_S:
            self.flush()
        elif self._flush_due is None:
            self._flush_due = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def _pass_over(self) -> None:
        """Go on behind markers of transactions and what they took back."""
        self.shard.pass_over(fetched.behind(self.topic, self.partition, self.shard.offset + 1))

    def _fail(self, why: str) -> None:
        self.failed = f"{self.topic}-{self.partition}: {why}"
        log.error("stopped by a fault, the others go on: %s", self.failed)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def flush(self) -> None:
        """Hand over what came of the records so far."""
        if self._flush_due is not None:
            self._flush_due.cancel()
            self._flush_due = None
        if not self.loaded or self.failed is not None:
            return
        sends = self.shard.drain()
        self.flushed_at = time.monotonic()
        if sends:
            self._to_send.extend(sends)
            self._wake.set()

    async def _send_on(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._sending = True
            try:
                while self._to_send:
                    send = self._to_send.popleft()
                    if send.topic == self.app.address.topics.digests and self._in_flight:
                        # Whoever reads a digest looks for the effects before it; topics are no faster than their own
                        # messages.
                        await asyncio.wait(set(self._in_flight))
                    future = await self._send(send)
                    if due("sent"):
                        await future
                        die("a trial wants a crash between two messages")
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                die(f"{self.topic}-{self.partition}: cannot send: {error!r}")
            finally:
                self._sending = False

    def _is_sealed(self, topic: str) -> bool:
        topics = self.app.address.topics
        return topic in (topics.accounts, topics.effects, topics.digests, self.changelog)

    async def _send(self, send: Send) -> asyncio.Future[Any]:
        value = self.app.seal.put(send.topic, send.partition, send.value) if self._is_sealed(send.topic) else send.value
        future = await self.app.producer.send(send.topic, send.key, value, send.partition, None, None)
        self._in_flight.add(future)
        future.add_done_callback(self._sent)
        return future  # type: ignore[no-any-return]

    def _sent(self, future: asyncio.Future[Any]) -> None:
        self._in_flight.discard(future)
        if not future.cancelled() and future.exception() is not None:
            die(f"{self.topic}-{self.partition}: the broker did not take a message: {future.exception()!r}")

    async def ebb(self) -> None:
        """Wait while more is to be sent than should be held."""
        while len(self._to_send) > WAITING_LIMIT and self.loaded:
            await asyncio.sleep(0.005)

    async def _all_sent(self) -> bool:
        """Wait until the broker has everything; False where the partition was let go of meanwhile."""
        while self._to_send or self._sending or self._in_flight:
            if not self.loaded:
                return False
            if self._in_flight:
                await asyncio.wait(set(self._in_flight), timeout=0.1)
            else:
                await asyncio.sleep(0.001)
        return True

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    async def beat(self) -> None:
        """Called every now and then: ask for digests, write a checkpoint, where it is time."""
        if not self.loaded or self.failed is not None:
            return
        now = time.monotonic()
        shard = self.shard
        end = self.app.highwater(self.topic, self.partition)
        if end is not None and end <= shard.last[0]:
            self._fail(cut_short(end, shard.last[0]))
            return
        self._pass_over()
        if isinstance(shard, IntakeShard) and shard.sequence:
            idle = now - self.accepted_at > IDLE_S
            since = now - self._asked_at
            if shard.offset != shard.asked_at:
                if (idle and since > IDLE_S) or since > ASK_S:
                    self._ask(shard)
            elif idle and since > self._ask_pause:
                self._ask_pause = min(max(2.0, 2 * self._ask_pause), ASK_AGAIN_LIMIT_S)
                self._ask(shard)
        stored = -1 if self.table is None or self.table.marker is None else self.table.marker.offset
        if shard.offset > stored and (
            now - self.checkpointed_at > self.app.checkpoint_s or shard.offset - stored > CHECKPOINT_RECORDS
        ):
            await self.checkpoint()

    def _ask(self, shard: IntakeShard) -> None:
        self._asked_at = time.monotonic()
        shard.ask_digests()
        self.flush()

    async def checkpoint(self) -> None:
        """Write rows and marker once everything before them is with the broker, then send the delta without waiting for
        it."""
        async with self._lock:
            table = self.table
            if table is None or not self.loaded or self.failed is not None:
                return
            started = time.monotonic()
            if started - self._looked_at > LOOK_S:
                self._looked_at = started
                # The broker is away, or the topic is: the next look tells.
                with contextlib.suppress(Unreachable, KafkaError):
                    if changed := await self.app.changed(self.topic, self.partition, *self.shard.last):
                        self._fail(changed)
                        return
            self.flush()
            snapshot = self.shard.snapshot()
            crash("snapshot")
            if not await self._all_sent():
                return
            crash("drained")
            await asyncio.to_thread(table.write, snapshot)
            crash("written")
            upto, base, messages = await asyncio.to_thread(table.delta)
            futures = []
            for message in messages:
                futures.append(await self._send(Send(self.changelog, self.partition, None, message)))
                crash("delta")
            self.checkpointed_at = time.monotonic()
            self.checkpoint_s = self.checkpointed_at - started
            self._later(self._acknowledge(table, upto, base, futures))

    async def _acknowledge(self, table: ShardTable, upto: int, base: bool, futures: list[asyncio.Future[Any]]) -> None:
        if futures:
            await asyncio.wait(futures)
        async with self._lock:
            if self.table is table:
                table.delta_acked(upto)
        if base:
            # A base has everything: what lies before it in the changelog is no longer needed.
            await self.app.forget_before(self.changelog, self.partition, futures[0].result().offset)

    @property
    def busy(self) -> bool:
        """Its table is being opened, loaded or written."""
        return self._lock.locked()

    @property
    def checkpoint_age_s(self) -> float:
        """Seconds since the last checkpoint."""
        return time.monotonic() - self.checkpointed_at
