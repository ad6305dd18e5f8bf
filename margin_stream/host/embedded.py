"""The writer of a store: admits inputs, journals them, folds them, records effects, checkpoints, recovers.

The order of things, which everything else rests on: an input is admitted by the intake fold; its record is written and made durable, high-water mark
included; only then is it acknowledged and are its effects recorded. Tables are written at checkpoints, partitions first, the intake last.
A failed write or sync stops the writer: nothing is retried, and opening the store again recovers.
"""

from __future__ import annotations

import contextlib
import mmap
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from margin_stream.core.checks import Fault, Mismatch
from margin_stream.core.effect_book import Emitted
from margin_stream.core.intake.admission import COUNT_OF, Admission, Counts
from margin_stream.core.intake.fold import Verdict
from margin_stream.core.system import Digests, System
from margin_stream.engine.choosing import DEFAULT, EngineName, drive_of
from margin_stream.host.lock import Lock
from margin_stream.host.payloads import PayloadBuilder, payloads
from margin_stream.journal import log as logs
from margin_stream.journal.disk import Disk
from margin_stream.journal.ending import NotInLog
from margin_stream.journal.layout import (
    INTAKE_NAME,
    FolderTaken,
    Layout,
    Manifest,
    MemoryShort,
    RecordedDigest,
    StoreError,
    StoreMissing,
    new_manifest,
    partition_name,
    read_manifest,
    write_manifest,
)
from margin_stream.journal.log import LogWriter
from margin_stream.journal.records import Cut
from margin_stream.tables import checkpoints
from margin_stream.tables.checkpoints import Distrusted, Marker
from margin_stream.tables.rocks import Table
from schemas.binary import JournalItem, decode_payload, encode
from schemas.engines import LATEST
from schemas.inputs import AnyInput
from schemas.refusals import Refusal

GROUP_ITEMS = 2000
GROUP_BYTES = 256 << 10
CHECKPOINT_ITEMS = 200_000
SPARE_BYTES = 4 << 20
"""Addresses that the writer keeps, untouched, for the way out: without any CPython may turn in a circle where it unwinds an exception, lock in hand."""


class Recovery(NamedTuple):
    """What opening a store took."""

    from_position: int
    """The checkpoint it started from; 0 for the whole journal."""
    folded: int
    """Items folded from the journal."""
    cut_bytes: int
    """A torn tail that was cut: written, never acknowledged."""
    notes: tuple[str, ...]


