"""Faust's consumer, taught to go where the tables stand instead of where the group's commits do."""

from __future__ import annotations

import asyncio
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from margin_stream.kafka import fetched

HAND_ON = 100
FETCH_WAIT_MS = 50
"""Faust waits 1.5 s for a fetch to fill."""


class _Nowhere(dict[TP, Any]):
    """Stands for the offsets read so far: Faust drops what it thinks it has read, and after a seek it would drop what
    must be read again."""

    def __missing__(self, key: TP) -> None:
        return None

    def __setitem__(self, key: TP, value: Any) -> None:
        pass

    def update(self, *_: Any, **__: Any) -> None:
        pass


class FoldConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches without waiting for more to come, and only what is committed."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        fetched.install()
        consumer._isolation_level = fetched.ISOLATION
        return consumer


class FoldConsumer(driver.Consumer):
    """Seeks to what the tables say."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _Nowhere()

    def _new_consumer_thread(self) -> FoldConsumerThread:
        return FoldConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hand fetched records on, one task switch a hundred records instead of two tasks a record.

        Faust races each hand-over against a suspension of the flow. Ours cannot hang: the agents wait for nothing but
        the producer, so a full queue empties; once the flow is suspended Faust's way takes over.
        """
        callback = self.callback
        handed_on = 0
        try:
            while not (self.should_stop or fetcher.should_stop):
                await asyncio.sleep(0)
                async for _, message in self.getmany(timeout=1.0):
                    if self.suspend_flow.is_set():
                        await self.wait_first(callback(message), self.suspend_flow.wait())
                        continue
                    await callback(message)
                    handed_on += 1
                    if handed_on % HAND_ON == 0:
                        await asyncio.sleep(0)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def perform_seek(self) -> None:
        """Seek every partition that a table follows to the record behind its marker, the others to what was
        committed."""
        await super().perform_seek()
        assigned = self.assignment()
        for tp, offset in self.app.places():
            if tp in assigned:
                await self.seek(tp, offset)


class FoldTransport(driver.Transport):
    """aiokafka with the consumer of this module."""

    Consumer = FoldConsumer
