"""NDJSON: one event a line, decimals as strings, times as RFC 3339. The form for people and other programs.

``decode_line`` has two ways. The quick one parses with orjson and takes nothing on trust that orjson does not check;
whatever it does not like goes to the careful one, which parses with the standard library and reports what is wrong,
where, and how to correct it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import msgspec
import orjson

from margin_stream.schemas.decimals import format_decimal, parse_pair
from margin_stream.schemas.inputs import INPUT_TYPES, AnyInput, Input, name_of
from margin_stream.schemas.objects import SHAPES, OversizedNumber, event_of
from margin_stream.schemas.refusals import Refusal, RefusedInput
from margin_stream.schemas.rules_versions import latest
from margin_stream.schemas.times import format_time, parse_time

LINE_LIMIT = 1 << 20
"""The longest line that is decoded, in bytes, its line end not counted."""
DEPTH_LIMIT = 32

_loads = orjson.loads
_convert = msgspec.convert


def decode_line(line: bytes, rules_version: int) -> AnyInput:
    """Return the event of one NDJSON line (without its line end), as a rules version reads it.

    Raises:
        RefusedInput: with reason, detail and field; never anything else.
    """
    try:
        event = _decode_quickly(line, rules_version)
        if event is not None:
            return event
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return _decode_carefully(line, rules_version)


def _decode_quickly(line: bytes, rules_version: int) -> AnyInput | None:
    """Return the event of a line as most are; None, or any of four errors, where it takes the careful way.

    Without a handler of its own: where no memory is left, CPython turns in a circle as it leaves one that lies far
    behind a function's begin.
    """
    fields = _loads(line)
    shape = SHAPES[fields["type"]]
    # Where no white space stands before a colon, every key is followed by ": and a text that holds ": only adds to the
    # count; so equal counts mean that no key was given twice. Anything else is left to the careful way. (orjson turns
    # 3.0 into a float and msgspec would take it for an integer, hence the look at the type.)
    if (
        shape.quick
        and line.count(b'":') == len(fields)
        and b" :" not in line
        and b"\t:" not in line
        and b"\r:" not in line
        and len(line) <= LINE_LIMIT
        and type(fields["source_seq"]) is int
        and type(fields.get("leverage", 0)) is int
        and (rules_version >= latest() or shape.known(fields, rules_version))
    ):
        for name in shape.times:
            if name in fields:
                fields[name] = parse_time(fields[name])
        for name in shape.decimals:
            if name in fields:
                value = fields[name]
                if type(value) is not str:
                    raise ValueError(name)
                fields[name] = parse_pair(value)
        fields["type"] = shape.tag
        return _convert(fields, shape.kind)  # type: ignore[return-value]
    return None


def _decode_carefully(line: bytes, rules_version: int) -> AnyInput:
    if len(line) > LINE_LIMIT:
        raise RefusedInput(Refusal.TOO_LONG, f"the line has {len(line)} bytes, the limit is {LINE_LIMIT}")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedInput(Refusal.NOT_UTF8, f"byte {error.start} of the line is not UTF-8") from None
    if _depth(text) > DEPTH_LIMIT:
        raise RefusedInput(Refusal.TOO_DEEP, f"nested more than {DEPTH_LIMIT} deep")
    value = _loaded(text)
    if "\\u" in text and not _encodable(value):
        raise RefusedInput(Refusal.NOT_JSON, "a \\u escape is half of a surrogate pair")
    if not isinstance(value, dict):
        raise RefusedInput(Refusal.NOT_AN_OBJECT, f"expected an object, got {type(value).__name__}")
    return event_of(value, text_times=True, rules_version=rules_version)


def _loaded(text: str) -> object:
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_no_constant,
            parse_float=OversizedNumber,
            parse_int=_bounded_int,
        )
    except RecursionError:
        raise RefusedInput(Refusal.TOO_DEEP, f"nested more than {DEPTH_LIMIT} deep") from None
    except ValueError as error:
        raise RefusedInput(Refusal.NOT_JSON, f"not JSON: {error}") from None


def _depth(text: str) -> int:
    """Return how deep arrays and objects nest, brackets inside strings not counted; one over the limit where they go
    deeper."""
    if text.count("{") + text.count("[") <= DEPTH_LIMIT:
        return 0
    depth = deepest = 0
    inside = escaped = False
    for character in text:
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        elif character in "{[":
            depth += 1
            deepest = max(deepest, depth)
            if depth > DEPTH_LIMIT:
                return depth
        elif character in "}]":
            depth -= 1
    return deepest


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        given = Counter(name for name, _ in pairs)
        twice = next(name for name, times in given.items() if times > 1)
        raise RefusedInput(Refusal.DUPLICATE_KEY, f"{twice[:60]}: the key is given twice", twice[:60])
    return fields


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON number")


def _bounded_int(text: str) -> object:
    return int(text) if len(text) <= 64 else OversizedNumber(text)


def _encodable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


ENVELOPE = ("source", "source_seq", "event_time")
"""What every input begins with, behind its type."""


class _Plan(NamedTuple):
    """How one type is written: (field, default or a marker that it has none, how its value turns into text)."""

    name: str
    fields: tuple[tuple[str, object, Callable[[Any], str] | None], ...]


_NO_DEFAULT = object()


def _plan(kind: type[Input]) -> _Plan:
    shape = SHAPES[str(kind.__struct_config__.tag)]
    fields = []
    # The envelope comes first, and what may be left out of it last.
    for field in sorted(msgspec.structs.fields(kind), key=lambda field: field.name not in ENVELOPE):
        form: Callable[[Any], str] | None = None
        if field.name in shape.decimals:
            form = format_decimal
        elif field.name in shape.times:
            form = format_time
        fields.append((field.name, _NO_DEFAULT if field.required else field.default, form))
    return _Plan(name_of(kind), tuple(fields))


_PLANS = {kind: _plan(kind) for kind in INPUT_TYPES}


def to_mapping(event: Input) -> dict[str, Any]:
    """Return an event as a JSON-ready mapping: bare type name, decimals and times as text, defaults left out."""
    name, plan = _PLANS[type(event)]
    fields: dict[str, Any] = {"type": name}
    for field, default, form in plan:
        value = getattr(event, field)
        if default is not _NO_DEFAULT and value == default:
            continue
        fields[field] = form(value) if form is not None and value is not None else value
    return fields


def encode_line(event: Input) -> bytes:
    """Return the event as one NDJSON line, with its line end."""
    return orjson.dumps(to_mapping(event)) + b"\n"


def clipped(line: bytes) -> bytes:
    """Return what is kept of a line: all of it, or of one over the limit the first ``LINE_LIMIT + 1`` bytes.

    That is enough to refuse it and to know it again. Every way into a store clips here, so that a line of 50 MB takes
    no more room than one just over the limit, and is the same input whichever way it came.
    """
    return line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT + 1]


def read_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream without line ends; blank lines are passed over.

    A UTF-8 byte-order mark at the start, CRLF, and a last line without line end are fine. Of a line over the limit the
    rest is read and dropped (``clipped``), so memory stays bounded.
    """
    first = True
    while True:
        # Room for a byte-order mark and CRLF: what fills it all without a line end is over the limit, whatever is taken
        # off it.
        line = stream.readline(LINE_LIMIT + 6)
        if not line:
            return
        ended = line.endswith(b"\n") or len(line) < LINE_LIMIT + 6
        if not ended:
            while (rest := stream.readline(LINE_LIMIT)) and not rest.endswith(b"\n"):
                pass
        if first:
            line = line.removeprefix(b"\xef\xbb\xbf")
            first = False
        line = clipped(line.rstrip(b"\r\n") if ended else line)
        if line and not line.isspace():
            yield line
