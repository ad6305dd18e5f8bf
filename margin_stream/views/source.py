"""A store open for reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from margin_stream.core.effect_book import Emitted
from margin_stream.core.store_fold import StoreFold
from margin_stream.journal import log as logs
from margin_stream.journal.layout import INTAKE_NAME, Layout, RecordedDigest, partition_name, read_manifest
from margin_stream.journal.log_end import durable_cut
from margin_stream.journal.records import Cut, Record, UndecodableRecord, segment_name
from margin_stream.schemas.binary import JournalItem, decode_payload
from margin_stream.schemas.effects import recorded_effects
from margin_stream.schemas.inputs import AnyInput, ClockTicked
from margin_stream.tables import checkpoints
from margin_stream.tables.checkpoints import Distrusted
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

    def effects(self, log: int) -> Iterator[bytes]:
        """Yield the recorded effects of one log (0 is the intake's, then one a partition), in order, each once."""

    def effects_behind(self, log: int, mark: Sequence[Any] = ()) -> Iterator[tuple[Sequence[Any], list[bytes]]]:
        """Yield the recorded effects of one log as they lie, each time with the mark behind them; from a mark, or from
        the start."""

    @property
    def lineage(self) -> tuple[str, str]:
        """The store's id, and the generation of its record of effects: marks of another mean nothing here."""

    def from_checkpoint(self) -> tuple[StoreFold, int] | None:
        """Return folds filled from the newest checkpoint and the journal record it stands at; None where there is none
        to be trusted."""

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
    except msgspec.DecodeError as error:
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

    def effects(self, log: int) -> Iterator[bytes]:
        """Yield the recorded effects of one log (0 is the intake's, then one a partition), in order."""
        for _, effects in self.effects_behind(log):
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

    def from_checkpoint(self) -> tuple[StoreFold, int] | None:
        """Return folds filled from the newest checkpoint and the journal record it stands at; None where there is none
        that can be trusted.

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
