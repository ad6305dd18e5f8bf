"""The folds of one store joined: the intake and N partitions, in one process. Embedded host, replay and simulator drive this."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from margin_stream.core import models as _models  # noqa: F401  (importing it registers the margin models)
from margin_stream.core.account_fold import AccountFold, Emitted
from margin_stream.core.digests import combined, merged
from margin_stream.core.intake import IntakeFold, Verdict
from margin_stream.core.watching import Watch
from schemas.binary import canonical_bytes
from schemas.columns import TickColumns
from schemas.engines import LATEST
from schemas.inputs import AnyInput
from schemas.ndjson import clipped, decode_line
from schemas.records import LINE, decode_raw
from schemas.refusals import RefusedInput


class Digests(NamedTuple):
    """State and effects at a position, hexadecimal SHA-256."""

    position: int
    state: str
    effects: str


class Counts(NamedTuple):
    """What became of items."""

    accepted: int = 0
    duplicate: int = 0
    refused: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sum."""
        return Counts(self.accepted + other.accepted, self.duplicate + other.duplicate, self.refused + other.refused)


COUNT_OF = {Verdict.ACCEPTED: Counts(1, 0, 0), Verdict.DUPLICATE: Counts(0, 1, 0), Verdict.REFUSED: Counts(0, 0, 1)}


def offer_raw(intake: IntakeFold, raw: bytes) -> Counts:
    """Offer one raw item (``schemas.records``); what cannot be decoded is refused and known by its bytes for ever."""
    body = raw[1:]
    if intake.is_known_undecodable(body):
        return COUNT_OF[Verdict.DUPLICATE]
    try:
        item = decode_raw(raw, intake.market.engine_version)
    except RefusedInput as refused:
        return COUNT_OF[intake.offer_undecodable(body, refused.refusal, refused.detail)]
    if isinstance(item, TickColumns):
        return Counts(*intake.offer_columns(item))
    return COUNT_OF[intake.offer(item, canonical_bytes(item))]


class System:
    """Intake and partitions of one store."""

    def __init__(
        self,
        partitions: int,
        *,
        boxes: bool = True,
        only: str | None = None,
        engine: int = LATEST,
        watch: Callable[[], Watch] | None = None,
    ) -> None:
        """
        Args:
            partitions: how many account folds.
            boxes, only: see ``AccountFold``.
            watch: makes the watch of each partition.
            engine: the engine version that the store began with.
        """
        self.intake = IntakeFold(partitions, engine=engine)
        self.partitions = [AccountFold(boxes=boxes, only=only, engine=engine, watch=watch() if watch else None) for _ in range(partitions)]

    def offer_line(self, line: bytes) -> Verdict:
        """Offer one NDJSON line as it came."""
        line = clipped(line)
        if self.intake.is_known_undecodable(line):
            return Verdict.DUPLICATE
        try:
            event = decode_line(line, self.intake.market.engine_version)
        except RefusedInput as refused:
            return self.intake.offer_undecodable(line, refused.refusal, refused.detail)
        return self.intake.offer(event, canonical_bytes(event))

    def offer(self, item: AnyInput | TickColumns | bytes) -> Counts:
        """Offer one item of a journal record: an event, ticks in columns, or a raw item with its format mark in front."""
        if isinstance(item, TickColumns):
            return Counts(*self.intake.offer_columns(item))
        if isinstance(item, bytes):
            return offer_raw(self.intake, item)
        return COUNT_OF[self.intake.offer(item, canonical_bytes(item))]

    def fold(self, *, compare_markets: bool = False) -> list[list[Emitted]]:
        """Fold what was offered since the last time; return the effects of the intake and of each partition, each list in order."""
        batches, own = self.intake.take(market_digest=compare_markets)
        # A partition restored from a checkpoint ahead of the intake's has folded the first batches already: they are trimmed.
        return [
            own,
            *(
                [] if batch.last <= fold.position and batch.last else fold.apply(batch)
                for fold, batch in zip(self.partitions, batches, strict=True)
            ),
        ]

    def digests(self) -> Digests:
        """Return the digests at the current position."""
        for fold in self.partitions:
            fold.flush()
        state = combined(self.intake.digest(), merged(fold.state_sums for fold in self.partitions))
        effects = combined(self.intake.effects_head(), merged(fold.effect_sums for fold in self.partitions))
        return Digests(self.intake.position, state, effects)

    @property
    def position(self) -> int:
        """The number of the last item."""
        return self.intake.position


RAW_LINE = LINE
"""Format mark of a refused NDJSON line in the journal."""
