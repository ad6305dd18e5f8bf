"""One RocksDB database of raw bytes. Everything that scans goes through ``Table.rows``, which asks the iterator for its
status."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import mmap
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    WriteBatch,
    WriteOptions,
)

from margin_stream.errors import Error
from margin_stream.journal.layout import MemoryShort

OWN = b"\0"
"""Begins the keys of what is no fold's: markers, the index of the journal."""
ROOM_BYTES = 192 << 20
"""Address space that opening a database may take for a moment: stacks of threads, mostly."""
M_ARENA_MAX = -8
CACHE_BYTES = 8 << 20
BUFFER_BYTES = 4 << 20


class TableError(Error, code="table_unreadable"):
    """A database cannot be read or written; the tables can be rebuilt from the journal. ``offset`` is there where a
    file is damaged."""


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_write_buffer_size(BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(2)
    options.set_max_open_files(-1)
    # 4 MB a database by default, at once: much of a small disk.
    options.set_manifest_preallocation_size(64 << 10)
    options.set_compression_type(DBCompressionType.lz4())
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(CACHE_BYTES))
    options.set_block_based_table_factory(blocks)
    return options


SEAL = "seal.json"
CONFIG = "rocksdict-config.json"
PROBE_S = 20
_PROBE = """
import sys
from pathlib import Path
from margin_stream.tables.rocks import Table
for path in sys.argv[1:]:
    print(path, flush=True)
    for _ in Table(Path(path), read_only=True, probed=True).rows(): pass
"""


def _sums(path: Path) -> dict[str, str]:
    found = {}
    for file in sorted(path.iterdir()):
        if file.name not in (SEAL, SEAL + ".new", "LOCK") and not file.name.startswith("LOG"):
            try:
                found[file.name] = sha256(file.read_bytes()).hexdigest()
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                raise TableError(
                    f"{file}: offset 0: the medium cannot read the file: {error.strerror}", file=file, offset=0
                ) from error
    return found


def seal(path: Path) -> None:
    """Note the checksum of every file of a closed database, so that whoever opens it next knows that it is whole."""
    fresh = path / (SEAL + ".new")
    with fresh.open("w") as file:
        json.dump(_sums(path), file, indent=0)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path / SEAL)


def _examine(paths: Sequence[Path]) -> None:
    """Make sure that databases can be opened: RocksDB, given a damaged file, may crash or never return.

    A sealed one must have the checksums of its seal. Those that were not closed are opened and read by another process
    first.
    """
    unsealed = [path for path in paths if not _has_its_sums(path)]
    if not unsealed:
        return
    command = [sys.executable, "-c", _PROBE, *map(str, unsealed)]
    limit = PROBE_S + sum(file.stat().st_size for path in unsealed for file in path.iterdir()) / 10e6
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit, check=False, cwd=Path(__file__).parents[2])
    except subprocess.TimeoutExpired as error:
        path = _last_line(error.stdout) or str(unsealed[0])
        raise TableError(f"{path}: the database cannot be opened: it does not come to an end", file=path) from None
    if done.returncode:
        path = _last_line(done.stdout) or str(unsealed[0])
        reported = _last_line(done.stderr) or f"signal {-done.returncode}"
        raise TableError(f"{path}: the database cannot be read: {reported}", file=path)


def _has_its_sums(path: Path) -> bool:
    """Return whether a database is sealed; one that is must have the checksums of its seal."""
    if not (path / SEAL).exists():
        return False
    try:
        noted = json.loads((path / SEAL).read_bytes())
    except ValueError:
        raise TableError(f"{path / SEAL}: offset 0: the seal is damaged", file=path / SEAL, offset=0) from None
    sums = _sums(path)
    for name in sorted({*noted, *sums} if isinstance(noted, dict) else {SEAL}):
        if not isinstance(noted, dict) or noted.get(name) != sums.get(name):
            raise TableError(
                f"{path / name}: offset 0: the file does not match its checksum", file=path / name, offset=0
            )
    return True


def _last_line(output: bytes | None) -> str:
    return ((output or b"").decode(errors="replace").strip().splitlines() or [""])[-1]


def _drop_options_files(path: Path) -> None:
    """Remove RocksDB's notes of its options: nothing needs them, and one flipped bit in them can crash the process that
    opens them."""
    for notes in path.glob("OPTIONS-*"):
        notes.unlink()


def _view(path: Path) -> tempfile.TemporaryDirectory[str]:
    """Return a folder of links to a database's files.

    Whoever opens a database, for reading too, writes notes into its folder. Readers change nothing of a store, and read
    one on a read-only file system.
    """
    view = tempfile.TemporaryDirectory(prefix="margin-stream-")
    for file in path.iterdir():
        if file.name == CONFIG:
            shutil.copy(file, view.name)
        elif file.name not in (SEAL, SEAL + ".new", "LOCK") and not file.name.startswith(("LOG", "OPTIONS-")):
            (Path(view.name) / file.name).symlink_to(file.absolute())
    return view


