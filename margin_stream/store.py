"""``Store``: the engine as a library. ``from margin_stream import Store``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from margin_stream import views
from margin_stream.core.intake.admission import Counts
from margin_stream.core.intake.fold import Verdict
from margin_stream.core.store_fold import Digests
from margin_stream.host.embedded import CHECKPOINT_ITEMS, Host, Recovery
from margin_stream.replay.comparison import Replayed
from margin_stream.replay.replay import replay
from margin_stream.replay.verification import Verified, verify
from margin_stream.schemas.inputs import AnyInput, Input
from margin_stream.schemas.times import parse_time
from margin_stream.views.source import EVERYTHING, Until

OneInput = bytes | str | Mapping[str, Any] | AnyInput
"""An input: an NDJSON line, the same as a mapping, or a typed event."""


class Ack(NamedTuple):
    """An input is durable: it, or the first of its kind, survives any crash."""

    sequence: int
    """Of the item; for a duplicate, the last sequence number when it came."""
    verdict: Verdict
    reason: str = ""
    """Why it was refused."""


class Store:
    """A store open for writing, in this process alone; readers in other processes are free to follow.

    No threads run but the one that waits for the disk, and nothing happens at import.
    """

    def __init__(self, host: Host, checkpoint_items: int) -> None:
        self._host = host
        self._checkpoint_items = checkpoint_items
        self._waiting: list[tuple[asyncio.Future[Ack], Ack]] = []
        self._committing: asyncio.Task[None] | None = None
        self._since_checkpoint = 0

    @classmethod
    def open(
        cls, path: str | Path, *, partitions: int | None = None, checkpoint_items: int = CHECKPOINT_ITEMS
    ) -> Store:
        """Open a store, or make one.

        Args:
            path: the store's folder.
            partitions: for a new store; 1 if left out.
            checkpoint_items: tables are written after about so many inputs.

        Raises:
            StoreLocked: another process writes to it.
            CorruptLog, CorruptManifest: it is damaged; file and offset are named.
        """
        return cls(Host(Path(path), partitions=partitions, checkpoint_items=checkpoint_items), checkpoint_items)

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self._host.layout.root

    @property
    def recovery(self) -> Recovery:
        """What opening took."""
        return self._host.recovery

    async def append(self, given: OneInput) -> Ack:
        """Append one input; returns once it is durable. Concurrent callers share a disk write (group commit).

        Raises:
            OSError: the disk failed; the store must be opened again.
        """
        verdict = self._offer(given)
        reason = self._host.system.intake.last_refusal
        ack = Ack(self._host.system.sequence, verdict, reason[0].value if verdict is Verdict.REFUSED and reason else "")
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, ack))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.ensure_future(self._commit())
        return await future

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
        """Append many inputs; returns once all are durable."""
        return self._host.ingest(given if isinstance(given, Input) else _line(given) for given in inputs)

    def digests(self) -> Digests:
        """Return the digests at the last sequence number."""
        return self._host.system.digests()

    def checkpoint(self) -> Digests:
        """Write the tables, so that the next start is quick; return the digests."""
        return self._host.checkpoint()

    def replay(self, until: str | int | None = None) -> Replayed:
        """Fold the journal from nothing and compare with the record."""
        return replay(self.path, until=_until(until))

    def verify(self) -> Verified:
        """Check everything of the store."""
        return verify(self.path)

    def state(self, account: str, at: str | int | None = None) -> dict[str, Any]:
        """Return an account, now or at a moment (RFC 3339) or sequence number.

        Raises:
            AccountUnknown: it was not open then.
        """
        return views.account_state(self._view(at), account, _until(at))

    def calls(
        self, account: str | None = None, *, open_only: bool = False, at: str | int | None = None
    ) -> list[dict[str, Any]]:
        """Return margin calls by deadline."""
        return views.calls(self._view(at), account=account, open_only=open_only, until=_until(at))

    def accounts(
        self,
        *,
        short: bool = False,
        stale: bool = False,
        level: str | None = None,
        desk: str | None = None,
        near: str | None = None,
        at: str | int | None = None,
    ) -> list[dict[str, Any]]:
        """Return accounts, the deepest level first, then the largest shortfall; see ``views.accounts``."""
        return views.accounts(
            self._view(at), short=short, stale=stale, level=level, desk=desk, near=near, until=_until(at)
        )

    def facts(self, fold: str, at: str | int | None = None) -> list[dict[str, Any]]:
        """Return what a fold of the whole store knows, row by row; ``feeds`` has what came of each source, and when.

        Raises:
            FoldUnknown: there is no such fold.
        """
        return views.facts(self._view(at), fold, _until(at))

    def _view(self, at: str | int | None) -> views.View:
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
        return orjson.dumps(given)
    return given.encode() if isinstance(given, str) else given


def _until(at: str | int | None) -> Until:
    if at is None:
        return EVERYTHING
    return Until(sequence=at) if isinstance(at, int) else Until(time_ns=parse_time(at))
