"""The comparison of what is recomputed with what was recorded: effects log by log, digests where they were recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from margin_stream.core.effect_book import EffectBook, Emitted
from margin_stream.core.store_fold import StoreFold
from margin_stream.journal.layout import RecordedDigest
from margin_stream.schemas.effects import decode_effect


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay found. Digests are hexadecimal SHA-256."""

    events: int
    """Items folded."""
    effects: int
    sequence: int
    state_digest: str
    effects_digest: str
    recorded_state_digest: str | None
    """As recorded at this sequence number; None where no checkpoint was made here."""
    recorded_effects_digest: str | None
    """Of the recorded effects up to this sequence number; None where effects are not recorded so far yet."""
    recorded_until: int
    """The sequence number up to which effects and digests are recorded."""
    equal: bool
    first_difference: str | None


class Comparison:
    """Compares while a store is folded anew; the first difference stands, and ends the comparing."""

    def __init__(
        self, system: StoreFold, recorded: Sequence[Callable[[], bytes | None]], *, live: bool = False
    ) -> None:
        """
        Args:
            system: that folds anew.
            recorded: of each log, gives the next recorded effect; None where there is none, or none yet.
            live: effects may be recorded later than they are recomputed.
        """
        self._system = system
        self._start = system.sequence
        self._recorded = recorded
        self._live = live
        self._computed: list[deque[Emitted]] = [deque() for _ in recorded]
        self._effects = 0
        self.book = EffectBook()
        """Of the recorded effects that were compared."""
        self.difference: str | None = None

    def take(self, parts: Sequence[Sequence[Emitted]], until: int | None = None) -> None:
        """Take recomputed effects, log by log, and compare those up to ``until``, all where it is None."""
        self._effects += sum(map(len, parts))
        if self.difference is None:
            for computed, part in zip(self._computed, parts, strict=True):
                computed.extend(part if until is None else [effect for effect in part if effect.sequence <= until])
            self.compare()

    def compare(self) -> None:
        """Compare as far as both sides are."""
        for computed, following in zip(self._computed, self._recorded, strict=True):
            while computed and self.difference is None:
                found = following()
                if found is None:
                    if not self._live:
                        self._ended(computed[0])
                    break
                effect = computed.popleft()
                self.book.add(effect.group, found)
                if effect.data != found:
                    mine, other = decode_effect(effect.data), decode_effect(found)
                    self.difference = (
                        f"sequence number {effect.sequence}: recomputed {mine.id} ({type(mine).__name__}), recorded "
                        f"{other.id} "
                        f"({type(other).__name__}) at sequence number {other.sequence}"
                    )

    def compare_digests(self, entry: RecordedDigest | None) -> None:
        """Compare the digests with those recorded at this sequence number, if any were."""
        if self.difference is None and entry is not None:
            digests = self._system.digests()
            if (digests.state, digests.effects) != (entry.state, entry.effects):
                self.difference = f"the digests at sequence number {digests.sequence} are not the recorded ones"

    def end(self, until: int) -> None:
        """Compare what is left: up to a sequence number neither side may have more than the other."""
        for computed, following in zip(self._computed, self._recorded, strict=True):
            if self.difference is None and computed:
                self._ended(computed[0])
            if self.difference is None and (found := following()) is not None:
                effect = decode_effect(found)
                if effect.sequence <= until:
                    self.difference = (
                        f"sequence number {effect.sequence}: {effect.id} ({type(effect).__name__}) is "
                        "recorded and not recomputed"
                    )

    def _ended(self, effect: Emitted) -> None:
        self.difference = (
            f"sequence number {effect.sequence}: {effect.group}/{effect.number} is recomputed, the record has ended"
        )

    def conclude(self, at_end: RecordedDigest | None, recorded_effects: str | None, until: int) -> Replayed:
        """Compare the digests at the end, and return what was found.

        Args:
            at_end: the digests recorded at this sequence number, if any were.
            recorded_effects: the digest of the recorded effects up to this sequence number, where they are recorded so
                far.
            until: the sequence number up to which effects and digests are recorded.
        """
        self.compare_digests(at_end)
        digests = self._system.digests()
        if self.difference is None and recorded_effects not in (None, digests.effects):
            self.difference = (
                f"the effects digest at sequence number {digests.sequence} is not that of the recorded effects"
            )
        return Replayed(
            events=digests.sequence - self._start,
            effects=self._effects,
            sequence=digests.sequence,
            state_digest=digests.state,
            effects_digest=digests.effects,
            recorded_state_digest=at_end.state if at_end else None,
            recorded_effects_digest=recorded_effects,
            recorded_until=until,
            equal=self.difference is None,
            first_difference=self.difference,
        )
