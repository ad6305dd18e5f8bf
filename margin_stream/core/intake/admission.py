"""Admission: the only way into a store. It takes bytes or a typed event, and gives the verdict and the bytes to
journal.

A *raw item* is bytes with a mark in front: ``L`` and a line of NDJSON, or ``M`` and a msgpack item
(``schemas.records``). Every host, replay and every copy of a journal come this way, so an input has one fate wherever
it comes from:

* what was refused as undecodable before is known by its bytes, whatever a later rules version could read in them;
* what cannot be decoded under the rules version in force is refused, and kept as the bytes that came;
* an event is offered to the intake with its canonical bytes, which are made once, compared there, and journalled;
* an event that the intake refuses is kept as the bytes that came, if any came.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

from margin_stream.core.intake.fold import IntakeFold, Verdict
from margin_stream.core.intake.validation import Reason
from margin_stream.schemas.binary import JournalItem, canonical_bytes, encode
from margin_stream.schemas.columns import TickColumns, ticks_of
from margin_stream.schemas.inputs import AnyInput, PriceTicked
from margin_stream.schemas.ndjson import clipped, decode_line, encode_line
from margin_stream.schemas.records import ITEM, LINE, decode_raw
from margin_stream.schemas.refusals import RefusedInput

ACCEPTED, DUPLICATE, REFUSED = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.REFUSED


class Counts(NamedTuple):
    """What became of items."""

    accepted: int = 0
    duplicate: int = 0
    refused: int = 0

    def plus(self, other: Counts) -> Counts:
        """Return the sum."""
        return Counts(self.accepted + other.accepted, self.duplicate + other.duplicate, self.refused + other.refused)


COUNT_OF = {ACCEPTED: Counts(1, 0, 0), DUPLICATE: Counts(0, 1, 0), REFUSED: Counts(0, 0, 1)}


class Record(Protocol):
    """Where what is to be journalled goes: the next record."""

    def add(self, item: bytes) -> None:
        """Add an encoded item."""

    def add_tick(self, tick: PriceTicked) -> None:
        """Add a tick, which may be laid in columns with its neighbours."""


Refused = Callable[[int, bytes, Reason], None]
"""Told of a refusal: its sequence number, the raw item that came, reason and detail."""


class Admission:
    """Admits inputs to one intake."""

    def __init__(self, intake: IntakeFold, record: Record | None = None, refused: Refused | None = None) -> None:
        """
        Args:
            intake: that decides.
            record: takes what is accepted or refused; None where the inputs lie in a journal already.
            refused: told of each raw item that is refused.
        """
        self.intake = intake
        self._record = record
        self._refused = refused

    def line(self, line: bytes) -> Verdict:
        """Admit one line of NDJSON, without its line end."""
        line = clipped(line)
        intake = self.intake
        if intake.sources.is_known_undecodable(line):
            return DUPLICATE
        try:
            event = decode_line(line, intake.market.rules_version)
        except RefusedInput as refused:
            # Kept short: where no memory is left, CPython turns in a circle as it leaves a handler that lies far behind
            # a function's begin.
            return self._undecodable(LINE + line, refused)
        return self._offer(event, line, LINE)

    def event(self, event: AnyInput) -> Verdict:
        """Admit one typed event: its canonical bytes, read as anybody's are."""
        counts = self._raw(ITEM + canonical_bytes(event))
        return ACCEPTED if counts.accepted else REFUSED if counts.refused else DUPLICATE

    def singles(self, item: JournalItem) -> list[tuple[AnyInput | None, JournalItem]]:
        """Return an item of a journal as single ones, each with the event that it is, None where it stays undecodable;
        nothing is admitted."""
        event: AnyInput | TickColumns | None = item if not isinstance(item, bytes) else None
        if isinstance(item, bytes) and not self.intake.sources.is_known_undecodable(item[1:]):
            with contextlib.suppress(RefusedInput):
                event = decode_raw(item, self.intake.market.rules_version)
        if isinstance(event, TickColumns):
            return [(tick, tick) for tick in ticks_of(event)]
        return [(event, item)]

    def item(self, item: JournalItem) -> Counts:
        """Admit one item of a journal: an event, ticks in columns, or a raw item."""
        if isinstance(item, TickColumns):
            return self._columns(item)
        if isinstance(item, bytes):
            return self._raw(item)
        return COUNT_OF[self._offer(item, b"", b"")]

    def _raw(self, raw: bytes) -> Counts:
        body = raw[1:]
        if self.intake.sources.is_known_undecodable(body):
            return COUNT_OF[DUPLICATE]
        try:
            item = decode_raw(raw, self.intake.market.rules_version)
        except RefusedInput as refused:
            return COUNT_OF[self._undecodable(raw, refused)]
        if isinstance(item, TickColumns):
            return self._columns(item)
        return COUNT_OF[self._offer(item, body, raw[:1])]

    def _columns(self, columns: TickColumns) -> Counts:
        if self._record is None:
            found = Counts(*self.intake.offer_columns(columns))
            if found.refused and self._refused is not None:
                ticks = list(ticks_of(columns))
                for sequence, place, reason in self.intake.refused_ticks:
                    self._refused(sequence, line_of(ticks[place]), reason)
            return found
        counts = Counts()
        for tick in ticks_of(columns):
            verdict = self.intake.offer(tick, b"")
            if verdict is ACCEPTED:
                self._record.add_tick(tick)
            elif verdict is REFUSED:
                self._record.add(encode(line_of(tick)))
            counts = counts.plus(COUNT_OF[verdict])
        return counts

    def _offer(self, event: AnyInput, body: bytes, mark: bytes) -> Verdict:
        """Offer an event to the intake; ``body`` are the bytes that it came as, behind their mark, empty where it came
        typed."""
        record = self._record
        if type(event) is PriceTicked:
            verdict = self.intake.offer(event, b"")
            if verdict is REFUSED:
                self._tell(mark + body)
            if record is not None:
                if verdict is ACCEPTED:
                    record.add_tick(event)
                elif verdict is REFUSED:
                    record.add(encode(mark + body) if mark else canonical_bytes(event))
            return verdict
        content = canonical_bytes(event)
        verdict = self.intake.offer(event, content)
        if verdict is REFUSED:
            self._tell(mark + body)
        if record is not None and verdict is not DUPLICATE:
            record.add(encode(mark + body) if mark and verdict is REFUSED else content)
        return verdict

    def _undecodable(self, raw: bytes, refused: RefusedInput) -> Verdict:
        verdict = self.intake.offer_undecodable(raw[1:], refused.refusal, refused.detail)
        if verdict is REFUSED:
            self._tell(raw)
            if self._record is not None:
                self._record.add(encode(raw))
        return verdict

    def _tell(self, raw: bytes) -> None:
        reason = self.intake.last_refusal
        if self._refused is not None and reason is not None:
            self._refused(self.intake.sequence, raw, reason)


def line_of(tick: PriceTicked) -> bytes:
    """Return the raw item that a tick in columns stands for: its line."""
    return LINE + encode_line(tick)[:-1]
