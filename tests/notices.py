"""A fold for tests: asks for a notice of each margin call, and waits for the answer an hour at most. It reads effects,
answers and the clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from margin_stream.core.effect_book import EffectBook, Emitted
from margin_stream.core.questions import Questions
from margin_stream.core.sequenced import Answered, Clocked
from margin_stream.schemas.effects import AnswerExpired, AnswerRequested, MarginCallIssued, decode_effect, group_of

LIMIT_NS = 3600 * 1_000_000_000


class PlainFold:
    """What ``FoldBase`` has, in plain Python: a class that is not compiled cannot inherit from one that is."""

    reads: tuple[type, ...] = ()
    reads_effects = False
    measures: Mapping[str, str] = {}

    def follow(self, effect: Emitted) -> None:
        pass

    def market_digest(self) -> bytes:
        return b""

    def sums(self) -> Mapping[int, int]:
        return {}

    def facts(self) -> Iterator[dict[str, Any]]:
        return iter(())


class Notices(PlainFold):
    name = "notices"
    reads = (Clocked, Answered)
    reads_effects = True

    def __init__(self, book: EffectBook) -> None:
        self._book = book
        self.questions = Questions()
        self.seen: list[tuple[int, str, int]] = []
        """Every effect that was read, as (sequence number, group, number); not a fact."""

    def apply(self, item: Clocked | Answered) -> None:
        if isinstance(item, Answered):
            self.questions.close(item.effect)
            return
        for question in self.questions.expired(item.now_ns):
            self._book.emit(AnswerExpired, item.sequence, item.now_ns, group_of(question), question=question)

    def follow(self, effect: Emitted) -> None:
        self.seen.append((effect.sequence, effect.group, effect.number))
        found = decode_effect(effect.data)
        if isinstance(found, MarginCallIssued):
            limit = found.at_ns + LIMIT_NS
            fields = {"outbox": "mail", "subject": found.call, "expires_at_ns": limit}
            asked = self._book.emit(AnswerRequested, effect.sequence, found.at_ns, effect.group, **fields)
            self.questions.ask(asked, limit)

    def sums(self) -> Mapping[int, int]:
        return self.questions.sums()

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        return self.questions.rows()

    def mark_stored(self) -> None:
        self.questions.mark_stored()

    def restore(self, _position: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self.questions.restore(rows)

    def digest(self) -> bytes:
        return self.questions.digest()
