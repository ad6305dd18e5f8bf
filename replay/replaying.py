"""Replay: fold the journal again and compare everything that was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from margin_stream.core.account_fold import Emitted
from margin_stream.core.digests import MODULUS, NO_CHAIN, chained, combined, effect_leaf, slot_of
from margin_stream.core.system import Digests, System
from margin_stream.engine.choosing import DEFAULT, EngineName, drive_of
from margin_stream.journal.layout import RecordedDigest
from replay.reader import EVERYTHING, Place, Source, Until, fold_prefix, source_of
from schemas.binary import encode
from schemas.effects import INTAKE_GROUP, MARKET_GROUP, decode_effect

Progress = Callable[[int, int], None]
"""Called with records done and records in all."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay found. Digests are hexadecimal SHA-256."""

    events: int
    """Items folded."""
    effects: int
    position: int
    state_digest: str
    effects_digest: str
    recorded_state_digest: str | None
    """As recorded at this position; None where no checkpoint was made here."""
    recorded_effects_digest: str | None
    """Of the recorded effects up to this position; None where effects are not recorded so far yet."""
    recorded_until: int
    """The position up to which effects and digests are recorded."""
    equal: bool
    first_difference: str | None


class Difference(Exception):
    """What was recomputed is not what was recorded; the text says where."""


class EffectsDigest:
    """The effects digest, built from effects as they come."""

    def __init__(self) -> None:
        self._heads: dict[str, tuple[int, bytes]] = {}

    def add(self, data: bytes, group: str = "") -> None:
        """Add one effect; its group is read from it where it is not given."""
        group = group or decode_effect(data).id.rpartition("/")[0]
        count, chain = self._heads.get(group, (0, NO_CHAIN))
        self._heads[group] = (count + 1, chained(chain, data))

    def hexdigest(self) -> str:
        """Return the digest over all groups."""
        intake = self._heads.get(INTAKE_GROUP, (0, NO_CHAIN))
        market = self._heads.get(MARKET_GROUP, (0, NO_CHAIN))
        sums: dict[int, int] = {}
        for group, (count, chain) in self._heads.items():
            if not group.startswith("@"):
                slot = slot_of(group)
                sums[slot] = (sums.get(slot, 0) + effect_leaf(group, count, chain)) % MODULUS
        return combined(encode([intake[0], intake[1], market[0], market[1]]), sums)


def replay(
    place: Place,
    *,
    until: Until = EVERYTHING,
    from_checkpoint: bool = False,
    engine: EngineName = DEFAULT,
    progress: Progress | None = None,
) -> Replayed:
    """Fold the journal from nothing (or the newest checkpoint) and compare effects and digests with the record.

    Args:
        place: a store's folder, or a store open for reading.
        until: the prefix to fold.
        from_checkpoint: begin at the newest checkpoint, if one can be trusted and lies within the prefix.
        engine: what drives the ticks; all give the same.
        progress: told after each record.

    Raises:
        StoreMissing, CorruptManifest, CorruptLog: nothing to compare, or damage with its place.
        Fault: the journal cannot be folded; the position is named.
    """
    reader = source_of(place)
    system, after = System(reader.partitions, **drive_of(engine)._asdict(), engine=reader.engine_version), 0
    if from_checkpoint and until == EVERYTHING:
        loaded = reader.from_checkpoint()
        if loaded is not None:
            system, after = loaded
    start = system.position
    recorded_digest = EffectsDigest()
    recorded = [_from_position(reader, log, start) for log in range(reader.partitions + 1)]
    checkpoints = {entry.position: entry for entry in reader.recorded if entry.position > start}
    difference: str | None = None
    effects = 0
    for done, parts in enumerate(fold_prefix(system, reader.items(after), until), start=1):
        effects += sum(map(len, parts))
        if difference is None:
            try:
                _compare(parts, recorded, recorded_digest, reader.recorded_position)
                entry = checkpoints.get(system.position)
                if entry is not None:
                    compare_digests(system, entry.state, entry.effects)
            except Difference as found:
                difference = str(found)
        if progress is not None:
            progress(done, reader.last_record - after)
    digests = system.digests()
    if difference is None:
        difference = _left_over(recorded, min(system.position, reader.recorded_position))
    within = system.position <= reader.recorded_position
    at_end = next((entry for entry in reader.recorded if entry.position == system.position), None)
    recorded_effects: str | None = None
    if within:
        recorded_effects = recorded_digest.hexdigest() if not after else (at_end.effects if at_end else None)
    return concluded(
        digests, at_end, recorded_effects, difference, events=system.position - start, effects=effects, until=reader.recorded_position
    )


