"""The writer of a store: admits inputs, journals them, folds them, records effects, checkpoints; ``recovery`` opens it.

The order of things, which everything else rests on: an input is admitted by the intake fold; its record is written and
made durable, high-water mark included; only then is it acknowledged and are its effects recorded. Tables are written at
checkpoints, partitions first, the intake last. A failed write or sync stops the writer: nothing is retried, and opening
the store again recovers.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from margin_stream.core.effect_book import Emitted
from margin_stream.core.intake.admission import COUNT_OF, Admission, Counts
from margin_stream.core.intake.fold import Verdict
from margin_stream.core.store_fold import Digests, StoreFold
from margin_stream.host.lock import Lock
from margin_stream.host.recovery import OpenStore, Recovery
from margin_stream.journal import log as logs
from margin_stream.journal.disk import Disk
from margin_stream.journal.layout import Layout, MemoryShort, RecordedDigest, StoreError, check_files
from margin_stream.journal.record_builder import PayloadBuilder, payloads
from margin_stream.revaluation import DEFAULT, RevaluationName
from margin_stream.revaluation.choice import revaluation_of
from margin_stream.schemas.binary import JournalItem, encode
from margin_stream.schemas.inputs import AnyInput
from margin_stream.schemas.refusals import Refusal
from margin_stream.schemas.rules_versions import latest
from margin_stream.tables import checkpoints

GROUP_ITEMS = 2000
GROUP_BYTES = 256 << 10
CHECKPOINT_ITEMS = 200_000
SPARE_BYTES = 4 << 20
"""Addresses that the writer keeps, untouched, for the way out: without any CPython may turn in a circle where it
unwinds an exception, lock in hand."""


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
        revaluation: RevaluationName = DEFAULT,
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
            revaluation: what drives the ticks; all give the same.
            lock: the store's, already held; it is let go of with everything else.

        Raises:
            StoreLocked, MemoryShort, CorruptManifest, CorruptLog, StoreError, Fault.
        """
        self.layout = Layout(path)
        self._disk = disk or Disk()
        self._checkpoint_items = checkpoint_items
        self._group_items = group_items
        check_files(self.layout)
        self._spare = mmap.mmap(-1, SPARE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        path.mkdir(parents=True, exist_ok=True)
        self._store = OpenStore(self.layout, self._disk, revaluation_of(revaluation), segment_limit)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")
        self._lock = lock or Lock(self.layout.lock)
        try:
            self._store.open(partitions or 1, rules_version or latest())
            self._begin()
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

    def _begin(self) -> None:
        """Take over what was opened, and fold what lies behind its checkpoint."""
        store = self._store
        self.manifest, self.system = store.manifest, store.system
        self._journal, self._digests, self._effects = store.journal, store.digests, store.effects
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
        start = self.system.sequence
        if store.recover():
            self.checkpoint()
        cut_bytes = sum(writer.cut_bytes for writer in store.writers)
        self.recovery = Recovery(start, self.system.sequence - start, cut_bytes, tuple(store.notes))

    def _start_syncing(self) -> None:
        """Start the thread that waits for the disk now: where none can be had, nothing was admitted yet."""
        try:
            self._executor.submit(int).result()
        except RuntimeError as error:
            raise MemoryShort(str(error)) from error

    # ---- taking inputs --------------------------------------------------------------------------------------------

    def offer(self, given: bytes | AnyInput) -> Verdict:
        """Admit one NDJSON line or typed event; it is acknowledged once ``commit`` (or ``close``) returned."""
        admission = self.admission
        try:
            verdict = admission.line(given) if type(given) is bytes else admission.event(given)  # type: ignore[arg-type]
        except BaseException as error:
            # Admitted, perhaps, and not in the next record: sent again it would pass for a duplicate, be acknowledged,
            # and be nowhere.
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
        """Write the admitted items as a record and start to make it durable; fold it meanwhile. Waits for the record
        before.

        Returns:
            What is done once the record is durable, or None where nothing was admitted.
        """
        self._lock.check_process()
        self.finish_commit()
        if self._failed is not None:
            raise StoreError(
                f"{self.layout.root}: the writer stopped after a failure; open the store again: {self._failed}",
                store=self.layout.root,
            )
        self._since_checkpoint += self._builder.count
        try:
            items = self._builder.take()
            if not items:
                return None
            before = self._journal.end
            for payload in payloads(items):
                self._journal.append(payload)
            cut = self._journal.write()
            future = self._executor.submit(self._journal.make_durable, cut)
            self._syncing = (future, [])

            def spill(place: int, effects: list[Emitted]) -> None:
                # Effects are recorded behind what caused them.
                future.result()
                self._record(place, effects)

            with self._store.indexed(before, cut):
                emitted = self.system.fold(spill=spill)
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
            for place, effects in enumerate(emitted):
                if effects:
                    self._record(place, effects)
        except BaseException as error:
            self._stop(error)
            raise

    def _record(self, place: int, effects: list[Emitted]) -> None:
        """Record effects of one set of folds."""
        writer = self._effects[place]
        for payload in payloads([effect.data for effect in effects]):
            writer.append(payload)
        writer.write()
        self.effects_total += len(effects)
        if self.on_effects is not None:
            self.on_effects(effects)

    def folds(self) -> StoreFold:
        """Return the folds at the last durable record; waits for the one that is under way."""
        self.finish_commit()
        return self.system

    def publish_effects(self) -> int:
        """Make durable all recorded effects, so that readers see them; return the sequence number up to which they are
        complete."""
        self.commit()
        for writer in self._effects:
            writer.sync()
        return self.system.sequence

    def commit(self) -> None:
        """Make durable all that was admitted; on return it is acknowledged."""
        self.begin_commit()
        self.finish_commit()

    def _stop(self, error: BaseException) -> None:
        """Let nothing more be committed, and give what is kept for the way out."""
        self._spare.close()
        self._failed = error

    def ingest(
        self,
        lines: Iterable[bytes | AnyInput],
        *,
        progress: Callable[[int], None] | None = None,
        stop: Callable[[], bool] | None = None,
        refused: Callable[[Refusal, str], bool] | None = None,
    ) -> Counts:
        """Admit NDJSON lines, or typed events, and commit them in groups.

        Args:
            lines: without line ends.
            progress: called with the count of lines after each group.
            stop: asked after each group; True ends the run early, with all that was read committed.
            refused: called with the reason and detail of each refusal, while its line is the last one taken; True ends
                the run.
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
                    self.checkpoint_if_due()
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
        """Write a consistent cut: effects durable, then every partition's rows, then the intake's; record the
        digests."""
        self.commit()
        try:
            digests = self.system.digests()
            for writer in self._effects:
                writer.sync()
            cut = self._journal.end
            # The intake last: partitions that are ahead of it pass over what they have.
            sets = list(
                zip(self.system.sets, self._store.tables, [writer.end for writer in self._effects], strict=True)
            )
            for folds, table, end in reversed(sets[1:]):
                checkpoints.store(table, folds, cut, end)
            checkpoints.store(self._store.tables[0], self.system.sets[0], cut, sets[0][2], self._store.index.take())
            recorded = RecordedDigest(digests.sequence, cut.number, digests.state, digests.effects)
            self._digests.append(encode(recorded))
            self._digests.sync()
            self._store.keep(digests, cut, sets)
        except BaseException as error:
            self._stop(error)
            raise
        self._since_checkpoint = 0
        return digests

    def close(self) -> Digests:
        """Commit, checkpoint, and let the next writer in; return the digests."""
        self._lock.check_process()
        try:
            due = self._since_checkpoint or self._builder.count or self._syncing or self.system.sequence == 0
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
        """Let go of everything without writing more, as a crash would. All is let go of, whatever fails; the first
        failure is raised. A fork lets go of nothing: all is its parent's."""
        self._lock.check_process()
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.release)
            stack.callback(self._spare.close)
            for table in self._store.tables:
                stack.callback(table.close)
            self._store.tables = []
            stack.callback(self._store.close_logs)
            stack.callback(self._executor.shutdown, wait=True)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        self._let_go()
        if issubclass(kind, MemoryError):
            what = (
                f"not enough memory to go on behind record {self._journal.durable.number} of the journal, up "
                "to which all is safe"
            )
            raise MemoryShort(f"{self.layout.root}: {what}", store=self.layout.root)


__all__ = ["Host", "Recovery"]
