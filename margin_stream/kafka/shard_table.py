"""The table of one shard on the local disk: a RocksDB database with rows, the marker, and how far its changelog was
read.

A checkpoint is one batch: changed rows and marker. Its *delta* then goes to the changelog, from the last delta that the
broker has to the checkpoint; a delta is applied only where it reaches further than the table does, so late, repeated
and lost ones cost nothing but folding.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec

from margin_stream.kafka import messages
from margin_stream.kafka.messages import Delta, Deltas
from margin_stream.kafka.seals import Foreign
from margin_stream.kafka.shard import Shard, Snapshot, SnapshotMarker, Unusable
from margin_stream.schemas.binary import UNDECODABLE
from margin_stream.tables.rocks import Table, TableError

MARKER = b"\0marker"
CHANGELOG = b"\0changelog"
"""Offset up to which the changelog was read."""
ACKED = b"\0acked"
"""Up to which offset of the source the changelog holds deltas."""
_OWN = (MARKER, CHANGELOG, ACKED)

PART_BYTES = 512 << 10
BASE_EVERY = 4
"""A base follows once the deltas since the last one have so many times its bytes."""
BASE_LEAST = 4 << 20

_marker = msgspec.msgpack.Decoder(SnapshotMarker)


class ShardTable:
    """A shard's rows on disk."""

    def __init__(self, path: Path, generation: str, deltas: Deltas | None = None) -> None:
        """Open the table; one that cannot be trusted, or is of another generation, is thrown away: the changelog and
        the journal have it all.

        A note beside it states that it is being opened: found again, the last opening crashed or never ended, and the
        table goes.
        """
        self.path = path
        self.generation = generation
        self.notes: list[str] = []
        self._opening = path.with_name(path.name + ".opening")
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._opening.exists():
            self._throw_away("opening it did not end the last time")
        self._opening.touch()
        try:
            self._table = Table(path, probed=not (path / "seal.json").exists())
            self.marker = self._read_marker()
        except (TableError, *UNDECODABLE) as error:
            self._throw_away(str(error))
            self._opening.touch()
            self._table = Table(path, probed=True)
            self.marker = None
        self._opening.unlink()
        if self.marker is not None and self.marker.generation != generation:
            self.wipe("it is of another generation")
        acked = self._table.get(ACKED)
        self.acked = -1 if acked is None else int(acked)
        offset = self._table.get(CHANGELOG)
        self.changelog_offset: int | None = None if offset is None else int(offset)
        self._deltas = deltas or Deltas(generation)
        self.foreign = 0
        """Messages of the changelog that are none of this store's."""
        self._unacked: OrderedDict[int, dict[bytes, bytes]] = OrderedDict()
        self._kept_after = -1
        """The rows that changed after this checkpoint are all in ``_unacked``."""
        self._since_base = 0
        self._base_bytes = 0

    def _read_marker(self) -> SnapshotMarker | None:
        data = self._table.get(MARKER)
        return None if data is None else _marker.decode(data)

    def _throw_away(self, why: str) -> None:
        self.notes.append(f"{self.path}: thrown away: {why}")
        if self.path.exists():
            shutil.rmtree(self.path)

    def wipe(self, why: str) -> None:
        """Start with nothing."""
        self._table.close()
        self._throw_away(why)
        self._table = Table(self.path, probed=True)
        self.marker = None
        self.acked, self.changelog_offset = -1, None

    # ---- restoring ------------------------------------------------------------------------------------------------

    def load(self, shard: Shard) -> bool:
        """Fill a new shard; False where there is nothing to fill it with.

        Raises:
            Unusable: the rows are not what the marker states; wipe the table and fold anew.
        """
        if self.marker is None:
            return False
        try:
            shard.restore(((key, value) for key, value in self._table.rows() if key not in _OWN), self.marker)
        except TableError as error:
            raise Unusable(str(error)) from error
        return True

    def apply_changelog(self, offset: int, value: bytes | None) -> None:
        """Take one message of the changelog; a delta that is complete and reaches further is applied."""
        delta = None
        try:
            delta = self._deltas.take(offset, value)
        except Foreign as error:
            self.foreign += 1
            self.notes.append(f"{self.path}: changelog, offset {offset}: refused: {error}")
        if delta is not None:
            self._apply(delta)
        self.changelog_offset = self._deltas.whole_up_to(offset)

    def _apply(self, delta: Delta) -> None:
        current = -1 if self.marker is None else self.marker.offset
        self.acked = max(self.acked, delta.upto)
        if not delta.after <= current < delta.upto:
            return
        rows: list[tuple[bytes, bytes | None]] = []
        if delta.after == -1:
            rows.extend((key, None) for key, _ in self._table.rows() if key not in _OWN)
        self._table.write([*rows, *delta.rows, (ACKED, str(self.acked).encode())])
        self.marker = self._read_marker()

    def note_changelog(self) -> None:
        """Keep how far the changelog was read."""
        rows: list[tuple[bytes, bytes | None]] = [(ACKED, str(self.acked).encode())]
        if self.changelog_offset is not None:
            rows.append((CHANGELOG, str(self.changelog_offset).encode()))
        self._table.write(rows, durable=False)

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def write(self, snapshot: Snapshot) -> None:
        """Write a checkpoint as one batch.

        It is not synced: a process that dies loses nothing of it, and a machine that does falls back to an earlier
        batch, which the journal continues. (A sync would hold the interpreter's lock for milliseconds.)
        """
        data = msgspec.msgpack.encode(snapshot.marker)
        self._table.write([*snapshot.rows, (MARKER, data)], durable=False)
        self.marker = snapshot.marker
        # Two checkpoints at one offset are possible: the second has nothing new, and must not hide the first.
        self._unacked.setdefault(snapshot.marker.offset, {}).update([*snapshot.rows, (MARKER, data)])

    def delta(self) -> tuple[int, bool, list[bytes]]:
        """Return the delta that brings readers of the changelog to the last checkpoint: its offset, whether it is a
        base, its messages."""
        assert self.marker is not None
        if self.acked < self._kept_after or self._since_base > max(BASE_LEAST, BASE_EVERY * self._base_bytes):
            rows = {key: value for key, value in self._table.rows() if key not in (CHANGELOG, ACKED)}
            after = -1
        else:
            rows = {key: value for changed in self._unacked.values() for key, value in changed.items()}
            after = self._kept_after
        messages = list(_messages(self.generation, after, self.marker.offset, rows))
        size = sum(map(len, messages))
        if after == -1:
            self._base_bytes, self._since_base = size, 0
        else:
            self._since_base += size
        return self.marker.offset, after == -1, messages

    def delta_acked(self, upto: int) -> None:
        """The broker has the deltas up to an offset."""
        if upto <= self.acked:
            return
        self.acked = upto
        self._kept_after = max(self._kept_after, upto)
        for offset in [offset for offset in self._unacked if offset <= upto]:
            del self._unacked[offset]
        self._table.write([(ACKED, str(upto).encode())], durable=False)

    def loaded(self) -> None:
        """The shard was filled from the table as it is: from here on changed rows are kept."""
        self._unacked.clear()
        self._kept_after = -1 if self.marker is None else self.marker.offset

    def close(self) -> None:
        """Close the table; it is sealed."""
        self._table.close()


def _messages(generation: str, after: int, upto: int, rows: dict[bytes, bytes]) -> Iterator[bytes]:
    nonce = uuid4().hex[:16]
    chunks: list[list[tuple[bytes, bytes]]] = [[]]
    size = 0
    for key, value in rows.items():
        # Most rows are small. Those of the intake and of a market grow with sources, gaps and instruments.
        for start in range(0, len(value) or 1, PART_BYTES):
            piece = value[start : start + PART_BYTES]
            if size > PART_BYTES or start:
                chunks.append([])
                size = 0
            chunks[-1].append((key, piece))
            size += len(key) + len(piece)
    for part, chunk in enumerate(chunks):
        yield messages.encode(Delta(generation, nonce, after, upto, part, len(chunks), chunk))
