"""Backup of a store in a folder, beside its writer: what is durable is copied record by record, so that damage is found
and not copied, and the next backup copies only what came since.

Tables are not copied: whoever opens the backup folds them from the journal.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from margin_stream.host.lock import Lock
from margin_stream.journal import highwater
from margin_stream.journal import log as logs
from margin_stream.journal.disk import Disk
from margin_stream.journal.layout import Layout, Manifest, StoreError, StoreMissing, read_manifest, write_manifest
from margin_stream.journal.log import LogWriter
from margin_stream.journal.log_end import durable_cut
from margin_stream.journal.records import START, Cut, read_head, read_header, segment_name, segments

WRITE_BYTES = 1 << 20


class BackupDiffers(StoreError, code="backup_differs"):
    """The folder for the backup holds another store, or another past of this one."""


class BackedUp(NamedTuple):
    """What a backup holds, and what this one copied."""

    records: int
    copied: int
    bytes: int


def back_up(store: Path, to: Path, *, disk: Disk | None = None) -> BackedUp:
    """Copy what is durable of a store into a folder, or bring a backup in it up to date.

    Interrupted at any place, the folder is a backup of before, or is completed by the next one.

    Raises:
        StoreMissing, CorruptManifest: there is no store.
        CorruptLog: the store is damaged; file and offset are named, and the backup ends before that record.
        BackupDiffers: the folder holds something else, or is the store's own.
        StoreLocked: another backup, or a writer, is at work in the folder.
    """
    disk = disk or Disk()
    source, target = Layout(store), Layout(to)
    manifest = read_manifest(source)
    if to.exists() and to.samefile(store):
        raise BackupDiffers(f"{to}: it is the store itself", store=to)
    disk.make_folder(target.root)
    lock = Lock(target.lock)
    try:
        return _bring_up_to_date(source, target, manifest, disk)
    finally:
        lock.release()


def _bring_up_to_date(source: Layout, target: Layout, manifest: Manifest, disk: Disk) -> BackedUp:
    to = target.root
    try:
        if read_manifest(target).store_id != manifest.store_id:
            raise BackupDiffers(f"{to}: it holds another store", store=to)
    except StoreMissing:
        if {entry.name for entry in to.iterdir()} - {f"{target.manifest.name}.new", target.lock.name}:
            raise BackupDiffers(f"{to}: not empty, and no backup", store=to) from None
        write_manifest(target, manifest, disk)
    logs_of = [layout.effects_logs(manifest.partitions) for layout in (source, target)]
    pairs = [(source.digests, target.digests), *zip(*logs_of, strict=True), (source.journal, target.journal)]
    # What digests speak of is in the effects, and what effects come from is in the journal: so the ends are read in this
    # order, and written in the other.
    ends = [(there, here, durable_cut(there, manifest.identity)) for there, here in pairs]
    copied = size = 0
    for there, here, end in reversed(ends):
        count, length = _copy(there, here, end, manifest.identity, disk)
        size += length
        if there == source.journal:
            copied = count
    return BackedUp(ends[-1][2].number, copied, size)


def _copy(there: Path, here: Path, end: Cut, store_id: bytes, disk: Disk) -> tuple[int, int]:
    """Copy the records that a log of the backup lacks, up to an end; return how many, and their bytes."""
    if _is_empty(here, store_id):
        if here.exists():
            shutil.rmtree(here)  # Making it may have been interrupted.
        disk.make_folder(here.parent)
        logs.create(here, store_id, disk)
    writer = LogWriter(here, store_id, disk)
    try:
        known = writer.end
        if known.number > end.number:
            raise BackupDiffers(f"{here}: the backup has {known.number} records, the store {end.number}", store=here)
        count = size = waiting = 0
        for record in logs.read(there, store_id, _cut_before(there, store_id, known.number), upto=end.number):
            if record.number == known.number and record.cut.chain != known.chain:
                raise BackupDiffers(f"{here}: record {record.number} is not that of the store", store=here)
            if record.number <= known.number:
                continue
            writer.append(record.payload)
            count, size, waiting = count + 1, size + len(record.payload), waiting + len(record.payload)
            if waiting > WRITE_BYTES:
                writer.write()
                waiting = 0
        writer.sync()
        return count, size
    finally:
        writer.close()


def _is_empty(folder: Path, store_id: bytes) -> bool:
    """Return whether nothing of a log was ever durable."""
    path = folder / highwater.NAME
    return not path.exists() or highwater.read(path, store_id).cut.number == 0


def _cut_before(folder: Path, store_id: bytes, number: int) -> Cut:
    """Return the start of the segment that holds a record."""
    first = max((first for first in segments(folder) if first <= max(number, 1)), default=1)
    if first == 1:
        return START
    path = folder / segment_name(first)
    return Cut(first - 1, first, 0, read_header(read_head(path), path, store_id, first))