class Host:
    """A store open for writing."""

    def __init__(
        self,
        path: Path,
        *,
        partitions: int | None = None,
        rules_version: int | None = None,
        disk: Disk | None = None,
        checkpoint_items: int = CHECKPOINT_ITEMS,
        group_items: int = GROUP_ITEMS,
        segment_limit: int = logs.SEGMENT_LIMIT,
        engine: EngineName = DEFAULT,
        lock: Lock | None = None,
    ) -> None:
        """Open a store, or make one.

        Args:
            path: the store's folder.
            partitions: for a new store (1 if left out); for one that exists it does not count.
            rules_version: that a new store begins with (the latest if left out); likewise.
            disk: through which logs reach the disk.
            checkpoint_items: a checkpoint follows about so many items.
            group_items: at most so many items make a record.
            segment_limit: bytes after which a journal segment is closed.
            engine: what drives the ticks; all give the same.
            lock: the store's, already held; it is let go of with everything else.

        Raises:
            StoreLocked, MemoryShort, CorruptManifest, CorruptLog, StoreError, Fault.
        """
        self.layout = Layout(path)
        self._disk = disk or Disk()
        self._checkpoint_items = checkpoint_items
        self._drive = drive_of(engine)
        self._group_items = group_items
        self._segment_limit = segment_limit
        self._spare = mmap.mmap(-1, SPARE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        path.mkdir(parents=True, exist_ok=True)
        self._tables: list[Table] = []
        self._writers: list[LogWriter] = []
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")
        self._lock = lock or Lock(self.layout.lock)
        try:
            self.manifest = self._manifest(partitions or 1, rules_version or LATEST)
            self._open()
            self._start_syncing()
        except (MemoryError, MemoryShort) as error:
            self._let_go()
            raise MemoryShort(
                f"{path}: not enough memory to open the store; nothing is lost: {error}".removesuffix(": "),
                store=path,
            ) from error
        except BaseException:
            self._let_go()
            raise

    def _start_syncing(self) -> None:
        """Start the thread that waits for the disk now: where none can be had, nothing was admitted yet."""
        try:
            self._executor.submit(int).result()
        except RuntimeError as error:
            raise MemoryShort(str(error)) from error

    def _manifest(self, partitions: int, rules_version: int) -> Manifest:
        layout = self.layout
        try:
            manifest = read_manifest(layout)
            if layout.making.exists():
                self._disk.remove(layout.making)
            return manifest
        except StoreMissing:
            pass
        # A file says that the store is being made, from before the first log until after the manifest: a store whose making was
        # interrupted is made again (nothing was acknowledged), and one that lost its manifest is not mistaken for it.
        names = {entry.name for entry in layout.root.iterdir()} - {"lock"}
        if layout.making.exists() or names <= {"manifest.json.new", "making.new"}:
            self._disk.replace(layout.making, b"")
            return self._make(new_manifest(partitions, rules_version))
        raise FolderTaken(f"{layout.root}: not empty and no store ({', '.join(sorted(names)[:3])}, ...)", store=layout.root)

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

    def _open(self) -> None:
        manifest = self.manifest
        self.system = self._system(manifest)
        notes: list[str] = []
        markers = self._load_tables(notes)
        try:
            self._open_logs(markers)
        except NotInLog as error:
            # The log is sound, so the tables are another store's, or of a past that was rolled back. The log is the truth.
            notes.append(f"tables are rebuilt from the journal: {error}")
            self._close_logs()
            markers = self._start_anew()
            self._open_logs(markers)
        journal_cut = markers[0].journal if markers[0] else logs.START
        writers = self._writers
        for writer in writers:
            notes.extend(writer.warnings)
        self._syncing: tuple[Future[None], list[list[Emitted]]] | None = None
        self._builder = PayloadBuilder()
        self.admission = Admission(self.system.intake, self._builder)
        self._since_checkpoint = 0
        self._failed: BaseException | None = None
        self._pending_counts = Counts()
        self.effects_total = 0
        """Effects since opening."""
        self.on_effects: Callable[[Sequence[Emitted]], None] | None = None
        """Called with effects once they are recorded."""
        start = self.system.position
        self._recover(markers, journal_cut)
        self.recovery = Recovery(start, self.system.position - start, sum(w.cut_bytes for w in writers), tuple(notes))

    def _system(self, manifest: Manifest) -> System:
        return System(manifest.partitions, **self._drive._asdict(), rules_version=manifest.rules_version)

    def _open_logs(self, markers: list[Marker | None]) -> None:
        layout, store_id, disk = self.layout, self.manifest.identity, self._disk

        def opened(folder: Path, after: Cut = logs.START, limit: int = logs.SEGMENT_LIMIT) -> LogWriter:
            writer = LogWriter(folder, store_id, disk, after=after, segment_limit=limit)
            self._writers.append(writer)
            return writer

        intake = markers[0]
        self._journal = opened(layout.journal, intake.journal if intake else logs.START, self._segment_limit)
        self._digests = opened(layout.digests)
        self._effects = [
            opened(folder, marker.effects if marker else logs.START, self._segment_limit)
            for folder, marker in zip(layout.effects_logs(self.manifest.partitions), markers, strict=True)
        ]

    def _close_logs(self) -> None:
        while self._writers:
            self._writers.pop().close()

    def _load_tables(self, notes: list[str]) -> list[Marker | None]:
        """Fill the folds from their checkpoints; where one is not to be trusted, all start from nothing."""
        try:
            markers: list[Marker | None] = []
            for name in self._table_names():
                self._tables.append(Table(self.layout.table(name)))
            for table, folds in zip(self._tables, self.system.sets, strict=True):
                marker = checkpoints.load(table, folds)
                if marker is None:
                    raise Distrusted(f"{table.path}: it has no checkpoint" if markers else "")
                if markers and markers[0] and marker.position < markers[0].position:
                    raise Distrusted(f"{table.path}: it is behind the intake")
                markers.append(marker)
            return markers
        except (MemoryError, MemoryShort):
            # It says nothing about the tables, and to fold all again takes more of what is missing.
            raise
        except Exception as error:
            if str(error):
                notes.append(f"tables are rebuilt from the journal: {error}")
            return self._start_anew()

    def _table_names(self) -> list[str]:
        return [INTAKE_NAME, *(partition_name(n) for n in range(self.manifest.partitions))]

    def _start_anew(self) -> list[Marker | None]:
        """Make empty tables and folds in the place of those that are not to be trusted."""
        names = self._table_names()
        self.system = self._system(self.manifest)
        for table in self._tables:
            with contextlib.suppress(Exception):
                table.close()
        self._tables = []
        for name in names:
            if self.layout.table(name).exists():
                shutil.rmtree(self.layout.table(name))
        for name in names:
            self._tables.append(Table(self.layout.table(name)))
        return [None] * len(names)

    def _recover(self, markers: list[Marker | None], cut: Cut) -> None:
        """Fold the journal behind the checkpoint; effects that are recorded already must come out the same, the rest is recorded."""
        expected = [self._recorded_after(writer, marker) for writer, marker in zip(self._effects, markers, strict=True)]
        behind = False
        for record in logs.read(self.layout.journal, self.manifest.identity, cut, upto=self._journal.end.number):
            for item in decode_payload(record.payload):
                self.system.admission.item(item)
            for writer, known, emitted in zip(self._effects, expected, self.system.fold(), strict=True):
                fresh = []
                for effect in emitted:
                    if known:
                        recorded = known.pop()
                        if recorded != effect.data:
                            raise Mismatch(
                                f"position {effect.position}: effect {effect.group}/{effect.number} was recorded otherwise",
                                file=writer.folder,
                                position=effect.position,
                            )
                    else:
                        fresh.append(effect.data)
                for payload in payloads(fresh):
                    writer.append(payload)
            behind = True
        for writer, known in zip(self._effects, expected, strict=True):
            if known:
                raise Mismatch(f"{writer.folder}: {len(known)} recorded effects are not recomputed", file=writer.folder)
        if behind or self._recorded_position() != self.system.position:
            # The second: a crash between the tables and the record of their digest.
            self.checkpoint()

    def _recorded_position(self) -> int:
        """Return the position of the last recorded digest, 0 where there is none."""
        last = 0
        for record in logs.read(self.layout.digests, self.manifest.identity, upto=self._digests.end.number):
            last = msgspec.msgpack.decode(record.payload, type=RecordedDigest).position
        return last

    def _recorded_after(self, writer: LogWriter, marker: Marker | None) -> list[bytes]:
        """Return the recorded effects behind a checkpoint, last first."""
        cut = marker.effects if marker else logs.START
        found: list[bytes] = []
        raws = msgspec.msgpack.Decoder(list[msgspec.Raw])
        for record in logs.read(writer.folder, self.manifest.identity, cut, upto=writer.end.number):
            found.extend(bytes(raw) for raw in raws.decode(record.payload))
        found.reverse()
        return found

    # ---- taking inputs --------------------------------------------------------------------------------------------

    def offer(self, given: bytes | AnyInput) -> Verdict:
        """Admit one NDJSON line or typed event; it is acknowledged once ``commit`` (or ``close``) returned."""
        admission = self.admission
        try:
            verdict = admission.line(given) if type(given) is bytes else admission.event(given)  # type: ignore[arg-type]
        except BaseException as error:
            # Admitted, perhaps, and not in the next record: sent again it would pass for a duplicate, be acknowledged, and be nowhere.
            self._stop(error)
            raise
        self._pending_counts = self._pending_counts.plus(COUNT_OF[verdict])
        return verdict

    def offer_item(self, item: JournalItem) -> None:
        """Admit an item of another store's journal."""
        try:
            self._pending_counts = self._pending_counts.plus(self.admission.item(item))
        except BaseException as error:
            self._stop(error)
            raise

    def checkpoint_if_due(self) -> None:
        """Write a checkpoint where enough items came since the last."""
        if self._since_checkpoint >= self._checkpoint_items:
            self.checkpoint()

    @property
    def group_full(self) -> bool:
        """The next record has as many items or bytes as one should."""
        return self._builder.count >= self._group_items or self._builder.size >= GROUP_BYTES

    def begin_commit(self) -> Future[None] | None:
        """Write the admitted items as a record and start to make it durable; fold it meanwhile. Waits for the record before.

        Returns:
            What is done once the record is durable, or None where nothing was admitted.
        """
        self.finish_commit()
        self._raise_failure()
        self._since_checkpoint += self._builder.count
        try:
            items = self._builder.take()
            if not items:
                return None
            for payload in payloads(items):
                self._journal.append(payload)
            cut = self._journal.write()
            future = self._executor.submit(self._journal.make_durable, cut)
            self._syncing = (future, [])
            emitted = self.system.fold()
            self._syncing = (future, emitted)
        except BaseException as error:
            self._stop(error)
            raise
        return future

    def finish_commit(self) -> None:
        """Wait until the record that is under way is durable, then record its effects."""
        if self._syncing is None:
            return
        future, emitted = self._syncing
        self._syncing = None
        try:
            future.result()
            for writer, part in zip(self._effects, emitted, strict=True):
                if part:
                    for payload in payloads([effect.data for effect in part]):
                        writer.append(payload)
                    writer.write()
                    self.effects_total += len(part)
                    if self.on_effects is not None:
                        self.on_effects(part)
        except BaseException as error:
            self._stop(error)
            raise

    def publish_effects(self) -> int:
        """Make durable all recorded effects, so that readers see them; return the position up to which they are complete."""
        self.commit()
        for writer in self._effects:
            writer.sync()
        return self.system.position

    def commit(self) -> None:
        """Make durable all that was admitted; on return it is acknowledged."""
        self.begin_commit()
        self.finish_commit()

    def _stop(self, error: BaseException) -> None:
        """Let nothing more be committed, and give what is kept for the way out."""
        self._spare.close()
        self._failed = error

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise StoreError(
                f"{self.layout.root}: the writer stopped after a failure; open the store again: {self._failed}",
                store=self.layout.root,
            )

    def ingest(
        self,
        lines: Iterable[bytes],
        *,
        progress: Callable[[int], None] | None = None,
        stop: Callable[[], bool] | None = None,
        refused: Callable[[Refusal, str], bool] | None = None,
    ) -> Counts:
        """Admit NDJSON lines and commit them in groups.

        Args:
            lines: without line ends.
            progress: called with the count of lines after each group.
            stop: asked after each group; True ends the run early, with all that was read committed.
            refused: called with the reason and detail of each refusal, while its line is the last one taken; True ends the run.
        """
        self._pending_counts = Counts()
        offer = self.offer
        builder = self._builder
        limit = self._group_items
        done = 0
        try:
            for line in lines:
                verdict = offer(line)
                done += 1
                if verdict is Verdict.REFUSED and refused is not None:
                    reason = self.system.intake.last_refusal
                    if reason is not None and refused(*reason):
                        break
                if builder.count >= limit or builder.size >= GROUP_BYTES:
                    self.begin_commit()
                    if self._since_checkpoint >= self._checkpoint_items:
                        self.checkpoint()
                    if progress is not None:
                        progress(done)
                    if stop is not None and stop():
                        break
            self.commit()
        except MemoryError as error:
            self._stop(error)
            raise
        if progress is not None:
            progress(done)
        return self._pending_counts

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def checkpoint(self) -> Digests:
        """Write a consistent cut: effects durable, then every partition's rows, then the intake's; record the digests."""
        self.commit()
        try:
            digests = self.system.digests()
            for writer in self._effects:
                writer.sync()
            cut = self._journal.end
            # The intake last: partitions that are ahead of it pass over what they have.
            for table, folds, writer in reversed(list(zip(self._tables, self.system.sets, self._effects, strict=True))):
                checkpoints.store(table, folds, cut, writer.end)
            recorded = RecordedDigest(digests.position, cut.number, digests.state, digests.effects)
            self._digests.append(encode(recorded))
            self._digests.sync()
        except BaseException as error:
            self._stop(error)
            raise
        self._since_checkpoint = 0
        return digests

    def close(self) -> Digests:
        """Commit, checkpoint, and let the next writer in; return the digests."""
        try:
            due = self._since_checkpoint or self._builder.count or self._syncing or self.system.position == 0
            digests = self.checkpoint() if due else self.system.digests()
        except BaseException:
            self._let_go()
            raise
        self.abandon()
        return digests

    def _let_go(self) -> None:
        """Let go after a failure: it is worth more than what fails while letting go."""
        with contextlib.suppress(Exception):
            self.abandon()

    def abandon(self) -> None:
        """Let go of everything without writing more, as a crash would. All is let go of, whatever fails; the first failure is raised."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.release)
            stack.callback(self._spare.close)
            for table in self._tables:
                stack.callback(table.close)
            self._tables = []
            stack.callback(self._close_logs)
            stack.callback(self._executor.shutdown, wait=True)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        self._let_go()
        if issubclass(kind, MemoryError):
            what = f"not enough memory to go on behind record {self._journal.durable.number} of the journal, up to which all is safe"
            raise MemoryShort(f"{self.layout.root}: {what}", store=self.layout.root)


__all__ = ["Fault", "Host", "Recovery"]
