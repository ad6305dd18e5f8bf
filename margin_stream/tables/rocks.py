"""One RocksDB database of raw bytes. Everything that scans goes through ``Table.rows``, which asks the iterator for its status."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rocksdict import AccessType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options, Rdict, WriteBatch, WriteOptions

CACHE_BYTES = 8 << 20
BUFFER_BYTES = 4 << 20


class TableError(Exception):
    """A database cannot be read or written; the tables can be rebuilt from the journal."""


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_write_buffer_size(BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(2)
    options.set_max_open_files(-1)
    options.set_compression_type(DBCompressionType.lz4())
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(CACHE_BYTES))
    options.set_block_based_table_factory(blocks)
    return options


class Table:
    """An open database."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """
        Raises:
            TableError: it cannot be opened.
        """
        self.path = path
        try:
            if read_only:
                self._db = Rdict(str(path), options=_options(), access_type=AccessType.read_only())
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._db = Rdict(str(path), options=_options())
        except Exception as error:
            raise TableError(f"{path}: {error}") from error
        self._write_options = WriteOptions()
        self._write_options.sync = True

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        try:
            value = self._db.get(key)
        except Exception as error:
            raise TableError(f"{self.path}: {error}") from error
        return None if value is None else bytes(value)

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every row in order of key.

        Raises:
            TableError: a block is damaged (a plain iterator would just end).
        """
        iterator = self._db.iter()
        iterator.seek_to_first()
        while iterator.valid():
            yield iterator.key(), iterator.value()
            iterator.next()
        try:
            iterator.status()
        except Exception as error:
            raise TableError(f"{self.path}: {error}") from error

    def write(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Write rows together, durably: all of them become visible or none."""
        batch = WriteBatch(raw_mode=True)
        for key, value in rows:
            batch.put(key, value)
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:
            raise TableError(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()
