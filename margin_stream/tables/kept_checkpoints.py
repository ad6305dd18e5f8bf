"""Checkpoints that are kept: files from which a past moment is folded, so that looking back does not cost the whole
journal.

One file has the rows of every set of folds at one sequence number. It is used only where its SHA-256 is right and its
digest is the one that was recorded there; without it more is folded, and the answer is the same. Kept ones take about a
quarter of the journal's room at most: the next is due when the journal has grown by enough.

The file: MAGIC, then msgpack: a ``Head``, per set a ``SetHead`` and arrays of rows, each set ended by nil; then the
SHA-256 of all before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgpack
import msgspec

from margin_stream.core.fold import FoldSet
from margin_stream.core.store_fold import Digests, StoreFold
from margin_stream.journal.disk import Disk
from margin_stream.journal.layout import RecordedDigest
from margin_stream.journal.records import Cut
from margin_stream.schemas.binary import encode
from margin_stream.tables.checkpoints import Distrusted
from margin_stream.tables.rocks import Table

MAGIC = b"MSKEPT01"
LEAST_ITEMS = 100_000
ITEMS_PER_BYTE = 1 / 8
"""An item takes about 30 bytes of the journal, so a checkpoint this many items later takes a quarter of what came."""
CHUNK_BYTES = 1 << 20
SUM_BYTES = 32
LARGEST_ARRAY = 1 << 20
LARGEST_ROW = 1 << 30


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Where a kept checkpoint stands."""

    store_id: str
    sequence: int
    clock_ns: int
    journal: Cut
    state: str
    effects: str
    effects_ends: list[Cut]
    """The end of each effects log."""


class SetHead(msgspec.Struct, frozen=True, array_like=True):
    """One set of folds in it."""

    folds: list[str]
    digest: bytes


class Kept(msgspec.Struct, frozen=True):
    """A file of the folder, and what it states."""

    path: Path
    head: Head
    size: int


def name_of(sequence: int) -> str:
    """Return the file name of a checkpoint."""
    return f"{sequence:020d}.kept"


def due(sequence: int, last: Kept | None) -> bool:
    """Return whether the checkpoint at a sequence number is to be kept."""
    if last is None:
        return sequence >= LEAST_ITEMS
    return sequence - last.head.sequence >= max(LEAST_ITEMS, int(last.size * ITEMS_PER_BYTE))


def keep(
    folder: Path,
    disk: Disk,
    store_id: str,
    digests: Digests,
    clock_ns: int,
    journal: Cut,
    sets: Sequence[tuple[FoldSet, Table, Cut]],
) -> Kept:
    """Write a checkpoint that was stored just now into the folder.

    Args:
        sets: each set of folds, its table, and the end of its effects log.
    """
    disk.make_folder(folder)
    path = folder / name_of(digests.sequence)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    ends = [end for _, _, end in sets]
    head = Head(store_id, digests.sequence, clock_ns, journal, digests.state, digests.effects, ends)
    whole, offset = sha256(), 0
    with disk.opened(fresh, create=True) as descriptor:
        for data in _pieces(head, [(folds, table) for folds, table, _ in sets]):
            disk.write(descriptor, data, offset)
            whole.update(data)
            offset += len(data)
        disk.write(descriptor, whole.digest(), offset)
        disk.sync(descriptor)
    disk.rename(fresh, path)
    disk.sync_folder(folder)
    return Kept(path, head, offset + SUM_BYTES)


def _pieces(head: Head, sets: Iterable[tuple[FoldSet, Table]]) -> Iterator[bytes]:
    yield MAGIC + encode(head)
    for folds, table in sets:
        yield encode(SetHead(folds.names, folds.digest()))
        rows: list[tuple[bytes, bytes]] = []
        size = 0
        for row in table.fold_rows():
            rows.append(row)
            size += len(row[0]) + len(row[1])
            if size > CHUNK_BYTES:
                yield encode(rows)
                rows, size = [], 0
        yield (encode(rows) if rows else b"") + encode(None)


def found(folder: Path, store_id: str, recorded: Sequence[RecordedDigest]) -> list[Kept]:
    """Return the kept checkpoints that belong to what was recorded, by sequence number; others are passed over."""
    known = {(entry.sequence, entry.journal_record, entry.state, entry.effects) for entry in recorded}
    kept = []
    for path in sorted(folder.glob("*.kept")):
        try:
            head = _head(path)
            size = path.stat().st_size
        except (Distrusted, OSError):
            continue
        place = (head.sequence, head.journal.number, head.state, head.effects)
        if head.store_id == store_id and place in known and path.name == name_of(head.sequence):
            kept.append(Kept(path, head, size))
    return kept


def _head(path: Path) -> Head:
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise Distrusted(f"{path}: no kept checkpoint")
        try:
            return msgspec.convert(next(msgpack.Unpacker(file, max_array_len=LARGEST_ARRAY)), Head)
        except Exception as error:
            raise Distrusted(f"{path}: its head cannot be read: {error}") from None


def load(kept: Kept, system: StoreFold, only: str | None = None) -> None:
    """Fill new folds from a kept checkpoint.

    Args:
        kept: one of ``found``.
        system: new folds of the same store.
        only: the account that they fold alone; then the sets' digests cannot be compared, and the file's must do.

    Raises:
        Distrusted: the file is damaged, or of a build with other folds.
    """
    try:
        values = _values(kept.path)
        next(values)
        for folds in system.sets:
            head = msgspec.convert(next(values), SetHead)
            if head.folds != folds.names:
                raise Distrusted(f"{kept.path}: it was written by a build with other folds ({', '.join(head.folds)})")
            chunks = iter(values.__next__, None)
            folds.restore(kept.head.sequence, (_row(row) for chunk in chunks for row in chunk))
            if only is None and folds.digest() != head.digest:
                raise Distrusted(f"{kept.path}: the rows do not have the digest of their set")
    except (Distrusted, MemoryError):
        raise
    except Exception as error:
        raise Distrusted(f"{kept.path}: {error}") from error


def _row(row: Any) -> tuple[bytes, bytes]:
    key, value = row
    return bytes(key), bytes(value)


def _values(path: Path) -> Iterator[Any]:
    """Yield what a file holds, once its SHA-256 is known to be right."""
    size = path.stat().st_size - SUM_BYTES
    whole, left = sha256(), size
    with path.open("rb") as file:
        while left > 0 and (data := file.read(min(left, CHUNK_BYTES))):
            whole.update(data)
            left -= len(data)
        if left or file.read() != whole.digest():
            raise Distrusted(f"{path}: offset {size}: the file does not match its checksum")
        file.seek(len(MAGIC))
        content = _Bounded(file.read, size - len(MAGIC))
        yield from msgpack.Unpacker(content, max_buffer_size=LARGEST_ROW, max_array_len=LARGEST_ARRAY)


class _Bounded:
    """The content of a file without its checksum."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        self._read = read
        self._left = size

    def read(self, count: int) -> bytes:
        """Return up to so many bytes."""
        data = self._read(min(count, self._left))
        self._left -= len(data)
        return data


def check(folder: Path) -> list[tuple[Path, str]]:
    """Return what is wrong with the files of the folder: each is whole, or it is of no use."""
    problems = []
    for path in sorted(folder.glob("*.kept")):
        try:
            _head(path)
            for _ in _values(path):
                pass
        except FileNotFoundError:
            continue
        except (Distrusted, OSError, ValueError, msgpack.UnpackException) as error:
            problems.append((path, str(error)))
    return problems
