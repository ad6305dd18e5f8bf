"""A store open for reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from margin_stream.core.digests import slot_of
from margin_stream.core.effect_book import Emitted
from margin_stream.core.store_fold import StoreFold
from margin_stream.journal import log as logs
from margin_stream.journal.layout import INTAKE_NAME, Layout, RecordedDigest, partition_name, read_manifest
from margin_stream.journal.log_end import durable_cut
from margin_stream.journal.records import Cut, Record, UndecodableRecord, segment_name
from margin_stream.schemas.binary import UNDECODABLE, JournalItem, decode_payload
from margin_stream.schemas.effects import recorded_effects
from margin_stream.schemas.inputs import AnyInput, ClockTicked
from margin_stream.tables import checkpoints, kept_checkpoints
from margin_stream.tables.checkpoints import Distrusted
from margin_stream.tables.journal_index import Stretch, read_index
from margin_stream.tables.kept_checkpoints import Kept
from margin_stream.tables.rocks import Table, TableError, open_tables

_recorded = msgspec.msgpack.Decoder(RecordedDigest)


class Until(NamedTuple):
    """The end of a prefix of the journal: a sequence number, or a moment (the prefix before the first clock later than
    it)."""

    sequence: int | None = None
    time_ns: int | None = None

    def before(self, item: AnyInput | None, system: StoreFold) -> bool:
        """Return whether an item moves the clock past the moment, so that the prefix ends before it."""
        return (
            self.time_ns is not None
            and isinstance(item, ClockTicked)
            and item.time > self.time_ns
            and system.intake.moves_clock(item)
        )


EVERYTHING = Until()


class Items(NamedTuple):
    """The items of one journal record."""

    number: int
    """Of the record, from 1."""
    items: list[JournalItem]


class Part(NamedTuple):
    """Records of the journal in a row."""

    sequence: int
    """The last sequence number before."""
    record: int
    """The number of the record before."""
    items: Iterator[Items]


class Source(Protocol):
    """A store open for reading, whatever it lies on."""

    partitions: int
    rules_version: int
    """With which the store began."""
    repeats: bool
    """The journal may hold inputs more than once, so its items do not count sequence numbers."""
    recorded: list[RecordedDigest]
    """Digests that were recorded, by sequence number."""
    last_record: int
    """The number of the last record that is durable."""

    @property
    def recorded_sequence(self) -> int:
        """Up to here effects and digests are recorded for good."""

    def items(self, after: int = 0) -> Iterator[Items]:
        """Yield the journal's records behind one, up to the durable end that was found on opening."""

    def parts(self, sequence: int = 0, account: str | None = None) -> Iterator[Part]:
        """Yield the parts of the journal that may have items behind a sequence number, of an account if one is named;
        the last part reaches to the end, and may be empty."""

    def effects(self, log: int, after: int = 0) -> Iterator[bytes]:
        """Yield the recorded effects of one log (0 is the intake's, then one a partition), in order, each once: at least
        those behind a sequence number."""

    def effects_behind(self, log: int, mark: Sequence[Any] = ()) -> Iterator[tuple[Sequence[Any], list[bytes]]]:
        """Yield the recorded effects of one log as they lie, each time with the mark behind them; from a mark, or from
        the start."""

    @property
    def lineage(self) -> tuple[str, str]:
        """The store's id, and the generation of its record of effects: marks of another mean nothing here."""

    def from_checkpoint(self, until: Until = EVERYTHING, only: str | None = None) -> tuple[StoreFold, int] | None:
        """Return folds filled from the newest checkpoint within a prefix, and the journal record it stands at; None where
        there is none to be trusted. ``only``: see ``AccountFold``."""

    def again(self) -> Source:
        """Return the same store opened anew, with what came since."""


Place = Path | Source
"""A store's folder, or a store open for reading."""


