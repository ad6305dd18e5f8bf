"""Replay: fold the journal again and compare everything that was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from margin_stream.core.store_fold import StoreFold
from margin_stream.replay.comparison import Comparison, Replayed
from margin_stream.revaluation import DEFAULT, RevaluationName
from margin_stream.revaluation.choice import revaluation_of
from margin_stream.schemas.effects import decode_effect
from margin_stream.views.source import EVERYTHING, Place, Source, Until, fold_prefix, source_of


def replay(
    place: Place,
    *,
    until: Until = EVERYTHING,
    from_checkpoint: bool = False,
    revaluation: RevaluationName = DEFAULT,
    progress: Callable[[int, int], None] | None = None,
) -> Replayed:
    """Fold the journal from nothing (or the newest checkpoint) and compare effects and digests with the record.

    Args:
        place: a store's folder, or a store open for reading.
        until: the prefix to fold.
        from_checkpoint: begin at the newest checkpoint, if one can be trusted and lies within the prefix.
        engine: what drives the ticks; all give the same.
        progress: called after each record with records done and records in all.

    Raises:
        StoreMissing, CorruptManifest, CorruptLog: nothing to compare, or damage with its place.
        Fault: the journal cannot be folded; the sequence number is named.
    """
    reader = source_of(place)
    system, after = (
        StoreFold(reader.partitions, **revaluation_of(revaluation)._asdict(), rules_version=reader.rules_version),
        0,
    )
    if from_checkpoint:
        loaded = reader.from_checkpoint(until)
        if loaded is not None:
            system, after = loaded
    start, recorded_until = system.sequence, reader.recorded_sequence
    recorded = [partial(next, _behind(reader, log, start), None) for log in range(reader.partitions + 1)]
    comparison = Comparison(system, recorded)
    checkpoints = {entry.sequence: entry for entry in reader.recorded if entry.sequence > start}
    for done, parts in enumerate(fold_prefix(system, reader.items(after), until), start=1):
        comparison.take(parts, recorded_until)
        comparison.compare_digests(checkpoints.get(system.sequence))
        if progress is not None:
            progress(done, reader.last_record - after)
    if until == EVERYTHING and system.sequence < recorded_until and comparison.difference is None:
        comparison.difference = (
            f"sequence number {recorded_until}: digests are recorded there, the journal folds to {system.sequence}"
        )
    comparison.end(min(system.sequence, recorded_until))
    at_end = next((entry for entry in reader.recorded if entry.sequence == system.sequence), None)
    recorded_effects: str | None = None
    if system.sequence <= recorded_until:
        recorded_effects = comparison.book.hexdigest() if not after else (at_end.effects if at_end else None)
    return comparison.conclude(at_end, recorded_effects, recorded_until)


def _behind(reader: Source, log: int, start: int) -> Iterator[bytes]:
    """Yield the recorded effects of a log behind a sequence number."""
    for data in reader.effects(log, start):
        if not start or decode_effect(data).sequence > start:
            yield data