def concluded(
    digests: Digests,
    at_end: RecordedDigest | None,
    recorded_effects: str | None,
    difference: str | None,
    *,
    events: int,
    effects: int,
    until: int,
) -> Replayed:
    """Compare the digests at the end, and return what was found.

    Args:
        digests: of the fold.
        at_end: as recorded at this position, if any was.
        recorded_effects: the digest of the recorded effects up to this position, where they are recorded so far.
        difference: what differed before the end.
        events: items folded.
        effects: effects recomputed.
        until: the position up to which effects and digests are recorded.
    """
    if difference is None and at_end is not None and (at_end.state, at_end.effects) != (digests.state, digests.effects):
        difference = f"the digests at position {digests.position} are not the recorded ones"
    if difference is None and recorded_effects is not None and recorded_effects != digests.effects:
        difference = f"the effects digest at position {digests.position} is not that of the recorded effects"
    return Replayed(
        events=events,
        effects=effects,
        position=digests.position,
        state_digest=digests.state,
        effects_digest=digests.effects,
        recorded_state_digest=at_end.state if at_end else None,
        recorded_effects_digest=recorded_effects,
        recorded_until=until,
        equal=difference is None,
        first_difference=difference,
    )


class _Recorded:
    """The recorded effects of one log, one ahead."""

    def __init__(self, rows: Iterator[bytes]) -> None:
        self._rows = rows
        self.next: bytes | None = next(rows, None)

    def take(self) -> bytes | None:
        taken, self.next = self.next, next(self._rows, None)
        return taken


def _from_position(reader: Source, log: int, start: int) -> _Recorded:
    rows = _Recorded(reader.effects(log))
    while rows.next is not None and start and decode_effect(rows.next).position <= start:
        rows.take()
    return rows


def _compare(parts: list[list[Emitted]], recorded: list[_Recorded], whole: EffectsDigest, recorded_until: int) -> None:
    for part, rows in zip(parts, recorded, strict=True):
        for effect in part:
            if effect.position > recorded_until:
                continue
            found = rows.take()
            if found is None:
                raise Difference(f"position {effect.position}: {effect.group}/{effect.number} is recomputed, the record has ended")
            if found != effect.data:
                whole.add(found)
                raise differing(effect, found)
            whole.add(found, effect.group)


def differing(effect: Emitted, recorded: bytes) -> Difference:
    """Return what is said of an effect that was recorded otherwise."""
    computed, other = decode_effect(effect.data), decode_effect(recorded)
    return Difference(
        f"position {effect.position}: recomputed {computed.id} ({type(computed).__name__}), recorded {other.id} "
        f"({type(other).__name__}) at position {other.position}"
    )


def _left_over(recorded: list[_Recorded], position: int) -> str | None:
    for rows in recorded:
        if rows.next is not None:
            effect = decode_effect(rows.next)
            if effect.position <= position:
                return f"position {effect.position}: {effect.id} ({type(effect).__name__}) is recorded and not recomputed"
    return None


def compare_digests(system: System, state: str, effects: str) -> None:
    """Raise ``Difference`` where the digests are not those recorded at this position."""
    digests = system.digests()
    if (digests.state, digests.effects) != (state, effects):
        raise Difference(f"the digests at position {system.position} are not the recorded ones")
