"""When a lost high-water file can be written again without losing anything that was acknowledged.

For the journal: never. The file is the only thing that states how far inputs were acknowledged; whatever else is known
(tables, recorded digests, effects) states that it was *at least* so far. A journal that ends too early would pass for a
short one.

For what is derived from the journal there is proof elsewhere. Effects are made durable at checkpoints alone, and each
checkpoint records the digest over all effects up to its position: if those that are there have that digest, none is
missing or changed, and what came later is recomputed. The log of recorded digests is whole if its last entry is the
checkpoint at which the tables stand.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from margin_stream.core.effect_book import EffectBook
from margin_stream.journal import highwater
from margin_stream.journal import log as logs
from margin_stream.journal.highwater import HighWater
from margin_stream.journal.layout import Layout, Manifest, RecordedDigest
from margin_stream.journal.log_end import Ending, find_end
from margin_stream.journal.records import CorruptLog, Record, walk
from margin_stream.replay.table_checks import check_tables
from margin_stream.schemas.binary import UNDECODABLE
from margin_stream.schemas.effects import recorded_effects

JOURNAL_REASON = (
    "the high-water file is the only record of how far the journal was acknowledged: without it a lost tail "
    "cannot be told from a short one"
)


class NotProven(Exception):
    """The end of a log cannot be shown to be its end; the text states why."""


def derived(layout: Layout, manifest: Manifest, lost: list[Path]) -> dict[Path, Ending]:
    """Return how the logs end whose high-water files are lost.

    Raises:
        NotProven: it cannot be shown of one of them.
    """
    if layout.journal in lost:
        raise NotProven(JOURNAL_REASON)
    try:
        # Where whole records end: nothing is known to be durable.
        ends = {folder: find_end(folder, manifest.identity, HighWater(1, logs.START, ())) for folder in lost}
        records = _records(layout.digests, manifest.identity, ends)
        recorded = [msgspec.msgpack.decode(record.payload, type=RecordedDigest) for record in records]
        if layout.digests in ends:
            _prove_digests(layout, manifest, recorded)
        if any(folder in ends for folder in layout.effects_logs(manifest.partitions)):
            _prove_effects(layout, manifest, recorded, ends)
    except (CorruptLog, *UNDECODABLE) as error:
        raise NotProven(f"what would prove where the log ends is damaged too: {error}") from None
    return ends


def _records(folder: Path, store_id: bytes, ends: dict[Path, Ending]) -> list[Record]:
    if folder not in ends:
        return list(logs.read(folder, store_id))
    return [found for found in walk(folder, store_id, logs.START) if isinstance(found, Record)]


def _prove_digests(layout: Layout, manifest: Manifest, recorded: list[RecordedDigest]) -> None:
    tables = check_tables(layout, manifest, recorded)
    # That the mark itself is lost is no word against the tables.
    against = [what for path, what in tables.problems if path.name != highwater.NAME]
    if against or not recorded or tables.sequence != recorded[-1].sequence:
        last = recorded[-1].sequence if recorded else 0
        why = (
            against[0]
            if against
            else f"the tables stand at sequence number {tables.sequence}, the last recorded digest is of {last}"
        )
        raise NotProven(f"recorded digests may be missing at the end: {why}")


def _prove_effects(
    layout: Layout, manifest: Manifest, recorded: list[RecordedDigest], ends: dict[Path, Ending]
) -> None:
    if not recorded:
        # No checkpoint yet: no effect was made durable, and all are recomputed.
        return
    last = recorded[-1]
    whole = EffectBook()
    for folder in layout.effects_logs(manifest.partitions):
        for record in _records(folder, manifest.identity, ends):
            whole.read(recorded_effects(record.payload), last.sequence)
    if whole.hexdigest() != last.effects:
        raise NotProven(
            f"the effects that are there do not have the digest recorded at sequence number {last.sequence}: some are "
            f"missing"
        )
