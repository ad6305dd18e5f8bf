"""Ticks in columns: many quotes of one source as integer arrays, decodable without one Python object a tick.

Every tick of a batch is an item of its own, with its own identity and its own sequence number in the journal.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

import msgspec

from margin_stream.schemas.decimals import POWERS_OF_TEN, DecimalPair, canonical
from margin_stream.schemas.inputs import PriceTicked, SourceName

ABSENT = -(2**63)
"""Stands for a bid or ask that was not quoted."""


class TickColumns(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="ticks.v1", gc=False
):
    """Ticks of one source. Columns are little-endian; all have the same number of elements.

    A price is ``mantissa * 10**exponents[index]``: one exponent an instrument and batch.
    """

    source: SourceName
    instruments: tuple[str, ...]
    exponents: tuple[int, ...]
    index: bytes
    """uint16 a tick: place in ``instruments``."""
    sequence: bytes
    """int64 a tick: source_seq."""
    time: bytes
    """int64 a tick: event_time in nanoseconds."""
    price: bytes
    """int64 a tick: mantissa."""
    bid: bytes = b""
    """int64 a tick, or empty where no tick of the batch has a bid; ABSENT where one has none."""
    ask: bytes = b""

    def __len__(self) -> int:
        return len(self.index) // 2


def unpack(kind: str, column: bytes) -> array[int]:
    """Return a little-endian column as an array (``H`` for uint16, ``q`` for int64)."""
    values: array[int] = array(kind)
    values.frombytes(column)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def pack(kind: str, values: Sequence[int]) -> bytes:
    """Return integers as a little-endian column."""
    column: array[int] = array(kind, values)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def columns_of(ticks: Sequence[PriceTicked]) -> TickColumns | None:
    """Return ticks of one source as columns, in order; None where a mantissa would not fit one exponent an
    instrument, or a tick names what it corrects, for which there is no column."""
    if any(tick.corrects for tick in ticks):
        return None
    places: dict[str, int] = {}
    exponents: list[int] = []
    for tick in ticks:
        lowest = min(pair[1] for pair in (tick.price, tick.bid, tick.ask) if pair is not None)
        place = places.get(tick.instrument)
        if place is None:
            places[tick.instrument] = len(exponents)
            exponents.append(lowest)
        elif lowest < exponents[place]:
            exponents[place] = lowest
    index: list[int] = [places[tick.instrument] for tick in ticks]
    try:
        return TickColumns(
            source=ticks[0].source,
            instruments=tuple(places),
            exponents=tuple(exponents),
            index=pack("H", index),
            sequence=pack("q", [tick.source_seq for tick in ticks]),
            time=pack("q", [tick.event_time for tick in ticks]),
            price=pack(
                "q", [_mantissa(tick.price, exponents[place]) for tick, place in zip(ticks, index, strict=True)]
            ),
            bid=_optional([tick.bid for tick in ticks], index, exponents),
            ask=_optional([tick.ask for tick in ticks], index, exponents),
        )
    except OverflowError:
        return None


def _mantissa(pair: DecimalPair, exponent: int) -> int:
    mantissa, places = pair
    if isinstance(mantissa, bytes):
        raise OverflowError
    return mantissa * POWERS_OF_TEN[places - exponent]


def _optional(pairs: Sequence[DecimalPair | None], index: Sequence[int], exponents: Sequence[int]) -> bytes:
    if not any(pair is not None for pair in pairs):
        return b""
    return pack(
        "q",
        [
            ABSENT if pair is None else _mantissa(pair, exponents[place])
            for pair, place in zip(pairs, index, strict=True)
        ],
    )


def ticks_of(columns: TickColumns) -> list[PriceTicked]:
    """Return the ticks of a batch as events, for people and for tests; the fold reads the columns themselves."""
    bids = unpack("q", columns.bid) if columns.bid else None
    asks = unpack("q", columns.ask) if columns.ask else None
    ticks = []
    rows = zip(
        unpack("H", columns.index),
        unpack("q", columns.sequence),
        unpack("q", columns.time),
        unpack("q", columns.price),
        strict=True,
    )
    for n, (place, sequence, time, mantissa) in enumerate(rows):
        exponent = columns.exponents[place]
        ticks.append(
            PriceTicked(
                source=columns.source,
                source_seq=sequence,
                event_time=time,
                instrument=columns.instruments[place],
                price=canonical(mantissa, exponent),
                bid=None if bids is None or bids[n] == ABSENT else canonical(bids[n], exponent),
                ask=None if asks is None or asks[n] == ABSENT else canonical(asks[n], exponent),
            )
        )
    return ticks
