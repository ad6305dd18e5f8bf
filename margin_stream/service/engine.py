"""The store of a service: written by this process, or by another one while this stands by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from margin_stream import views
from margin_stream.core.effect_book import Emitted
from margin_stream.core.store_fold import StoreFold
from margin_stream.journal.layout import StoreLocked, StoreMissing
from margin_stream.service.index import Index
from margin_stream.store import Ack, OneInput, Store

TAKE_OVER_S = 0.5
"""So often a process that stands by tries to become the writer."""
READ_S = 0.5
"""Folds that a process reads while it stands by are at most so old."""


class NotTheWriter(Exception):
    """Inputs are taken by another process, or by this one in a moment."""


class Engine:
    """A store open for writing where that is possible, else for reading."""

    def __init__(self, path: Path, *, partitions: int | None, emitted: Callable[[Sequence[Emitted]], None]) -> None:
        """
        Args:
            path: the store's folder.
            partitions: for a new store.
            emitted: called with effects once they are recorded, in order.
        """
        self.path = path
        self._partitions = partitions
        self._emitted = emitted
        self.store: Store | None = None
        """None while another process writes, or this one opens the store."""
        self.index: Index | None = None
        """Of the store, while this process writes."""
        self.writer = ""
        """Who writes, where that is another process."""
        self.opening = True
        self.failed: BaseException | None = None
        self._read: tuple[float, StoreFold] | None = None

    async def keep_open(self) -> None:
        """Become the writer as soon as nobody else is, and stay it; ends with ``failed`` set where the store cannot be
        used."""
        while self.store is None:
            try:
                store = await asyncio.to_thread(Store.open, self.path, partitions=self._partitions)
            except StoreLocked as locked:
                self.writer, self.opening = str(locked), False
                await asyncio.sleep(TAKE_OVER_S)
                continue
            except Exception as error:
                self.failed, self.opening = error, False
                return
            self.index = Index(store.folds())
            store.subscribe(self.index.emitted)
            store.subscribe(self._emitted)
            self.store, self.writer, self.opening, self._read = store, "", False, None

    @property
    def ready(self) -> bool:
        """It answers questions and takes inputs, or another process does while this one answers questions."""
        return self.failed is None and not self.opening

    async def send(self, inputs: Sequence[OneInput]) -> list[Ack]:
        """Send inputs; returns once they are durable, with the verdict of each.

        Raises:
            NotTheWriter: this process does not write.
        """
        if self.store is None:
            raise NotTheWriter
        return await self.store.append_many(inputs)

    async def folds(self) -> StoreFold:
        """Return the folds as they are now; while another process writes, as they were half a second ago at most."""
        if self.store is not None:
            return self.store.folds()
        now = asyncio.get_running_loop().time()
        if self._read is None or now - self._read[0] > READ_S:
            try:
                self._read = now, await asyncio.to_thread(views.folds_at, self.path)
            except StoreMissing:
                raise NotTheWriter from None
        return self._read[1]

    @property
    def known(self) -> StoreFold | None:
        """The folds that were last at hand."""
        return self.store.folds() if self.store is not None else None if self._read is None else self._read[1]

    def last_sequence(self) -> int:
        """Return the last sequence number; 0 where the store is not open yet."""
        if self.store is not None:
            return self.store.folds().sequence
        return 0 if self._read is None else self._read[1].sequence

    async def asked(self, question: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Put a question to the store's folder, in a thread: a past moment, the journal, effects."""
        return await asyncio.to_thread(question, *args, **named)

    async def effects_after(self, sequence: int) -> list[dict[str, Any]]:
        """Return the effects behind a sequence number, in order."""
        return await asyncio.to_thread(lambda: list(views.effects(self.path, after=sequence)))

    async def close(self) -> None:
        """Commit, write a checkpoint, and let another writer in."""
        if self.store is not None:
            store, self.store = self.store, None
            await asyncio.to_thread(store.close)
