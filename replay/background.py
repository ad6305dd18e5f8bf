"""Replay beside a writer: a second fold of the same journal, which keeps up with the first and compares what both say.

It reads what is durable, never what is under way, and takes no lock. When the writer has closed the store, little is
left to be compared.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from margin_stream.core.store_fold import StoreFold
from margin_stream.journal import log as logs
from margin_stream.journal.layout import RecordedDigest
from margin_stream.journal.records import Cut
from margin_stream.replay.comparison import Comparison, Replayed
from margin_stream.revaluation import DEFAULT, RevaluationName
from margin_stream.revaluation.choice import revaluation_of
from margin_stream.views.source import EVERYTHING, StoreReader, fold_prefix

PAUSE_S = 0.05


class _Log:
    """The recorded effects of one log, as far as they are read."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._recorded: deque[bytes] = deque()
        self._cut: Cut = logs.START

    def read(self, reader: StoreReader) -> None:
        """Read what was recorded since."""
        for cut, effects in reader.effects_behind(self._number, self._cut):
            self._cut = cut
            self._recorded.extend(effects)

    def following(self) -> bytes | None:
        """Return the next effect, None where none is read."""
        return self._recorded.popleft() if self._recorded else None


def replay_beside(path: Path, more: Callable[[], bool], *, revaluation: RevaluationName = DEFAULT) -> Replayed:
    """Fold a store's journal from nothing while it is written, and compare effects and digests with the record.

    Args:
        path: the store's folder.
        more: asked before each look at the store; False once the writer has closed it, so that this look is the last.
        engine: what drives the ticks.

    Returns:
        What ``replay`` returns of the whole journal, but that ``equal`` covers those recorded digests whose sequence
        number the fold stood at when they were there; the last one always.

    Raises:
        StoreMissing, CorruptManifest, CorruptLog, Fault: as ``replay``.
    """
    reader = StoreReader(path)
    system = StoreFold(reader.partitions, **revaluation_of(revaluation)._asdict(), rules_version=reader.rules_version)
    held = [_Log(number) for number in range(reader.partitions + 1)]
    comparison = Comparison(system, [log.following for log in held], live=True)
    record = 0
    last = False
    while not last:
        last = not more()
        reader = reader.again()
        if record:
            comparison.compare_digests(_at(reader, system.sequence))
        before = record
        for parts in fold_prefix(system, reader.items(before), EVERYTHING):
            record += 1
            comparison.take(parts)
            comparison.compare_digests(_at(reader, system.sequence))
        for log in held:
            log.read(reader)
        comparison.compare()
        if record == before and not last:
            time.sleep(PAUSE_S)
    comparison.end(system.sequence)
    at_end = _at(reader, system.sequence)
    if at_end is None and comparison.difference is None:
        comparison.difference = (
            f"no digests are recorded at sequence number {system.sequence}, where the journal ends: the "
            "writer did not close the store"
        )
    return comparison.conclude(at_end, comparison.book.hexdigest(), reader.recorded_sequence)


def _at(reader: StoreReader, sequence: int) -> RecordedDigest | None:
    """Return the digests recorded at a sequence number, if any were."""
    for entry in reversed(reader.recorded):
        if entry.sequence <= sequence:
            return entry if entry.sequence == sequence else None
    return None
