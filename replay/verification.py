"""Verify: is anything of a store damaged? Read-only; every problem is named by file and offset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from margin_stream.core.checks import Fault
from margin_stream.core.effect_book import EffectBook
from margin_stream.journal import highwater
from margin_stream.journal import log as logs
from margin_stream.journal.layout import CorruptManifest, Layout, Manifest, RecordedDigest, read_manifest
from margin_stream.journal.log_end import durable_cut, find_end
from margin_stream.journal.records import (
    HEADER,
    NO_CHAIN,
    CorruptLog,
    Cut,
    Record,
    read_head,
    read_header,
    segment_name,
    segments,
)
from margin_stream.replay.replay import replay
from margin_stream.replay.table_checks import check_tables
from margin_stream.schemas.binary import UNDECODABLE, decode_payload, item_count
from margin_stream.schemas.effects import recorded_effects
from margin_stream.views.source import Place

ATTEMPTS = 3
"""What a writer changes under a reader's eyes is read again so often before it counts as damage."""


class Problem(msgspec.Struct, frozen=True):
    """Something that is damaged."""

    file: str
    offset: int | None
    what: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    ok: bool
    problems: list[Problem]
    records: int
    items: int
    effects: int
    chain: str
    """The SHA-256 chain over the journal's records at its durable end, hexadecimal."""
    torn_tail_bytes: int
    """Bytes behind the durable mark of the journal: never acknowledged, cut by the next writer. No problem."""
    checkpoint_position: int
    folded: bool
    """The journal was folded and compared with what was recorded."""


def verify(path: Path, *, fold: bool = True, tables: bool = True) -> Verified:
    """Check everything of a store.

    Args:
        path: a store's folder.
        fold: also fold the journal from nothing and compare effects, digests and tables with it.
        tables: also open the tables (RocksDB writes small files of its own beside them, even for reading).

    Raises:
        StoreMissing: there is no store.
    """
    layout = Layout(path)
    problems: list[Problem] = []
    try:
        manifest = read_manifest(layout)
    except CorruptManifest as error:
        problem = Problem(str(layout.manifest), 0, str(error))
        return Verified(
            ok=False,
            problems=[problem],
            records=0,
            items=0,
            effects=0,
            chain="",
            torn_tail_bytes=0,
            checkpoint_position=0,
            folded=False,
        )
    inspector = _Inspector(layout, manifest, problems)
    # The order matters beside a writer: what recorded digests speak of is durable in the other logs, so they are read
    # first.
    inspector.recorded()
    inspector.journal()
    inspector.compare_counts()
    inspector.effects()
    if tables:
        inspector.tables()
    folded = fold and not problems and refold(path, problems, str(layout.journal), str(layout.effects))
    return Verified(
        ok=not problems,
        problems=problems,
        records=inspector.record_count,
        items=inspector.items,
        effects=inspector.effect_count,
        chain=inspector.chain.hex(),
        torn_tail_bytes=inspector.torn,
        checkpoint_position=inspector.checkpoint_position,
        folded=folded,
    )


def refold(place: Place, problems: list[Problem], journal: str, effects: str) -> bool:
    """Fold the journal from nothing and compare; add what differs, named by journal or effects, and return whether it
    could be folded."""
    try:
        replayed = replay(place)
    except (Fault, CorruptLog, *UNDECODABLE) as error:
        problems.append(Problem(journal, None, f"the journal cannot be folded: {error}"))
        return False
    if not replayed.equal:
        problems.append(Problem(effects, None, f"folding the journal differs: {replayed.first_difference}"))
    return True