def _ask_for_room(path: Path) -> None:
    """Ask for address space before RocksDB does: where it gets none for a thread, it ends the process without a word
    that helps.

    Raises:
        MemoryShort: the process may not have so much more.
    """
    limit = min(
        (
            soft
            for soft, _ in map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_DATA))
            if soft != resource.RLIM_INFINITY
        ),
        default=None,
    )
    if limit is None:
        return
    with contextlib.suppress(OSError, AttributeError):
        # Every thread would reserve 64 to 128 MB for itself, and leave none for the next one's stack.
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    try:
        mmap.mmap(-1, ROOM_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        what = (
            f"opening a table takes up to {ROOM_BYTES >> 20} MB more, and the process may have {limit >> 20} "
            "MB in all (ulimit -v, -d)"
        )
        raise MemoryShort(f"{path}: {what}", file=path) from None


def _went_away(error: FileNotFoundError) -> TableError:
    return TableError(
        f"{error.filename}: the file went away while it was read: somebody writes to the database", file=error.filename
    )


class Table:
    """An open database."""

    def __init__(self, path: Path, *, read_only: bool = False, probed: bool = False) -> None:
        """
        Args:
            path: the folder.
            read_only: nothing is written; works beside a writer.
            probed: it is known that the files can be opened.

        Raises:
            TableError: it cannot be opened.
            MemoryShort: the process may not have the memory for it.
        """
        _ask_for_room(path)
        # In full: the process that examines it works in another folder, and this one may change its own.
        self.path = path = path.absolute()
        self._read_only = read_only
        self._broken = False
        self._iterators: dict[object, RdictIter] = {}
        """Held here alone: one that a frame held, as an exception's traceback keeps frames, would hold the database
        open, and its lock."""
        try:
            if read_only and path.exists():
                self._view = _view(path)
            if not probed and path.exists():
                _examine([path])
        except FileNotFoundError as error:
            raise _went_away(error) from error
        if not read_only:
            (path / SEAL).unlink(missing_ok=True)
        try:
            if read_only:
                self._db = Rdict(self._view.name, options=_options(), access_type=AccessType.read_only())
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                _drop_options_files(path)
                self._db = Rdict(str(path), options=_options())
                with contextlib.suppress(OSError):
                    # They are dropped before the next opening too; a failure here would leave the database open and
                    # nobody to close it.
                    _drop_options_files(path)
        except Exception as error:
            raise TableError(f"{path}: {error}", file=path) from error
        self._write_options = WriteOptions()
        self._write_options.sync = True

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        try:
            value = self._db.get(key)
        except Exception as error:
            raise TableError(f"{self.path}: {error}", file=self.path) from error
        return None if value is None else bytes(value)

    def fold_rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows of folds, in order of key: those that are not a table's own."""
        return (row for row in self.rows() if not row[0].startswith(OWN))

    def rows(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield every row whose key begins with a prefix, in order of key.

        Raises:
            TableError: a block is damaged (a plain iterator would just end), or the database was closed meanwhile.
        """
        reading, iterators = object(), self._iterators
        try:
            iterators[reading] = self._db.iter()
            iterators[reading].seek(prefix)
            while iterators[reading].valid() and iterators[reading].key().startswith(prefix):
                yield iterators[reading].key(), iterators[reading].value()
                iterators[reading].next()
            iterators[reading].status()
        except KeyError:
            raise TableError(f"{self.path}: the database was closed while it was read", file=self.path) from None
        except Exception as error:
            raise TableError(f"{self.path}: {error}", file=self.path) from error
        finally:
            iterators.pop(reading, None)

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], *, durable: bool = True) -> None:
        """Write rows together: all of them become visible or none. A value of None removes the row.

        Args:
            durable: return once the rows are on the disk; else they follow, in order.
        """
        batch = WriteBatch(raw_mode=True)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            if durable:
                self._db.write(batch, self._write_options)
            else:
                self._db.write(batch)
        except Exception as error:
            self._broken = True
            raise TableError(f"{self.path}: {error}", file=self.path) from error

    def close(self) -> None:
        """Close the database; one that was written to is sealed.

        Raises:
            TableError: it could not be closed.
        """
        self._iterators.clear()
        try:
            self._db.close()
            if self._read_only:
                self._view.cleanup()
        except Exception as error:
            if self._broken:
                # It follows from the failure that was raised before.
                return
            raise TableError(f"{self.path}: {error}", file=self.path) from error
        if not self._read_only and not self._broken:
            # Without a seal (a full disk, say) the database is examined before it is next opened: slower, and as safe.
            with contextlib.suppress(OSError):
                _drop_options_files(self.path)
                seal(self.path)


def open_tables(paths: Iterable[Path], *, read_only: bool = False) -> list[Table]:
    """Open several databases, all of them or none; those that were not closed are examined by one process.

    Raises:
        TableError: one cannot be opened.
        MemoryShort: the process may not have the memory for them.
    """
    tables: list[Table] = []
    places = [path.absolute() for path in paths]
    try:
        for path in places[:1]:
            _ask_for_room(path)
        _examine([path for path in places if path.exists()])
        for path in places:
            tables.append(Table(path, read_only=read_only, probed=True))
    except BaseException as error:
        for table in tables:
            with contextlib.suppress(TableError):
                table.close()
        if isinstance(error, FileNotFoundError):
            raise _went_away(error) from error
        raise
    return tables
