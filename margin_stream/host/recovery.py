"""Opening a store for writing: its manifest, found or made; tables that can be trusted; logs, torn tails cut; and the
folding of what lies behind.

The journal is the truth: what the tables or the recorded effects say beside it is dropped or must agree.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from margin_stream.core.checks import Mismatch
from margin_stream.core.effect_book import Emitted
from margin_stream.core.fold import FoldSet
from margin_stream.core.store_fold import Digests, StoreFold
from margin_stream.host.lock import check_tables
from margin_stream.journal import log as logs
from margin_stream.journal.disk import Disk
from margin_stream.journal.file_systems import NETWORK, NO_NETWORK, file_system
from margin_stream.journal.layout import (
    INTAKE_NAME,
    FolderTaken,
    Layout,
    Manifest,
    MemoryShort,
    RecordedDigest,
    StoreMissing,
    new_manifest,
    partition_name,
    read_manifest,
    write_manifest,
)
from margin_stream.journal.log import LogWriter
from margin_stream.journal.log_end import NotInLog
from margin_stream.journal.record_builder import payloads
from margin_stream.journal.records import Cut
from margin_stream.revaluation.choice import Revaluation
from margin_stream.schemas.binary import decode_payload
from margin_stream.schemas.effects import recorded_effects
from margin_stream.tables import checkpoints, kept_checkpoints
from margin_stream.tables.checkpoints import Distrusted, Marker
from margin_stream.tables.journal_index import IndexWriter
from margin_stream.tables.kept_checkpoints import Kept
from margin_stream.tables.rocks import Table, open_tables


class Recovery(NamedTuple):
    """What opening a store took."""

    from_sequence: int
    """The checkpoint it started from; 0 for the whole journal."""
    folded: int
    """Items folded from the journal."""
    cut_bytes: int
    """A torn tail that was cut: written, never acknowledged."""
    notes: tuple[str, ...]


_FROM_NOTHING = Marker(0, logs.START, logs.START, b"", [])
"""Stands for a checkpoint where there is none to be trusted."""


class OpenStore:
    """The folds, tables and logs of a store that is open for writing."""

    def __init__(self, layout: Layout, disk: Disk, drive: Revaluation, segment_limit: int) -> None:
        self.layout = layout
        self._disk = disk
        self._drive = drive
        self._segment_limit = segment_limit
        self.tables: list[Table] = []
        self.writers: list[LogWriter] = []
        """Of all logs, in the order in which they were opened."""
        self.notes: list[str] = []
        self.index = IndexWriter()
        self._last_kept: Kept | None = None

    def open(self, partitions: int, rules_version: int) -> None:
        """Open everything; a store that is not there is made, with so many partitions and these rules.

        Raises:
            MemoryShort, CorruptManifest, CorruptLog, StoreError: whatever was opened by then is still to be closed.
        """
        kind = file_system(self.layout.root)
        if kind in NETWORK:
            self.notes.append(f"{self.layout.root}: {kind}: not supported. {NO_NETWORK}")
        self.manifest = self._found_or_made(partitions, rules_version)
        self.system = self._system(self.manifest)
        self._markers = self._load_tables()
        try:
            self._open_logs()
        except NotInLog as error:
            # The log is sound, so the tables are another store's, or of a past that was rolled back. The log is the
            # truth.
            self.notes.append(f"tables are rebuilt from the journal: {error}")
            self.close_logs()
            self._markers = self._start_anew()
            self._open_logs()
        for writer in self.writers:
            self.notes.extend(writer.warnings)
        records = logs.read(self.layout.digests, self.manifest.identity, upto=self.digests.end.number)
        self._recorded = [msgspec.msgpack.decode(record.payload, type=RecordedDigest) for record in records]
        kept = kept_checkpoints.found(self.layout.kept, self.manifest.store_id, self._recorded)
        self._last_kept = kept[-1] if kept else None

    @contextlib.contextmanager
    def indexed(self, before: Cut, behind: Cut) -> Iterator[None]:
        """Note in the index of the journal the records between two cuts, which are folded meanwhile."""
        routes = self.system.intake.routes
        sequence = routes.previous
        yield
        self.index.note(before, sequence, behind, routes.previous, routes.concerned)

    def keep(self, digests: Digests, journal: Cut, sets: Sequence[tuple[FoldSet, Table, Cut]]) -> None:
        """Keep the checkpoint that was stored just now, where it is time for one."""
        if kept_checkpoints.due(digests.sequence, self._last_kept):
            clock_ns = self.system.intake.market.clock_ns
            self._last_kept = kept_checkpoints.keep(
                self.layout.kept, self._disk, self.manifest.store_id, digests, clock_ns, journal, sets
            )

    def close_logs(self) -> None:
        """Close every log that is open."""
        while self.writers:
            self.writers.pop().close()

    def _found_or_made(self, partitions: int, rules_version: int) -> Manifest:
        layout = self.layout
        try:
            manifest = read_manifest(layout)
            if layout.making.exists():
                self._disk.remove(layout.making)
            return manifest
        except StoreMissing:
            pass
        # A file states that the store is being made, from before the first log until after the manifest: a store whose
        # making was interrupted is made again (nothing was acknowledged), and one that lost its manifest is not
        # mistaken for it.
        names = {entry.name for entry in layout.root.iterdir()} - {"lock"}
        if layout.making.exists() or names <= {"manifest.json.new", "making.new"}:
            self._disk.replace(layout.making, b"")
            return self._make(new_manifest(partitions, rules_version))
        raise FolderTaken(
            f"{layout.root}: not empty and no store ({', '.join(sorted(names)[:3])}, ...)", store=layout.root
        )

    def _make(self, manifest: Manifest) -> Manifest:
        layout = self.layout
        for folder in (layout.journal, layout.digests, layout.effects, layout.tables):
            if folder.exists():
                shutil.rmtree(folder)
        for folder in (layout.journal, layout.digests, *layout.effects_logs(manifest.partitions)):
            logs.create(folder, manifest.identity, self._disk)
        write_manifest(layout, manifest, self._disk)
        self._disk.remove(layout.making)
        self._disk.sync_folder(layout.root)
        return manifest

    def _system(self, manifest: Manifest) -> StoreFold:
        return StoreFold(manifest.partitions, **self._drive._asdict(), rules_version=manifest.rules_version)

    def _open_logs(self) -> None:
        layout, store_id, disk, markers = self.layout, self.manifest.identity, self._disk, self._markers

        def opened(folder: Path, after: Cut = logs.START, limit: int = logs.SEGMENT_LIMIT) -> LogWriter:
            writer = LogWriter(folder, store_id, disk, after=after, segment_limit=limit)
            self.writers.append(writer)
            return writer

        self.journal = opened(layout.journal, markers[0].journal, self._segment_limit)
        self.digests = opened(layout.digests)
        self.effects = [
            opened(folder, marker.effects, self._segment_limit)
            for folder, marker in zip(layout.effects_logs(self.manifest.partitions), markers, strict=True)
        ]

    def _load_tables(self) -> list[Marker]:
        """Fill the folds from their checkpoints; where one is not to be trusted, all start from nothing."""
        paths = [self.layout.table(name) for name in self._table_names()]
        check_tables(paths)
        try:
            markers: list[Marker] = []
            self.tables = open_tables(paths)
            for table, folds in zip(self.tables, self.system.sets, strict=True):
                marker = checkpoints.load(table, folds)
                if marker is None:
                    raise Distrusted(f"{table.path}: it has no checkpoint" if markers else "")
                if markers and marker.sequence < markers[0].sequence:
                    raise Distrusted(f"{table.path}: it is behind the intake")
                markers.append(marker)
            return markers
        except (MemoryError, MemoryShort):
            # It states nothing about the tables, and to fold all again takes more of what is missing.
            raise
        except Exception as error:
            if str(error):
                self.notes.append(f"tables are rebuilt from the journal: {error}")
            return self._start_anew()

    def _table_names(self) -> list[str]:
        return [INTAKE_NAME, *(partition_name(n) for n in range(self.manifest.partitions))]

    def _start_anew(self) -> list[Marker]:
        """Make empty tables and folds in the place of those that are not to be trusted."""
        names = self._table_names()
        self.system = self._system(self.manifest)
        for table in self.tables:
            with contextlib.suppress(Exception):
                table.close()
        self.tables = []
        for name in names:
            if self.layout.table(name).exists():
                shutil.rmtree(self.layout.table(name))
        for name in names:
            self.tables.append(Table(self.layout.table(name)))
        return [_FROM_NOTHING] * len(names)

    def recover(self) -> bool:
        """Fold the journal behind the checkpoint; effects that are recorded already must come out the same, the rest is
        recorded.

        Returns:
            Whether a checkpoint is due.
        """
        expected = [
            self._recorded_after(writer, marker) for writer, marker in zip(self.effects, self._markers, strict=True)
        ]

        def record(place: int, effects: list[Emitted]) -> None:
            writer, known = self.effects[place], expected[place]
            fresh = []
            for effect in effects:
                recorded = next(known, None)
                if recorded is None:
                    fresh.append(effect.data)
                elif recorded != effect.data:
                    raise Mismatch(
                        f"sequence number {effect.sequence}: effect {effect.group}/{effect.number} was recorded "
                        f"otherwise",
                        file=writer.folder,
                        sequence=effect.sequence,
                    )
            for payload in payloads(fresh):
                writer.append(payload)
            writer.write()

        before = start = self._markers[0].journal
        for found in logs.read(self.layout.journal, self.manifest.identity, start, upto=self.journal.end.number):
            for item in decode_payload(found.payload):
                self.system.admission.item(item)
            with self.indexed(before, found.cut):
                emitted = self.system.fold(spill=record)
            for place, effects in enumerate(emitted):
                record(place, effects)
            before = found.cut
        for writer, known in zip(self.effects, expected, strict=True):
            left = sum(1 for _ in known)
            if left:
                raise Mismatch(f"{writer.folder}: {left} recorded effects are not recomputed", file=writer.folder)
        # The second: a crash between the tables and the record of their digest.
        recorded = self._recorded[-1].sequence if self._recorded else 0
        return before != start or recorded != self.system.sequence

    def _recorded_after(self, writer: LogWriter, marker: Marker) -> Iterator[bytes]:
        """Return the effects that are recorded behind a checkpoint now."""
        records = logs.read(writer.folder, self.manifest.identity, marker.effects, upto=writer.end.number)
        return (data for record in records for data in recorded_effects(record.payload))
