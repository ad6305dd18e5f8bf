"""The stream of effects as server-sent events: nothing missed, nothing twice, over reconnects and restarts.

An event's id is the effect's place (``<sequence>-<group>/<number>``), which is the order of effects. A client that comes
again with the last id it saw gets what follows: first from the store's record, then as it is decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson

from margin_stream.core.effect_book import Emitted
from margin_stream.schemas.effects import EffectPlace, decode_effect, split_id
from margin_stream.views.effect import describe_effect

QUEUE_LIMIT = 10_000
"""A client that lies so many effects behind is cut; it comes again with its last id."""
KEEP_ALIVE_S = 15
START = EffectPlace(0, "", 0)

Row = dict[str, Any]


class PlaceInvalid(ValueError):
    """An id of the stream cannot be read."""


def place_of_id(text: str) -> EffectPlace:
    """Return the place that an event's id names; a sequence number alone stands behind all of its effects.

    Raises:
        PlaceInvalid: it is none.
    """
    number, dash, effect = text.partition("-")
    if not number.isdigit() or len(number) > 18:
        raise PlaceInvalid(f"{text!r} is no id of this stream: <sequence>-<effect>, or a sequence number")
    if not dash:
        return EffectPlace(int(number), "\x7f", 0)
    try:
        return EffectPlace(int(number), *split_id(effect))
    except ValueError:
        raise PlaceInvalid(f"{text!r} is no id of this stream: <sequence>-<effect>, or a sequence number") from None


def place_of_row(row: Row) -> EffectPlace:
    """Return the place of an effect that is described."""
    return EffectPlace(row["sequence"], *split_id(row["id"]))


def event_of(row: Row) -> bytes:
    """Return an effect as a server-sent event."""
    return b"id: %d-%s\nevent: %s\ndata: %s\n\n" % (
        row["sequence"],
        row["id"].encode(),
        row["type"].encode(),
        orjson.dumps(row),
    )


class Subscription:
    """What one client is to be sent."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Row] = asyncio.Queue(QUEUE_LIMIT)
        self.cut = asyncio.Event()
        """It is too slow, or the service stops."""


class Hub:
    """Hands effects to every client."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self.sent = 0
        """Events handed to clients."""
        self.cuts = 0
        """Clients that were too slow."""

    def __len__(self) -> int:
        return len(self._subscriptions)

    def emitted(self, effects: Sequence[Emitted]) -> None:
        """Take effects that are recorded, in order."""
        if not self._subscriptions:
            return
        for row in (describe_effect(decode_effect(effect.data)) for effect in effects):
            for subscription in list(self._subscriptions):
                try:
                    subscription.queue.put_nowait(row)
                except asyncio.QueueFull:
                    self.cuts += 1
                    self._subscriptions.discard(subscription)
                    subscription.cut.set()

    def close(self) -> None:
        """End every client's stream."""
        for subscription in self._subscriptions:
            subscription.cut.set()

    async def follow(
        self,
        after: EffectPlace | None,
        wanted: Callable[[Row], bool],
        recorded: Callable[[int], Any],
    ) -> AsyncIterator[bytes]:
        """Yield events behind a place, then as they come; ends where the client is too slow or the service stops.

        Args:
            after: the place; None for what comes from now on.
            wanted: whether the client is shown an effect.
            recorded: returns the effects behind a sequence number.
        """
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            last = after or START
            if after is not None:
                # The effects of the sequence number itself may be seen in part.
                for row in await recorded(max(after.sequence - 1, 0)):
                    if place_of_row(row) > last:
                        last = place_of_row(row)
                        if wanted(row):
                            self.sent += 1
                            yield event_of(row)
            while not (subscription.cut.is_set() and subscription.queue.empty()):
                row = await self._next(subscription)
                if row is None:
                    if subscription.cut.is_set():
                        return
                    yield b": alive\n\n"
                elif place_of_row(row) > last:
                    last = place_of_row(row)
                    if wanted(row):
                        self.sent += 1
                        yield event_of(row)
        finally:
            self._subscriptions.discard(subscription)

    @staticmethod
    async def _next(subscription: Subscription) -> Row | None:
        """Return the next effect; None where none came for a while, or the stream is to end."""
        if not subscription.queue.empty():
            return subscription.queue.get_nowait()
        getting = asyncio.ensure_future(subscription.queue.get())
        cutting = asyncio.ensure_future(subscription.cut.wait())
        done, waiting = await asyncio.wait(
            {getting, cutting}, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED
        )
        for task in waiting:
            task.cancel()
        return getting.result() if getting in done else None