def source_of(place: Place) -> Source:
    """Return a store open for reading.

    Raises:
        StoreMissing, CorruptManifest, StoreError, CorruptLog.
    """
    return StoreReader(place) if isinstance(place, Path) else place


T = TypeVar("T")


def _decoded(decode: Callable[[bytes], T], folder: Path, record: Record) -> T:
    """Decode a record whose bytes are whole; that it is another log's shows only here."""
    try:
        return decode(record.payload)
    except UNDECODABLE as error:
        path = folder / segment_name(record.cut.segment)
        raise UndecodableRecord(path, record.offset, f"record {record.number} cannot be decoded: {error}") from None


class StoreReader:
    """Reads a store's folder; nothing is written, no lock is taken."""

    repeats = False

    def __init__(self, path: Path) -> None:
        """
        Raises:
            StoreMissing, CorruptManifest, StoreError, CorruptLog.
        """
        self.layout = Layout(path)
        self.manifest = read_manifest(self.layout)
        # The order matters beside a writer: recorded digests are read first, so what they speak of is durable in the
        # other logs.
        digests = self.layout.digests
        self.recorded = [
            _decoded(_recorded.decode, digests, record) for record in logs.read(digests, self.manifest.identity)
        ]
        self.durable = durable_cut(self.layout.journal, self.manifest.identity)
        self.partitions = self.manifest.partitions
        self.rules_version = self.manifest.rules_version
        self.last_record = self.durable.number
        self._cut = logs.START
        """Where a record that was read last, or that a checkpoint stands at, ends: reading goes on from there."""

    @property
    def recorded_sequence(self) -> int:
        """Up to here effects and digests are recorded for good."""
        return self.recorded[-1].sequence if self.recorded else 0

    def records(self, cut: Cut = logs.START) -> Iterator[Record]:
        """Yield the journal's records behind a cut, up to the durable mark that was found on opening."""
        return logs.read(self.layout.journal, self.manifest.identity, cut, upto=self.durable.number)

    def items(self, after: int = 0) -> Iterator[Items]:
        """Yield the items of the journal's records behind a record."""
        for record in self.records(self._cut if after and after == self._cut.number else logs.START):
            if record.number > after:
                self._cut = record.cut
                yield Items(record.number, _decoded(decode_payload, self.layout.journal, record))

    def again(self) -> StoreReader:
        """Return the store opened anew."""
        found = StoreReader(self.layout.root)
        found._cut = self._cut
        return found

    def parts(self, sequence: int = 0, account: str | None = None) -> Iterator[Part]:
        """Yield parts of the journal, by its index."""
        slot = None if account is None else slot_of(account)
        end, upto = logs.START, 0
        for stretch in self._index():
            if stretch.begin.number != end.number or stretch.end.number > self.durable.number:
                break
            end, upto = stretch.end, stretch.upto
            if upto > sequence and (slot is None or stretch.concerns(slot)):
                yield Part(stretch.sequence, stretch.begin.number, self._items(stretch.begin, stretch.end.number))
        yield Part(upto, end.number, self._items(end, self.durable.number))

    def _items(self, cut: Cut, upto: int) -> Iterator[Items]:
        for record in logs.read(self.layout.journal, self.manifest.identity, cut, upto=upto):
            self._cut = record.cut
            yield Items(record.number, _decoded(decode_payload, self.layout.journal, record))

    def _index(self) -> list[Stretch]:
        """Return the index of the journal as the last checkpoint has it; nothing where it cannot be read."""
        path = self.layout.table(INTAKE_NAME)
        try:
            if not path.exists():
                return []
            table = Table(path, read_only=True)
            try:
                return list(read_index(table))
            finally:
                table.close()
        except (TableError, *UNDECODABLE):
            return []

    def _kept(self, until: Until) -> Kept | None:
        """Return the last kept checkpoint that lies within a prefix."""
        kept = kept_checkpoints.found(self.layout.kept, self.manifest.store_id, self.recorded)
        within = [
            one
            for one in kept
            if one.head.journal.number <= self.durable.number
            and (until.sequence is None or one.head.sequence <= until.sequence)
            and (until.time_ns is None or one.head.clock_ns <= until.time_ns)
        ]
        return within[-1] if within else None

    def effects(self, log: int, after: int = 0) -> Iterator[bytes]:
        """Yield the recorded effects of one log (0 is the intake's, then one a partition), in order."""
        kept = self._kept(Until(sequence=after)) if after else None
        for _, effects in self.effects_behind(log, kept.head.effects_ends[log] if kept else ()):
            yield from effects

    @property
    def lineage(self) -> tuple[str, str]:
        """The store's id; a folder has one record of effects."""
        return self.manifest.store_id, self.manifest.store_id

    def effects_behind(self, log: int, mark: Sequence[Any] = ()) -> Iterator[tuple[Cut, list[bytes]]]:
        """Yield the recorded effects of one log behind a cut, record by record, with the cut where each record ends."""
        folder = self.layout.effects_logs(self.manifest.partitions)[log]
        for record in logs.read(folder, self.manifest.identity, Cut(*mark) if mark else logs.START):
            yield record.cut, _decoded(recorded_effects, folder, record)

    def from_checkpoint(self, until: Until = EVERYTHING, only: str | None = None) -> tuple[StoreFold, int] | None:
        """Return folds filled from the newest checkpoint and the journal record it stands at; None where there is none
        that can be trusted. Of a prefix it is the last kept one within it."""
        return self._from_tables() if until == EVERYTHING else self._from_kept(until, only)

    def _from_kept(self, until: Until, only: str | None) -> tuple[StoreFold, int] | None:
        while (kept := self._kept(until)) is not None:
            system = StoreFold(self.manifest.partitions, only=only, rules_version=self.manifest.rules_version)
            try:
                kept_checkpoints.load(kept, system, only)
            except Distrusted:
                until = Until(kept.head.sequence - 1, until.time_ns)
                continue
            self._cut = kept.head.journal
            return system, kept.head.journal.number
        return None

    def _from_tables(self) -> tuple[StoreFold, int] | None:
        """Fill folds from the tables.

        Beside a running writer the tables may be in the middle of a checkpoint; then the partitions are ahead of the
        intake, which is
        fine: they pass over what they have.
        """
        for _ in range(3):
            tables: list[Table] = []
            try:
                names = [INTAKE_NAME, *(partition_name(n) for n in range(self.manifest.partitions))]
                if not all(self.layout.table(name).exists() for name in names):
                    return None
                tables = open_tables(map(self.layout.table, names), read_only=True)
                system = StoreFold(self.manifest.partitions, rules_version=self.manifest.rules_version)
                marker, *others = (
                    checkpoints.load(table, folds) for table, folds in zip(tables, system.sets, strict=True)
                )
                if marker is None:
                    return None
                for own in others:
                    if own is None or own.sequence < marker.sequence or own.journal.number > self.durable.number:
                        raise Distrusted("not one cut")
                self._cut = marker.journal
                return system, marker.journal.number
            except (Distrusted, TableError):
                continue
            finally:
                for table in tables:
                    table.close()
        return None


def fold_prefix(system: StoreFold, records: Iterable[Items], until: Until) -> Iterator[list[list[Emitted]]]:
    """Fold records up to the end of a prefix; yield the effects, by log, after each record."""
    for record in records:
        ended = False
        for item in record.items:
            if until == EVERYTHING:
                system.admission.item(item)
                continue
            for event, single in system.admission.singles(item):
                if until.before(event, system) or (until.sequence is not None and system.sequence >= until.sequence):
                    ended = True
                    break
                system.admission.item(single)
            if ended:
                break
        yield system.fold()
        if ended or (until.sequence is not None and system.sequence >= until.sequence):
            return
