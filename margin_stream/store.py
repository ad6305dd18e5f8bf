"""``Store``: the engine as a library. ``from margin_stream import Store``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from margin_stream import views
from margin_stream.core.effect_book import Emitted
from margin_stream.core.intake.admission import Counts
from margin_stream.core.intake.fold import Verdict
from margin_stream.core.store_fold import Digests, StoreFold
from margin_stream.host.embedded import CHECKPOINT_ITEMS, Host, Recovery
from margin_stream.journal.layout import Layout, read_manifest
from margin_stream.replay.comparison import Replayed
from margin_stream.replay.replay import replay
from margin_stream.replay.verification import Verified, verify
from margin_stream.schemas.inputs import AnyInput, Input
from margin_stream.schemas.times import format_time, moment_ns
from margin_stream.views.moments import At, until_of

OneInput = bytes | str | Mapping[str, Any] | AnyInput
"""An input: an NDJSON line, the same as a mapping (decimals as text or ``Decimal``, times as text or aware ``datetime``),
or a typed event."""


class Ack(NamedTuple):
    """An input is durable: it, or the first of its kind, survives any crash."""

    sequence: int
    """Of the item; for a duplicate, the last sequence number when it came."""
    verdict: Verdict
    reason: str = ""
    """Why it was refused."""


class StoreView:
    """A store open for reading, beside a writer or without one: each answer is of what is durable by then.

    Answers are plain mappings, as ``--json`` prints them. ``at`` names the end of a prefix of the journal: a moment (an
    aware ``datetime``, or RFC 3339), a day, or a sequence number (``"#1200"``, or an integer).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """See ``Store.read``."""
        layout = Layout(Path(path))
        read_manifest(layout)
        self._root = layout.root

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self._root

    def _view(self, at: At = None) -> views.View:
        """Return what a question is put to."""
        del at
        return self.path

    def digests(self) -> Digests:
        """Return the digests at the last sequence number."""
        return views.folds_at(self._view()).digests()

    def replay(self, until: At = None) -> Replayed:
        """Fold the journal from nothing and compare with the record."""
        return replay(self.path, until=until_of(until))

    def verify(self) -> Verified:
        """Check everything of the store."""
        return verify(self.path)

    def state(self, account: str, at: At = None) -> dict[str, Any]:
        """Return an account, now or then.

        Raises:
            AccountUnknown: it was not open then.
        """
        return views.account_state(self._view(at), account, until_of(at))

    def calls(
        self,
        account: str | None = None,
        *,
        open_only: bool = False,
        overdue: bool = False,
        desk: str | None = None,
        at: At = None,
    ) -> list[dict[str, Any]]:
        """Return margin calls by deadline.

        Raises:
            AccountUnknown, DeskUnknown: there is none.
        """
        return views.calls(
            self._view(at), account=account, open_only=open_only, overdue=overdue, desk=desk, until=until_of(at)
        )

    def call(self, call_id: str) -> dict[str, Any]:
        """Return one call with everything that happened to it.

        Raises:
            CallUnknown: the store has no such call.
        """
        return views.call_history(self.path, call_id)

    def accounts(
        self,
        *,
        short: bool = False,
        stale: bool = False,
        level: str | None = None,
        desk: str | None = None,
        near: str | Decimal | None = None,
        at: At = None,
    ) -> list[dict[str, Any]]:
        """Return accounts, the deepest level first, then the largest shortfall; see ``views.accounts``."""
        percent = None if near is None else str(near)
        return views.accounts(
            self._view(at), short=short, stale=stale, level=level, desk=desk, near=percent, until=until_of(at)
        )

    def effects(
        self, *, account: str | None = None, type: str | None = None, after: int | str = 0
    ) -> Iterator[dict[str, Any]]:
        """Yield what was decided, by sequence number, behind one; perhaps of one account or type."""
        return views.effects(self.path, account=account, kind=type, after=_number(after))

    def events(
        self, *, account: str | None = None, type: str | None = None, after: int | str = 0
    ) -> Iterator[dict[str, Any]]:
        """Yield the journal's inputs, by sequence number, behind one; perhaps of one account or type."""
        return views.events(self.path, account=account, kind=type, after=_number(after))

    def refused(self) -> list[dict[str, Any]]:
        """Return the inputs that were refused: id, reason, what is wrong with each, what to do, raw bytes."""
        return list(views.quarantine(self.path))

    def facts(self, fold: str, at: At = None) -> list[dict[str, Any]]:
        """Return what a fold of the whole store knows, row by row; ``feeds`` has what came of each source, and when.

        Raises:
            FoldUnknown: there is no such fold.
        """
        return views.facts(self._view(at), fold, until_of(at))

    def summary(self) -> dict[str, Any]:
        """Return counts: accounts, accounts short, calls by what became of them; and the clock."""
        folds = views.folds_at(self._view())
        accounts = sum(part.account_count for part in folds.accounts)
        return {"sequence": folds.sequence, "accounts": accounts, **views.summary(folds)}

    def __repr__(self) -> str:
        shown = self.summary()
        counts = (
            f"{shown['accounts']:,} accounts, {shown['accounts_short']:,} short, {shown['calls_open']:,} open calls"
        )
        clock = f", clock {shown['clock']}" if shown["clock"] else ""
        return f"<{type(self).__name__} {self.path.name!r}: {counts}, sequence number {shown['sequence']:,}{clock}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{name.replace('_', ' ')}</th><td>{escape(str(value))}</td></tr>"
            for name, value in self.summary().items()
            if value is not None
        )
        return f"<table><caption>{type(self).__name__} {escape(self.path.name)}</caption>{rows}</table>"


