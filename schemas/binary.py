"""msgpack: the form of the journal. A record's payload is an array of items; an item is one of

* a map with ``type`` and the fields of an event, decimals as ``[mantissa, exponent]``, times as integers of
  nanoseconds, defaults left out (its bytes are the event's canonical form);
* a map of type ``ticks.v1``: ticks in columns, each an item of its own;
* a binary: the raw bytes of an input that was refused, kept as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from margin_stream.schemas.columns import TickColumns
from margin_stream.schemas.inputs import AnyInput, Input
from margin_stream.schemas.objects import event_of
from margin_stream.schemas.refusals import Refusal, RefusedInput
from margin_stream.schemas.rules_versions import latest

ITEM_LIMIT = 1 << 20

JournalItem = AnyInput | TickColumns | bytes
"""What a record holds: an event, ticks in columns, or the raw bytes of a refused input."""

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_items = msgspec.msgpack.Decoder(list[msgspec.Raw])
_typed = msgspec.msgpack.Decoder(AnyInput | TickColumns)
_loose = msgspec.msgpack.Decoder()
_binary = msgspec.msgpack.Decoder(bytes)

encode = _encoder.encode
"""Canonical bytes of an event, an effect or ticks in columns."""

_BINARY_MARKS = (0xC4, 0xC5, 0xC6)


def encode_payload(items: Iterable[bytes]) -> bytes:
    """Return the payload of a record from items that are encoded already."""
    encoded = list(items)
    count = len(encoded)
    if count < 16:
        head = bytes((0x90 | count,))
    elif count < 1 << 16:
        head = b"\xdc" + count.to_bytes(2, "big")
    else:
        head = b"\xdd" + count.to_bytes(4, "big")
    return head + b"".join(encoded)


UNDECODABLE: tuple[type[ValueError], type[RecursionError]] = (ValueError, RecursionError)
"""What msgspec raises of bytes that are not what they should be: text that is no UTF-8 and deep nesting are no
``DecodeError``."""


def decode_payload(payload: bytes) -> list[JournalItem]:
    """Return the items of a record that this program wrote.

    Raises:
        msgspec.DecodeError: the payload is not what this program writes; its checksum being right, that is a fault.
    """
    return [_decode_item(raw) for raw in _items.decode(payload)]


def _decode_item(raw: msgspec.Raw) -> JournalItem:
    view = memoryview(raw)
    if view[0] in _BINARY_MARKS:
        return _binary.decode(view)
    try:
        event: JournalItem = _typed.decode(view)
        return event
    except msgspec.ValidationError:
        # A tag of an older version: the loose way upcasts it.
        try:
            fields = _loose.decode(view)
            if not isinstance(fields, dict):
                raise msgspec.ValidationError(f"Expected an item, got `{type(fields).__name__}`")
            return event_of(fields, text_times=False, rules_version=latest())
        except RefusedInput as refused:
            raise msgspec.DecodeError(refused.detail) from None


def decode_foreign_item(data: bytes, rules_version: int) -> AnyInput:
    """Return the event of a msgpack map that another program wrote: any spelling of decimals and times that is allowed.

    Args:
        data: the item's bytes.
        rules_version: that reads it.

    Raises:
        RefusedInput: with reason, detail and field; never anything else.
    """
    if len(data) > ITEM_LIMIT:
        raise RefusedInput(Refusal.TOO_LONG, f"the item has {len(data)} bytes, the limit is {ITEM_LIMIT}")
    try:
        value = _loose.decode(data)
    except UNDECODABLE as error:
        raise RefusedInput(Refusal.NOT_MSGPACK, f"not msgpack: {error}") from None
    if not isinstance(value, dict):
        raise RefusedInput(Refusal.NOT_AN_OBJECT, f"expected a map, got {type(value).__name__}")
    if len(value) != _map_length(data):
        raise RefusedInput(Refusal.DUPLICATE_KEY, "a key is given twice")
    if value.get("type") == TickColumns.__struct_config__.tag:
        raise RefusedInput(Refusal.BAD_VALUE, "ticks in columns whose columns do not fit each other")
    return event_of({str(name): field for name, field in value.items()}, text_times=False, rules_version=rules_version)


def _map_length(data: bytes) -> int:
    """Return how many pairs a msgpack map states that it has."""
    if data[0] == 0xDE:
        return int.from_bytes(data[1:3], "big")
    if data[0] == 0xDF:
        return int.from_bytes(data[1:5], "big")
    return data[0] & 0x0F


def canonical_bytes(event: Input) -> bytes:
    """Return the bytes over which an event's content is compared: equal content, equal bytes, whatever the spelling."""
    return encode(event)


def item_count(items: Sequence[JournalItem]) -> int:
    """Return how many items a record holds, ticks in columns counted one by one."""
    return sum(len(item) if isinstance(item, TickColumns) else 1 for item in items)
