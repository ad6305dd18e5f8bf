"""Checkpoints: the rows of folds that stand together and a marker of where they stand, written as one batch, used only
if the digest confirms them.

It is the same for every fold (``margin_stream.core.fold``): rows under the fold's name, and one marker for the whole
set.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec

from margin_stream.core.fold import FoldSet, Row
from margin_stream.journal.records import Cut
from margin_stream.tables.rocks import OWN, Table

MARKER = OWN + b"marker"


class Marker(msgspec.Struct, frozen=True, array_like=True):
    """Where a checkpoint stands."""

    sequence: int
    journal: Cut
    effects: Cut
    """The end of the folds' effects log."""
    digest: bytes
    """Over every row of the checkpoint."""
    folds: list[str]
    """What it holds: a fold that was added since finds nothing of itself here."""


class Distrusted(Exception):
    """A checkpoint is not what its digest states, or cannot be read: it is not used, the journal is folded instead."""


def store(table: Table, folds: FoldSet, journal: Cut, effects: Cut, own: Sequence[Row] = ()) -> None:
    """Write the changed rows of a set, its marker, and rows of the table's own."""
    rows = folds.rows()
    marker = Marker(folds.sequence, journal, effects, folds.digest(), folds.names)
    table.write(chain(rows, own, [(MARKER, msgspec.msgpack.encode(marker))]))
    folds.mark_stored()


def load(table: Table, folds: FoldSet) -> Marker | None:
    """Fill an empty set from its table; None where there is no checkpoint.

    Raises:
        Distrusted: the table cannot be read, is of other folds, or its rows do not have the digest of its marker.
    """
    try:
        data = table.get(MARKER)
        if data is None:
            return None
        marker = msgspec.msgpack.decode(data, type=Marker)
        if marker.folds != folds.names:
            raise Distrusted(f"{table.path}: it was written by a build with other folds ({', '.join(marker.folds)})")
        folds.restore(marker.sequence, table.fold_rows())
    except (Distrusted, MemoryError):
        raise
    except Exception as error:
        raise Distrusted(f"{table.path}: {error}") from error
    if folds.digest() != marker.digest:
        raise Distrusted(f"{table.path}: the rows do not have the digest of the marker")
    return marker
