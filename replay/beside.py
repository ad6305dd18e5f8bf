"""Replay beside a writer: a second fold of the same journal, which keeps up with the first and compares what both say.

It reads what is durable, never what is under way, and takes no lock. When the writer has closed the store, little is left to be compared.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from margin_stream.core.account_fold import Emitted
from margin_stream.core.system import System
from margin_stream.engine.choosing import DEFAULT, EngineName, drive_of
from margin_stream.journal import log as logs
from margin_stream.journal.records import Cut
from replay.reader import EVERYTHING, StoreReader, fold_prefix
from replay.replaying import Difference, EffectsDigest, Replayed, compare_digests, concluded, differing
from schemas.effects import decode_effect

PAUSE_S = 0.05


class _Log:
    """The effects of one log: what was computed and is not recorded yet, and what is recorded and not computed yet."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.computed: deque[Emitted] = deque()
        self.recorded: deque[bytes] = deque()
        self._cut: Cut = logs.START

    def read(self, reader: StoreReader, whole: EffectsDigest) -> None:
        """Take what was recorded since, and compare as far as both sides are.

        Raises:
            Difference: an effect was recorded otherwise.
        """
        for cut, effects in reader.effects_behind(self.number, self._cut):
            self._cut = cut
            self.recorded.extend(effects)
            self.compare(whole)

    def compare(self, whole: EffectsDigest) -> None:
        """Compare as far as both sides are."""
        computed, recorded = self.computed, self.recorded
        while computed and recorded:
            effect, found = computed.popleft(), recorded.popleft()
            if effect.data != found:
                raise differing(effect, found)
            whole.add(found, effect.group)

    def ended(self) -> None:
        """Raise ``Difference`` where one side has more than the other."""
        if self.computed:
            effect = self.computed[0]
            raise Difference(f"position {effect.position}: {effect.group}/{effect.number} is recomputed, the record has ended")
        if self.recorded:
            found = decode_effect(self.recorded[0])
            raise Difference(f"position {found.position}: {found.id} ({type(found).__name__}) is recorded and not recomputed")


def replay_beside(path: Path, more: Callable[[], bool], *, engine: EngineName = DEFAULT) -> Replayed:
    """Fold a store's journal from nothing while it is written, and compare effects and digests with the record.

    Args:
        path: the store's folder.
        more: asked before each look at the store; False once the writer has closed it, so that this look is the last.
        engine: what drives the ticks.

    Returns:
        What ``replay`` returns of the whole journal, but that ``equal`` covers those recorded digests whose position the fold stood at when
        they were there; the last one always.

    Raises:
        StoreMissing, CorruptManifest, CorruptLog, Fault: as ``replay``.
    """
    reader = StoreReader(path)
    system = System(reader.partitions, **drive_of(engine)._asdict(), engine=reader.engine_version)
    held = [_Log(number) for number in range(reader.partitions + 1)]
    whole = EffectsDigest()
    record = effects = 0
    difference: str | None = None

    def compare_at_checkpoint() -> None:
        for entry in reversed(reader.recorded):
            if entry.position < system.position:
                return
            if entry.position == system.position:
                compare_digests(system, entry.state, entry.effects)
                return

    last = False
    while not last:
        last = not more()
        reader = reader.again()
        if difference is None and record:
            try:
                compare_at_checkpoint()
            except Difference as found:
                difference = str(found)
        before = record
        for parts in fold_prefix(system, reader.items(before), EVERYTHING):
            record += 1
            effects += sum(map(len, parts))
            if difference is not None:
                continue
            try:
                for log, part in zip(held, parts, strict=True):
                    log.computed.extend(part)
                    log.compare(whole)
                compare_at_checkpoint()
            except Difference as found:
                difference = str(found)
        if difference is None:
            try:
                for log in held:
                    log.read(reader, whole)
                    if last:
                        log.ended()
            except Difference as found:
                difference = str(found)
        if record == before and not last:
            time.sleep(PAUSE_S)
    digests = system.digests()
    at_end = next((entry for entry in reader.recorded if entry.position == system.position), None)
    if difference is None and at_end is None:
        difference = f"no digests are recorded at position {system.position}, where the journal ends: the writer did not close the store"
    return concluded(
        digests, at_end, whole.hexdigest(), difference, events=system.position, effects=effects, until=reader.recorded_position
    )
