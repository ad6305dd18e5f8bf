"""Verify: is anything of a store damaged? Read-only; every problem is named by file and offset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from margin_stream.core.checks import Fault
from margin_stream.core.system import System
from margin_stream.journal import highwater
from margin_stream.journal import log as logs
from margin_stream.journal.layout import INTAKE_NAME, CorruptManifest, Layout, Manifest, RecordedDigest, partition_name, read_manifest
from margin_stream.journal.records import CorruptLog, Record, segment_name, segments
from margin_stream.tables import checkpoints
from margin_stream.tables.checkpoints import Distrusted, Marker
from margin_stream.tables.rocks import Table, TableError
from replay.replaying import EffectsDigest, replay
from schemas.binary import decode_payload, item_count
from schemas.effects import decode_effect


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
            ok=False, problems=[problem], records=0, items=0, effects=0, chain="", torn_tail_bytes=0, checkpoint_position=0, folded=False
        )
    inspector = _Inspector(layout, manifest, problems)
    inspector.journal()
    inspector.recorded()
    inspector.effects()
    if tables:
        inspector.tables()
    folded = False
    if fold and not problems:
        try:
            replayed = replay(path)
            if not replayed.equal:
                problems.append(Problem(str(layout.effects), None, f"folding the journal differs: {replayed.first_difference}"))
            folded = True
        except (Fault, CorruptLog, msgspec.DecodeError) as error:
            problems.append(Problem(str(layout.journal), None, f"the journal cannot be folded: {error}"))
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


class _Inspector:
    def __init__(self, layout: Layout, manifest: Manifest, problems: list[Problem]) -> None:
        self._layout = layout
        self._manifest = manifest
        self._problems = problems
        self.record_count = self.items = self.effect_count = self.torn = self.checkpoint_position = 0
        self.chain = b""
        self._digests: list[RecordedDigest] = []
        self._items_at: dict[int, int] = {0: 0}

    def _say(self, file: Path, offset: int | None, what: str) -> None:
        self._problems.append(Problem(str(file), offset, what))

    def _records(self, folder: Path) -> Iterator[Record]:
        """Yield a log's durable records; damage becomes a problem and ends the log."""
        identity = self._manifest.identity
        try:
            mark = highwater.read(folder / highwater.NAME, identity)
        except CorruptLog as damage:
            self._say(damage.path, damage.offset, damage.what)
            return
        for what in mark.damaged:
            self._say(folder / highwater.NAME, None, what)
        last: Record | None = None
        try:
            for record in logs.read(folder, identity, upto=mark.cut.number):
                last = record
                yield record
            if last is None and segments(folder) and mark.cut.number == 0:
                # Nothing is durable: the header of the first segment is checked all the same.
                list(logs.read(folder, identity, upto=0))
        except CorruptLog as damage:
            self._say(damage.path, damage.offset, damage.what)
            return
        if last is not None and last.cut.chain != mark.cut.chain:
            self._say(folder / segment_name(last.cut.segment), last.offset, "the chain is not that of the high-water mark")
        end = last.cut if last is not None else mark.cut
        for first in segments(folder):
            size = (folder / segment_name(first)).stat().st_size
            if first > end.number and first != end.segment:
                self.torn += size
            elif first == end.segment and end.offset:
                self.torn += max(0, size - end.offset)

    def journal(self) -> None:
        """Checksums, numbers, chain and content of the journal."""
        for record in self._records(self._layout.journal):
            self.record_count += 1
            self.chain = record.cut.chain
            try:
                self.items += item_count(decode_payload(record.payload))
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                path = self._layout.journal / segment_name(record.cut.segment)
                self._say(path, record.offset, f"record {record.number} cannot be decoded: {error}")
            self._items_at[record.number] = self.items

    def recorded(self) -> None:
        """The log of recorded digests, against the journal's counts."""
        for record in self._records(self._layout.digests):
            entry = msgspec.msgpack.decode(record.payload, type=RecordedDigest)
            path = self._layout.digests / segment_name(record.cut.segment)
            expected = self._items_at.get(entry.journal_record)
            if expected is not None and expected != entry.position:
                self._say(
                    path,
                    record.offset,
                    f"position {entry.position} was recorded at record {entry.journal_record}, the journal has {expected}",
                )
            elif expected is None and not self._problems:
                self._say(path, record.offset, f"record {entry.journal_record} was checkpointed, the journal ends at {self.record_count}")
            self._digests.append(entry)

    def effects(self) -> None:
        """The recorded effects: their logs, and their digest at the last checkpoint."""
        upto = self._digests[-1] if self._digests else None
        whole = EffectsDigest()
        sound = len(self._problems)
        for folder in self._layout.effects_logs(self._manifest.partitions):
            for record in self._records(folder):
                for raw in msgspec.msgpack.decode(record.payload, type=list[msgspec.Raw]):
                    data = bytes(raw)
                    try:
                        effect = decode_effect(data)
                    except msgspec.DecodeError as error:
                        path = folder / segment_name(record.cut.segment)
                        self._say(path, record.offset, f"record {record.number} cannot be decoded: {error}")
                        continue
                    self.effect_count += 1
                    if upto is not None and effect.position <= upto.position:
                        whole.add(data)
        if upto is not None and len(self._problems) == sound and whole.hexdigest() != upto.effects:
            self._say(self._layout.effects, None, f"the recorded effects do not have the digest recorded at position {upto.position}")

    def tables(self) -> None:
        """The tables: rows against their markers, and against the digest recorded at that position."""
        system = System(self._manifest.partitions, engine=self._manifest.engine_version)
        markers: list[Marker] = []
        names = [INTAKE_NAME, *(partition_name(n) for n in range(self._manifest.partitions))]
        for place, name in enumerate(names):
            path = self._layout.table(name)
            if not path.exists():
                if self._digests:
                    self._say(path, None, "the table is missing; it is rebuilt from the journal when the store is opened for writing")
                continue
            table: Table | None = None
            try:
                table = Table(path, read_only=True)
                marker: Marker | None
                if place == 0:
                    loaded = checkpoints.load_intake(table, self._manifest.partitions)
                    marker = None if loaded is None else loaded[1]
                    if loaded is not None:
                        system.intake = loaded[0]
                        self._check_identities(path, system)
                else:
                    marker = checkpoints.load_partition(table, system.partitions[place - 1])
                if marker is not None:
                    markers.append(marker)
                elif self._digests:
                    self._say(path, None, "the table has no marker")
            except (Distrusted, TableError) as error:
                self._say(path, None, f"{error}; tables are rebuilt from the journal when the store is opened for writing")
            finally:
                if table is not None:
                    table.close()
        if len(markers) < len(names):
            return
        positions = {marker.position for marker in markers}
        self.checkpoint_position = min(positions)
        last = self._digests[-1].position if self._digests else 0
        if max(positions) < last or min(positions) < last:
            self._say(self._layout.tables, None, f"the tables stand at position {min(positions)}, a checkpoint was recorded at {last}")
        if len(positions) == 1:
            digests = system.digests()
            for entry in self._digests:
                if entry.position == digests.position and (entry.state, entry.effects) != (digests.state, digests.effects):
                    self._say(self._layout.tables, None, f"the rows do not have the digest recorded at position {entry.position}")

    def _check_identities(self, path: Path, system: System) -> None:
        for name, book in sorted(system.intake.books.items()):
            total = book.recomputed_total()
            if total is not None and total != book.total:
                self._say(path, None, f"the identities of {name} do not have their recorded sum")