class Store(StoreView):
    """A store open for writing, in this process alone; readers in other processes are free to follow.

    No threads run but the one that waits for the disk, and nothing happens at import.
    """

    def __init__(self, host: Host, checkpoint_items: int) -> None:
        """See ``Store.open``."""
        self._root = host.layout.root
        self._host = host
        self._checkpoint_items = checkpoint_items
        self._waiting: list[tuple[asyncio.Future[Ack], Ack]] = []
        self._committing: asyncio.Task[None] | None = None
        self._since_checkpoint = 0
        self._emitted: list[Emitted] = []
        self._subscribers: list[Callable[[Sequence[Emitted]], None]] = []

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        partitions: int | None = None,
        checkpoint_items: int = CHECKPOINT_ITEMS,
    ) -> Store:
        """Open a store for writing, or make one.

        Args:
            path: the store's folder.
            create: make one where there is none.
            partitions: for a new store; 1 if left out.
            checkpoint_items: tables are written after about so many inputs.

        Raises:
            StoreLocked: another process writes to it.
            StoreMissing: there is none, and none is to be made.
            CorruptLog, CorruptManifest: it is damaged; file and offset are named.
        """
        if not create:
            read_manifest(Layout(Path(path)))
        return cls(Host(Path(path), partitions=partitions, checkpoint_items=checkpoint_items), checkpoint_items)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> StoreView:
        """Open a store for reading only, beside a writer or without one; nothing is written, nothing is made.

        Raises:
            StoreMissing: there is none.
            CorruptManifest: it is damaged.
        """
        return StoreView(path)

    @property
    def recovery(self) -> Recovery:
        """What opening took."""
        return self._host.recovery

    async def append(self, given: OneInput) -> Ack:
        """Append one input; returns once it is durable. Concurrent callers share a disk write (group commit).

        Raises:
            OSError: the disk failed; the store must be opened again.
        """
        return await self._committed(self._admit(given))

    async def append_many(self, inputs: Iterable[OneInput]) -> list[Ack]:
        """Append inputs; returns once all are durable, with what became of each. Concurrent callers share a disk write.

        Raises:
            OSError: the disk failed; the store must be opened again.
        """
        acks = [self._admit(given) for given in inputs]
        if acks:
            await self._committed(acks[-1])
        return acks

    def _admit(self, given: OneInput) -> Ack:
        verdict = self._offer(given)
        reason = self._host.system.intake.last_refusal
        return Ack(
            self._host.system.sequence, verdict, reason[0].value if verdict is Verdict.REFUSED and reason else ""
        )

    async def _committed(self, ack: Ack) -> Ack:
        """Return an acknowledgement once what was admitted is durable."""
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, ack))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.ensure_future(self._commit())
        return await future

    def subscribe(self, told: Callable[[Sequence[Emitted]], None]) -> None:
        """Have a function called with the effects of each commit, in order, once they are recorded."""
        self._host.on_effects = self._emitted.extend
        self._subscribers.append(told)

    def _tell(self) -> None:
        if self._emitted:
            batch = sorted(self._emitted, key=lambda one: one[:3])
            self._emitted.clear()
            for told in self._subscribers:
                told(batch)

    def folds(self) -> StoreFold:
        """Return the folds at the last durable record: what ``margin_stream.views`` takes to answer questions."""
        return self._host.folds()

    def _offer(self, given: OneInput) -> Verdict:
        return self._host.offer(given if isinstance(given, Input) else _line(given))

    async def _commit(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                under_way = self._host.begin_commit()
                if under_way is not None:
                    await asyncio.wrap_future(under_way)
                self._host.finish_commit()
                self._tell()
                self._since_checkpoint += len(group)
                if self._since_checkpoint >= self._checkpoint_items:
                    self._since_checkpoint = 0
                    self._host.checkpoint()
            except BaseException as error:
                for future, _ in group:
                    if not future.done():
                        future.set_exception(error)
                if not isinstance(error, Exception):
                    raise
                continue
            for future, ack in group:
                if not future.done():
                    future.set_result(ack)

    def ingest(self, inputs: Iterable[OneInput]) -> Counts:
        """Append many inputs; returns once all are durable.

        Args:
            inputs: lines of NDJSON, mappings or typed events. In a mapping a ``Decimal`` and an aware ``datetime`` do.

        Raises:
            TypeError: a single text or mapping, where an iterable of them is wanted.
        """
        if isinstance(inputs, str | bytes | bytearray | Mapping | Input):
            what = "a list of lines: text.splitlines()" if isinstance(inputs, str | bytes) else "a list of inputs"
            raise TypeError(f"ingest takes {what}, not one {type(inputs).__name__}")
        counts = self._host.ingest(given if isinstance(given, Input) else _line(given) for given in inputs)
        self._tell()
        return counts

    def checkpoint(self) -> Digests:
        """Write the tables, so that the next start is quick; return the digests."""
        return self._host.checkpoint()

    def _view(self, at: At = None) -> views.View:
        """Return the folds at hand for now, and the folder for the past."""
        return self._host.folds() if at is None else self.path

    def close(self) -> Digests:
        """Commit, write a checkpoint, and let the next writer in."""
        return self._host.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._host.__exit__(kind, *rest)


def _line(given: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(given, Mapping):
        return orjson.dumps(given, default=_json, option=orjson.OPT_PASSTHROUGH_DATETIME)
    if isinstance(given, bytes):
        return given
    if isinstance(given, str):
        return given.encode()
    raise TypeError(f"an input is a line, a mapping or a typed event, not {type(given).__name__}")


def _json(value: Any) -> str:
    """Return a value of a mapping as NDJSON has it."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return format_time(moment_ns(value))
    raise TypeError(f"{type(value).__name__} in an input: {value!r}")


def _number(after: int | str) -> int:
    """Return a sequence number, written ``#N`` or as an integer."""
    return after if isinstance(after, int) else until_of(after).sequence or 0


__all__ = ["Ack", "At", "Store", "StoreView"]
