"""What one record of a topic journal may hold: NDJSON (one or many lines) or msgpack (one item, or an array of items).

A record is told by its first byte: a msgpack map or array, or else text. Nothing that a producer can write raises here:
what cannot be decoded is one raw item, kept as it came, and refused by the intake with its reason.

A *raw item* is the bytes of one item with a mark in front: ``L`` for a line of NDJSON, ``M`` for a msgpack item.
"""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import msgspec

from margin_stream.schemas.binary import ITEM_LIMIT, UNDECODABLE, canonical_bytes, decode_foreign_item
from margin_stream.schemas.columns import TickColumns, ticks_of, unpack
from margin_stream.schemas.decimals import EXPONENT_LIMIT, DecimalError, DecimalPair, canonical, packed, whole
from margin_stream.schemas.inputs import INPUT_TYPES, AnyInput, Input, tag_of
from margin_stream.schemas.ndjson import clipped, decode_line, encode_line, read_lines
from margin_stream.schemas.objects import SHAPES
from margin_stream.schemas.refusals import RefusedInput
from margin_stream.schemas.rules_versions import latest

LINE = b"L"
"""Mark of an NDJSON line."""
ITEM = b"M"
"""Mark of a msgpack item."""

_QUICK = {
    kind: SHAPES[str(kind.__struct_config__.tag)].decimals
    for kind in INPUT_TYPES
    if SHAPES[str(kind.__struct_config__.tag)].quick
}
"""Types that the quick way reads, and which of their fields are decimals."""
_quick = msgspec.msgpack.Decoder(AnyInput | TickColumns)
_raws = msgspec.msgpack.Decoder(list[msgspec.Raw])
_binary = msgspec.msgpack.Decoder(bytes)
_BINARY_MARKS = (0xC4, 0xC5, 0xC6)


def raw_items(value: bytes | None) -> list[bytes]:
    """Return the raw items of a record's value, in order; an absent or empty value is one item without content.

    Of an item over the limit only as much is kept as shows that it is: refused items travel on to the quarantine, in
    messages that have a limit too.
    """
    if not value:
        return [LINE]
    first = value[0]
    if first < 0x80 or not (first < 0xA0 or first in (0xDC, 0xDD, 0xDE, 0xDF)):
        return [LINE + line for line in read_lines(BytesIO(value))] or [LINE]
    if first < 0x90 or first in (0xDE, 0xDF):
        return [ITEM + _clipped_item(value)]
    try:
        parts = _raws.decode(value)
    except UNDECODABLE:
        return [ITEM + _clipped_item(value)]
    return [_raw_item(bytes(part)) for part in parts]


def _raw_item(part: bytes) -> bytes:
    """Return one element of an array as a raw item; a binary that begins with a mark is one already."""
    if part[0] in _BINARY_MARKS:
        content = _binary.decode(part)
        if content[:1] == LINE:
            return LINE + clipped(content[1:])
        if content[:1] == ITEM:
            return ITEM + _clipped_item(content[1:])
    return ITEM + _clipped_item(part)


def _clipped_item(data: bytes) -> bytes:
    return data if len(data) <= ITEM_LIMIT else data[: ITEM_LIMIT + 1]


def count_of(raw: bytes) -> int:
    """Return how many items a raw item is: ticks in columns are as many as they have."""
    try:
        columns = _quick.decode(raw[1:]) if raw[:1] == ITEM else None
    except UNDECODABLE:
        columns = None
    return len(columns) if isinstance(columns, TickColumns) and _sound(columns) else 1


def decode_raw(raw: bytes, rules_version: int) -> AnyInput | TickColumns:
    """Return the event, or the ticks in columns, of a raw item, as a rules version reads it.

    Raises:
        RefusedInput: with reason, detail and field; never anything else.
    """
    if raw[:1] == LINE:
        return decode_line(raw[1:], rules_version)
    data = raw[1:]
    try:
        event: AnyInput | TickColumns = _quick.decode(data)
        if isinstance(event, TickColumns):
            if len(data) <= ITEM_LIMIT and _sound(event):
                return event
        else:
            decimals = _QUICK.get(type(event))
            # Only what is byte for byte the canonical form is taken as decoded; any other spelling goes the careful
            # way.
            if (
                decimals is not None
                and canonical_bytes(event) == data
                and all(_canonical(getattr(event, name)) for name in decimals)
                and (rules_version >= latest() or SHAPES[tag_of(type(event))].knows(event, rules_version))
            ):
                return event
    except UNDECODABLE:
        pass
    return decode_foreign_item(data, rules_version)


def line_form(raw: bytes) -> bytes | None:
    """Return the line that a raw item is, or, in canonical form, stands for byte for byte (``compact``); None for
    another item of msgpack."""
    if raw[:1] == LINE:
        return raw[1:]
    try:
        event = decode_raw(raw, latest())
    except RefusedInput:
        return None
    return encode_line(event)[:-1] if isinstance(event, Input) and canonical_bytes(event) == raw[1:] else None


def readable(raw: bytes) -> dict[str, str]:
    """Return the bytes of a raw item as a JSON object shows them: ``raw`` where they are text, or stand for a line;
    else ``raw_base64``."""
    line = line_form(raw)
    data = raw[1:] if line is None else line
    try:
        return {"raw": data.decode()}
    except UnicodeDecodeError:
        return {"raw_base64": b64encode(data).decode()}


def compact(line: bytes, rules_version: int) -> AnyInput | None:
    """Return the event of a line that can be given back from the event byte for byte; None where it must travel as it
    came.

    Args:
        line: of NDJSON, clipped, without its line end.
        rules_version: with which the store that it goes to began: what that version refuses must be refused by its
            bytes.

    Raises:
        RefusedInput: the line cannot be decoded.
    """
    event = decode_line(line, rules_version)
    return event if encode_line(event)[:-1] == line else None


def _canonical(pair: DecimalPair | None) -> bool:
    if pair is None:
        return True
    try:
        mantissa, exponent = canonical(whole(pair[0]), pair[1])
        return (packed(mantissa), exponent) == pair
    except DecimalError:
        return False


def _sound(columns: TickColumns) -> bool:
    """Say whether columns that anyone may have written are what they should be."""
    count = len(columns.index) // 2
    wide = [columns.sequence, columns.time, columns.price]
    wide += [column for column in (columns.bid, columns.ask) if column]
    names, exponents = columns.instruments, columns.exponents
    if count == 0 or len(columns.index) != 2 * count or any(len(column) != 8 * count for column in wide):
        return False
    if len(names) != len(exponents) or any(not -EXPONENT_LIMIT <= exponent <= EXPONENT_LIMIT for exponent in exponents):
        return False
    if any(not 0 < len(name) <= 64 for name in names) or max(unpack("H", columns.index)) >= len(names):
        return False
    if max(exponents) > 0:
        try:
            # Trailing zeros of a mantissa raise its exponent.
            list(ticks_of(columns))
        except DecimalError:
            return False
    return min(unpack("q", columns.sequence)) >= 0 and min(unpack("q", columns.time)) >= 0
