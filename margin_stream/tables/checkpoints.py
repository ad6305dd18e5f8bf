"""Checkpoints: the rows of a fold and a marker that says where they stand, written as one batch, believed only if the digest confirms them."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import msgspec

from margin_stream.core.account import ROW_HEADS
from margin_stream.core.account_fold import AccountFold
from margin_stream.core.digests import NO_CHAIN
from margin_stream.core.intake import IntakeFold
from margin_stream.core.market import Market
from margin_stream.journal.records import Cut
from margin_stream.tables.rocks import Table, TableError

MARKER = b"\0marker"
MARKET = b"\0market"
ACCOUNT = b"a/"


class Marker(msgspec.Struct, frozen=True, array_like=True):
    """Where a checkpoint stands."""

    position: int
    journal: Cut
    effects: Cut
    """The end of the fold's effects log."""
    digest: bytes
    """Over every row of the checkpoint."""


class Distrusted(Exception):
    """A checkpoint is not what its digest says, or cannot be read: it is not used, the journal is folded instead."""


def partition_digest(fold: AccountFold) -> bytes:
    """Return the digest of a flushed partition: position, market, state and effect sums."""
    whole = sha256(fold.position.to_bytes(8, "big") + fold.market.digest())
    for sums in (fold.state_sums, fold.effect_sums):
        for slot in sorted(sums):
            if sums[slot]:
                whole.update(slot.to_bytes(2, "big") + sums[slot].to_bytes(32, "big"))
        whole.update(b"\0")
    return whole.digest()


def store_partition(table: Table, fold: AccountFold, journal: Cut, effects: Cut) -> None:
    """Write a partition's changed rows and its marker; the fold is flushed first."""
    fold.flush()
    marker = Marker(fold.position, journal, effects, partition_digest(fold))

    def rows() -> Iterator[tuple[bytes, bytes]]:
        for name, row, chain in fold.changed_rows():
            yield ACCOUNT + name.encode(), account_row(row, chain)
        yield MARKET, fold.market.packed()
        yield MARKER, msgspec.msgpack.encode(marker)

    table.write(rows())
    fold.mark_stored()


def account_row(row: bytes, chain: bytes) -> bytes:
    """Return the stored value of an account: its row, its effect chain in front where it has effects."""
    return row if chain == NO_CHAIN else chain + row


def split_row(value: bytes) -> tuple[bytes, bytes]:
    """Return row and chain of a stored value. A row is told by its first four bytes, a chain goes before it."""
    if value[:4] in ROW_HEADS:
        return value, NO_CHAIN
    return value[32:], value[:32]


def load_partition(table: Table, fold: AccountFold) -> Marker | None:
    """Fill an empty partition from its table; None where there is no checkpoint.

    Raises:
        Distrusted: the table cannot be read, or its rows do not have the digest of its marker.
    """
    market: bytes | None = None
    marker: bytes | None = None
    try:
        marker, market = table.get(MARKER), table.get(MARKET)
        if marker is None:
            return None
        if market is None:
            raise Distrusted(f"{table.path}: the market row is missing")
        decoded = msgspec.msgpack.decode(marker, type=Marker)
        rows = (split_row(value) for key, value in table.rows() if key.startswith(ACCOUNT))
        fold.restore(Market.unpacked(market), decoded.position, rows)
    except Distrusted:
        raise
    except Exception as error:
        raise Distrusted(f"{table.path}: {error}") from error
    if partition_digest(fold) != decoded.digest:
        raise Distrusted(f"{table.path}: the rows do not have the digest of the marker")
    return decoded


def store_intake(table: Table, intake: IntakeFold, journal: Cut, effects: Cut) -> None:
    """Write the intake's changed rows and its marker."""
    marker = Marker(intake.position, journal, effects, intake_digest(intake))

    def rows() -> Iterator[tuple[bytes, bytes]]:
        yield from intake.stored()
        yield MARKER, msgspec.msgpack.encode(marker)

    table.write(rows())
    intake.mark_stored()


def intake_digest(intake: IntakeFold) -> bytes:
    """Return the digest of an intake: its facts and the heads of its effects."""
    return sha256(intake.digest() + intake.effects_head()).digest()


def load_intake(table: Table, partitions: int) -> tuple[IntakeFold, Marker] | None:
    """Return the intake of its table; None where there is no checkpoint.

    Raises:
        Distrusted: as ``load_partition``.
    """
    try:
        marker = table.get(MARKER)
        if marker is None:
            return None
        decoded = msgspec.msgpack.decode(marker, type=Marker)
        intake = IntakeFold.restored(partitions, table.rows())
    except TableError as error:
        raise Distrusted(str(error)) from error
    except Exception as error:
        raise Distrusted(f"{table.path}: {error}") from error
    if intake_digest(intake) != decoded.digest:
        raise Distrusted(f"{table.path}: the rows do not have the digest of the marker")
    return intake, decoded