class _Inspector:
    def __init__(self, layout: Layout, manifest: Manifest, problems: list[Problem]) -> None:
        self._layout = layout
        self._manifest = manifest
        self._problems = problems
        self.record_count = self.items = self.effect_count = self.torn = self.checkpoint_position = 0
        self.chain = b""
        self._digests: list[RecordedDigest] = []
        self._digest_places: list[tuple[Path, int]] = []
        self._items_at: dict[int, int] = {0: 0}

    def _report(self, file: Path, offset: int | None, what: str) -> None:
        self._problems.append(Problem(str(file), offset, what))

    def _records(self, folder: Path) -> Iterator[Record]:
        """Yield a log's durable records; damage becomes a problem and ends the log."""
        identity = self._manifest.identity
        try:
            mark = highwater.read(folder / highwater.NAME, identity)
            upto = mark.cut if mark.certain else durable_cut(folder, identity)
        except CorruptLog as damage:
            self._report(damage.path, damage.offset, damage.what)
            return
        for offset, what in mark.damaged:
            self._report(folder / highwater.NAME, offset, what)
        last: Record | None = None
        visited = {1}
        try:
            for record in logs.read(folder, identity, upto=upto.number):
                last = record
                visited.add(record.cut.segment)
                yield record
            if last is None and upto.number == 0:
                # Nothing is durable: the header of the first segment is checked all the same.
                read_header(read_head(folder / segment_name(1)), folder / segment_name(1), identity, 1)
        except CorruptLog as damage:
            self._report(damage.path, damage.offset, damage.what)
            return
        except FileNotFoundError:
            self._report(folder / segment_name(1), 0, "the segment is missing")
            return
        if last is not None and last.cut.chain != upto.chain:
            self._report(
                folder / segment_name(last.cut.segment), last.offset, "the chain is not that of the high-water mark"
            )
        end = last.cut if last is not None else Cut(0, 1, HEADER.size, NO_CHAIN)
        for first in segments(folder):
            if first <= end.number and first not in visited:
                self._report(
                    folder / segment_name(first), 0, f"the segment is not part of the log: record {first} is in another"
                )
        self._behind(folder, end)

    def _behind(self, folder: Path, end: Cut) -> None:
        """What lies behind the durable mark: loose ends are counted, anything else is a problem.

        Beside a writer these bytes change while they are read, so they are a problem only if they are one again, with
        the mark where it was.
        """
        identity = self._manifest.identity
        fault: CorruptLog | None = None
        for _ in range(ATTEMPTS):
            try:
                mark = highwater.read(folder / highwater.NAME, identity)
                ending = find_end(folder, identity, mark, end)
                self.torn += sum(found.length for found in ending.loose)
                return
            except CorruptLog as damage:
                fault = damage
            except FileNotFoundError:
                # A segment in the making, which a writer removed meanwhile.
                continue
        if fault is not None:
            self._report(fault.path, fault.offset, fault.what)

    def journal(self) -> None:
        """Checksums, numbers, chain and content of the journal."""
        for record in self._records(self._layout.journal):
            self.record_count += 1
            self.chain = record.cut.chain
            try:
                self.items += item_count(decode_payload(record.payload))
            except UNDECODABLE as error:
                path = self._layout.journal / segment_name(record.cut.segment)
                self._report(path, record.offset, f"record {record.number} cannot be decoded: {error}")
            self._items_at[record.number] = self.items

    def recorded(self) -> None:
        """The log of recorded digests."""
        for record in self._records(self._layout.digests):
            path = self._layout.digests / segment_name(record.cut.segment)
            try:
                entry = msgspec.msgpack.decode(record.payload, type=RecordedDigest)
            except UNDECODABLE as error:
                self._report(path, record.offset, f"record {record.number} cannot be decoded: {error}")
                continue
            self._digests.append(entry)
            self._digest_places.append((path, record.offset))

    def compare_counts(self) -> None:
        """The recorded digests against the journal's counts."""
        sound = not self._problems
        for entry, (path, offset) in zip(self._digests, self._digest_places, strict=True):
            expected = self._items_at.get(entry.journal_record)
            if expected is not None and expected != entry.sequence:
                what = (
                    f"sequence number {entry.sequence} was recorded at record {entry.journal_record}, the "
                    f"journal has {expected}"
                )
                self._report(path, offset, what)
            elif expected is None and sound:
                self._report(
                    path,
                    offset,
                    f"record {entry.journal_record} was checkpointed, the journal ends at {self.record_count}",
                )

    def effects(self) -> None:
        """The recorded effects: their logs, and their digest at the last checkpoint."""
        upto = self._digests[-1] if self._digests else None
        whole = EffectBook()
        sound = len(self._problems)
        for folder in self._layout.effects_logs(self._manifest.partitions):
            for record in self._records(folder):
                try:
                    found = recorded_effects(record.payload)
                    whole.read(found, upto.sequence if upto else 0)
                    self.effect_count += len(found)
                except UNDECODABLE as error:
                    path = folder / segment_name(record.cut.segment)
                    self._report(path, record.offset, f"record {record.number} cannot be decoded: {error}")
        if upto is not None and len(self._problems) == sound and whole.hexdigest() != upto.effects:
            self._report(
                self._layout.effects,
                None,
                f"the recorded effects do not have the digest recorded at sequence number {upto.sequence}",
            )

    def tables(self) -> None:
        """The tables: rows against their markers, against the logs, and against the digest recorded at that sequence
        number."""
        found = check_tables(self._layout, self._manifest, self._digests)
        self.checkpoint_position = found.sequence
        reported = {(problem.file, problem.what) for problem in self._problems}
        for path, what in found.problems:
            if (str(path), what) not in reported:
                self._report(path, None, what)
