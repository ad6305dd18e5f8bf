"""An outbox: reads recorded effects in order, hands each to what acts on it, and brings what comes of it back into the
journal.

Effects come by (sequence number, group, number), whatever partition decided them, at least once: the cursor is saved
behind what was handled and answered, so after a crash the last ones come again. That does no harm: an answer is known
by the effect and its number (``core/intake/answers.py``), and the first one stands; what acts on an effect uses its id
to do nothing twice. A question that nobody answers is closed by its time limit, which is in the journal
(``core/questions.py``).

Only effects up to a number that is complete in every log are read, so that none with a smaller place can follow.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from margin_stream.host.embedded import Host
from margin_stream.kafka.address import KafkaAddress
from margin_stream.kafka.client import Client
from margin_stream.kafka.producer import produce
from margin_stream.kafka.reader import KafkaReader
from margin_stream.outbox.cursors import Cursor, CursorDiffers, CursorStore
from margin_stream.schemas.binary import canonical_bytes, encode_payload
from margin_stream.schemas.effects import AnyEffect, EffectPlace, decode_effect, place_of
from margin_stream.schemas.inputs import EffectAnswered, tag_of
from margin_stream.views.source import Source, StoreReader

STEP_LIMIT = 256
"""So many effects are handled between two saved cursors, at most."""


class Unavailable(Exception):
    """What acts on effects cannot now: the outbox stops before this effect, and goes on with it the next time."""


class Answer(NamedTuple):
    """What came of an effect."""

    outcome: str
    at_ns: int
    """When it happened outside."""
    detail: str = ""
    number: int = 1
    """Of the answers to this effect."""


Handler = Callable[[AnyEffect], Sequence[Answer]]
"""Acts on an effect; may be given the same one again."""


class _Tail:
    """What was read of one log and not handled yet."""

    def __init__(self, mark: Sequence[Any]) -> None:
        self.read = self.handled = mark
        self.waiting: deque[tuple[EffectPlace, AnyEffect, Sequence[Any] | None]] = deque()
        """Place, effect, and, with the last effect of a record, the mark behind it."""

    def fill(self, source: Source, log: int, after: tuple[int, str, int]) -> None:
        """Read on until enough waits for one step."""
        if len(self.waiting) >= STEP_LIMIT:
            return
        for mark, datas in source.effects_behind(log, self.read):
            self.read = mark
            effects = [decode_effect(data) for data in datas]
            fresh = [(place_of(effect), effect, None) for effect in effects if place_of(effect) > after]
            if fresh:
                self.waiting.extend(fresh[:-1])
                self.waiting.append((fresh[-1][0], fresh[-1][1], mark))
            elif not self.waiting:
                self.handled = mark
            if len(self.waiting) >= STEP_LIMIT:
                return


class Outbox:
    """One outbox, by name: its cursor and what acts on its effects."""

    def __init__(self, name: str, cursors: CursorStore, handle: Handler) -> None:
        """
        Args:
            name: its answers come from the source ``@name``; lower-case letters, digits, ``_``, ``-``.
            cursors: keeps how far it is.
            handle: acts on each effect; returns no answer for those that are not its own.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
            raise ValueError(f"{name[:80]!r} is no name of an outbox: a-z, then up to 62 of a-z 0-9 _ -")
        self.name = name
        self._cursors = cursors
        self._handle = handle
        self._cursor = cursors.load()
        self._tails: list[_Tail] = []

    @property
    def cursor(self) -> Cursor:
        """How far it is."""
        return self._cursor

    def step(self, source: Source, upto: int, send: Callable[[Sequence[EffectAnswered]], None]) -> int:
        """Handle the next effects; return how many.

        Args:
            source: the store, opened for reading after ``upto`` was known.
            upto: the sequence number up to which effects are recorded in every log.
            send: brings answers into the journal; returns once they are durable.

        Raises:
            CursorDiffers: the cursor is of another store.
        """
        store, generation = source.lineage
        if self._cursor.store not in ("", store):
            raise CursorDiffers(
                f"outbox {self.name}: its cursor is of store {self._cursor.store}, not of {store}", outbox=self.name
            )
        if self._cursor.generation != generation or len(self._tails) != source.partitions + 1:
            same = self._cursor.generation == generation and len(self._cursor.marks) == source.partitions + 1
            self._tails = [_Tail(mark) for mark in (self._cursor.marks if same else [()] * (source.partitions + 1))]
        for log, tail in enumerate(self._tails):
            tail.fill(source, log, self._cursor.place)
        handled, place = 0, self._cursor.place
        try:
            while handled < STEP_LIMIT:
                tail = min(
                    (tail for tail in self._tails if tail.waiting),
                    key=lambda tail: tail.waiting[0][0],
                    default=_Tail(()),
                )
                if not tail.waiting or tail.waiting[0][0][0] > upto:
                    break
                following, effect, mark = tail.waiting[0]
                answers = self._handle(effect)
                if answers:
                    send([self._answered(effect, answer) for answer in answers])
                tail.waiting.popleft()
                tail.handled = mark or tail.handled
                place = following
                handled += 1
        except Unavailable:
            pass
        if handled:
            self._cursor = Cursor(*place, store, generation, [list(tail.handled) for tail in self._tails])
            self._cursors.save(self._cursor)
        return handled

    def _answered(self, effect: AnyEffect, answer: Answer) -> EffectAnswered:
        """Return an answer as the input that it is.

        Raises:
            msgspec.ValidationError: a field is not what the schema has; nothing of it was journalled.
        """
        fields = {
            "source": f"@{self.name}",
            "source_seq": answer.number,
            "event_time": answer.at_ns,
            "effect": effect.id,
        }
        fields |= {"type": tag_of(EffectAnswered), "outcome": answer.outcome, "detail": answer.detail}
        return msgspec.convert(fields, EffectAnswered)


def step_on_folder(outbox: Outbox, host: Host) -> int:
    """Handle what a host has recorded; return how many effects.

    Raises:
        CursorDiffers: the cursor is of another store, or of a later state of this one (an older copy was put back).
    """

    def send(answers: Sequence[EffectAnswered]) -> None:
        for answer in answers:
            host.offer(answer)
        host.commit()

    upto = host.publish_effects()
    if outbox.cursor.sequence > upto:
        what = (
            f"its cursor stands at {outbox.cursor.sequence}, the store ends at {upto}: it is of a later "
            "state, which was lost"
        )
        raise CursorDiffers(f"outbox {outbox.name}: {what}", outbox=outbox.name, store=host.layout.root)
    return outbox.step(StoreReader(host.layout.root), upto, send)


def step_on_topics(outbox: Outbox, client: Client, address: KafkaAddress) -> int:
    """Handle what the workers have recorded; return how many effects."""

    def send(answers: Sequence[EffectAnswered]) -> None:
        produce(client, address, [encode_payload([canonical_bytes(answer) for answer in answers])])

    reader = KafkaReader(client, address)
    return outbox.step(reader, reader.recorded_sequence, send)
