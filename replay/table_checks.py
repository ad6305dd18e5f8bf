"""The tables of a store, checked: rows against their markers, markers against the logs and against what was
recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from margin_stream.core.store_fold import StoreFold
from margin_stream.journal import highwater
from margin_stream.journal.layout import INTAKE_NAME, Layout, Manifest, RecordedDigest, partition_name
from margin_stream.journal.log_end import NotInLog, find_end
from margin_stream.journal.records import CorruptLog, Cut
from margin_stream.tables import checkpoints, kept_checkpoints
from margin_stream.tables.checkpoints import Distrusted, Marker
from margin_stream.tables.rocks import Table, TableError

ATTEMPTS = 5
"""A writer's checkpoint changes tables while they are read; so often they are read again before a difference counts."""
REBUILT = "tables are rebuilt from the journal when the store is opened for writing"


class TableChecks(NamedTuple):
    """What was found."""

    sequence: int
    """Of the checkpoint; 0 where there is none, or none that can be read."""
    problems: list[tuple[Path, str]]


def check_tables(layout: Layout, manifest: Manifest, recorded: Sequence[RecordedDigest]) -> TableChecks:
    """Check all tables of a store.

    Args:
        layout: the store's folder.
        manifest: the store's manifest.
        recorded: the digests that were recorded, read before.
    """
    if not layout.tables.exists():
        # A backup has none: they are folded when the store is opened for writing.
        return TableChecks(0, [])
    for _ in range(ATTEMPTS - 1):
        before = _stamp(layout)
        found = _Attempt(layout, manifest, recorded).check()
        if not found.problems or _stamp(layout) == before:
            return found
    return _Attempt(layout, manifest, recorded).check()


def _stamp(layout: Layout) -> list[tuple[str, int, int]]:
    """Return what changes when somebody writes to the tables."""
    stamps = []
    for path in sorted(layout.tables.rglob("*")):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if not path.is_dir():
            stamps.append((str(path), status.st_size, status.st_mtime_ns))
    return stamps


class _Attempt:
    def __init__(self, layout: Layout, manifest: Manifest, recorded: Sequence[RecordedDigest]) -> None:
        self._layout = layout
        self._manifest = manifest
        self._recorded = recorded
        self._problems: list[tuple[Path, str]] = []
        self._system = StoreFold(manifest.partitions, rules_version=manifest.rules_version)
        self._compared: dict[tuple[Path, Cut], CorruptLog | None] = {}

    def check(self) -> TableChecks:
        for path, what in kept_checkpoints.check(self._layout.kept):
            self._report(path, f"{what}; it is not used")
        names = [INTAKE_NAME, *(partition_name(n) for n in range(self._manifest.partitions))]
        effects = self._layout.effects_logs(self._manifest.partitions)
        markers = []
        for place, (name, log) in enumerate(zip(names, effects, strict=True)):
            marker = self._marker(place, self._layout.table(name))
            if marker is not None:
                markers.append(marker)
                self._check_cut(self._layout.table(name), self._layout.journal, marker.journal)
                self._check_cut(self._layout.table(name), log, marker.effects)
        if len(markers) < len(names):
            return TableChecks(0, self._problems)
        positions = {marker.sequence for marker in markers}
        last = self._recorded[-1].sequence if self._recorded else 0
        if min(positions) < last:
            self._report(
                self._layout.tables,
                f"the tables stand at sequence number {min(positions)}, a checkpoint was recorded at {last}; {REBUILT}",
            )
        if len(positions) == 1:
            digests = self._system.digests()
            for entry in self._recorded:
                if entry.sequence == digests.sequence and (entry.state, entry.effects) != (
                    digests.state,
                    digests.effects,
                ):
                    self._report(
                        self._layout.tables,
                        f"the rows do not have the digest recorded at sequence number {entry.sequence}",
                    )
        return TableChecks(min(positions), self._problems)

    def _report(self, path: Path, what: str) -> None:
        self._problems.append((path, what))

    def _marker(self, place: int, path: Path) -> Marker | None:
        """Load a table and return its marker, if it has one."""
        # Without CURRENT the database was never made to the end.
        if not (path / "CURRENT").exists():
            if self._recorded:
                self._report(path, f"the table is missing; {REBUILT}")
            return None
        table: Table | None = None
        marker: Marker | None = None
        try:
            table = Table(path, read_only=True)
            marker = checkpoints.load(table, self._system.sets[place])
            if place == 0:
                self._check_identities(path)
            if marker is None and self._recorded:
                self._report(path, f"the table has no marker; {REBUILT}")
        except (Distrusted, TableError) as error:
            file = Path(str(error.where["file"])) if isinstance(error, TableError) else path
            self._report(file, f"{error}; {REBUILT}")
        finally:
            if table is not None:
                table.close()
        return marker

    def _check_cut(self, path: Path, log: Path, cut: Cut) -> None:
        """A marker's place in a log must be one of the log's. The mark is read now: what a checkpoint speaks of was
        durable before it."""
        # Tables of one checkpoint share a place in the journal: a segment is not read once for each.
        if (log, cut) not in self._compared:
            self._compared[log, cut] = self._compare(log, cut)
        error = self._compared[log, cut]
        if isinstance(error, NotInLog):
            self._report(path, f"the table is of another journal ({error}); {REBUILT}")
        elif error is not None and error.path.name == highwater.NAME:
            # Damage of the log itself has been named already.
            self._report(error.path, error.what)

    def _compare(self, log: Path, cut: Cut) -> CorruptLog | None:
        identity = self._manifest.identity
        try:
            find_end(log, identity, highwater.read(log / highwater.NAME, identity), cut)
        except CorruptLog as error:
            return error
        return None

    def _check_identities(self, path: Path) -> None:
        for name, book in sorted(self._system.intake.sources.books.items()):
            total = book.recomputed_total()
            if total is not None and total != book.total:
                self._report(path, f"the identities of {name} do not have their recorded sum")
