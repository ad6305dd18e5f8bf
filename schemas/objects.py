"""From loose mappings (parsed JSON, foreign msgpack) to typed events: names, versions, decimals, times, and clear
errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from margin_stream.schemas.decimals import DecimalError, DecimalPair, canonical, packed, parse_pair, whole
from margin_stream.schemas.inputs import (
    INPUT_TYPES,
    AccountChanged,
    AccountOpened,
    AnyInput,
    ClockTicked,
    CollateralMoved,
    FundingPaid,
    Input,
    Moment,
    PositionChanged,
    PriceTicked,
    name_of,
    tag_of,
)
from margin_stream.schemas.refusals import Refusal, RefusedInput
from margin_stream.schemas.rules_versions import FIELDS_SINCE, TYPES_SINCE, WORDS_SINCE, latest
from margin_stream.schemas.times import TimeError, parse_time
from margin_stream.schemas.upcast import UPCASTERS, upcast


class OversizedNumber:
    """Stands for a JSON number that is no plain integer: a float, or an integer of absurd length."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Shape(NamedTuple):
    """How the loose form of one event type is read."""

    kind: type[Input]
    tag: str
    decimals: tuple[str, ...]
    times: tuple[str, ...]
    fields: frozenset[str]
    required: tuple[str, ...]
    nullable: frozenset[str]
    """Decimals that may be null."""
    since: dict[str, int]
    """Field -> the first rules version that knows it, where that is not the type's own."""
    words: dict[str, dict[str, int]]
    """Field -> word -> the first rules version that knows it."""
    type_since: int
    quick: bool
    """Its only integers are source_seq and leverage, and nothing nests: the quick way of NDJSON may read it."""

    def known(self, names: Iterable[str], rules_version: int) -> bool:
        """Return whether a rules version knows the type and the fields."""
        return self.type_since <= rules_version and all(self.since.get(name, 0) <= rules_version for name in names)

    def knows(self, event: Input, rules_version: int) -> bool:
        """Return whether a rules version knows everything in an event, fields at their default left out."""
        if rules_version >= latest():
            return True
        defaults = {field.name: field.default for field in msgspec.structs.fields(self.kind)}
        given = [name for name in self.since if getattr(event, name) != defaults[name]]
        words = all(choices.get(getattr(event, name), 0) <= rules_version for name, choices in self.words.items())
        return words and self.known(given, rules_version)


def _shape(kind: type[Input]) -> Shape:
    fields = msgspec.structs.fields(kind)
    return Shape(
        kind=kind,
        tag=tag_of(kind),
        decimals=tuple(f.name for f in fields if f.type in (DecimalPair, DecimalPair | None)),
        times=tuple(f.name for f in fields if f.type == Moment),
        fields=frozenset(f.name for f in fields) | {"type"},
        required=tuple(f.name for f in fields if f.required),
        nullable=frozenset(f.name for f in fields if f.type == DecimalPair | None),
        since=FIELDS_SINCE.get(name_of(kind), {}),
        words={field: words for (name, field), words in WORDS_SINCE.items() if name == name_of(kind)},
        type_since=TYPES_SINCE.get(name_of(kind), 1),
        quick=kind
        in (PriceTicked, ClockTicked, PositionChanged, CollateralMoved, FundingPaid, AccountOpened, AccountChanged),
    )


SHAPES: dict[str, Shape] = {}
"""By tag, and by bare name for the newest version."""
for _kind in INPUT_TYPES:
    SHAPES[tag_of(_kind)] = SHAPES[name_of(_kind)] = _shape(_kind)

PATH_SHOWN = 200
"""So many characters of a path or a key are shown of an input that is refused."""
KNOWN_NAMES = sorted(name_of(kind) for kind in INPUT_TYPES)


def _pair(mantissa: int, exponent: int) -> DecimalPair:
    mantissa, exponent = canonical(mantissa, exponent)
    return packed(mantissa), exponent


def decimal_field(value: object, field: str) -> DecimalPair:
    """Return the canonical pair of a decimal in loose form: text, integer, or (from msgpack) a pair of integers."""
    try:
        if type(value) is str:
            return parse_pair(value)
        if type(value) is int:
            return _pair(value, 0)
        if isinstance(value, (list, tuple)) and [type(part) for part in value] in ([int, int], [bytes, int]):
            if abs(value[1]) > 100:
                raise DecimalError("the exponent is out of range")
            return _pair(whole(value[0]), value[1])
    except DecimalError as error:
        raise RefusedInput(Refusal.BAD_VALUE, f"{field}: {error}", field) from None
    if isinstance(value, (float, OversizedNumber)):
        text = value.text if isinstance(value, OversizedNumber) else repr(value)
        raise RefusedInput(
            Refusal.FLOAT_NOT_ALLOWED,
            f'{field}: the number {text[:40]} is a float; quote it: "{field}":"{text[:40]}"',
            field,
        )
    raise RefusedInput(Refusal.BAD_VALUE, f"{field}: expected a decimal in quotes, got {type(value).__name__}", field)


def time_field(value: object, field: str) -> int:
    """Return nanoseconds since 1970 of a time in loose form: RFC 3339 text, or (from msgpack) an integer of
    nanoseconds."""
    if type(value) is str:
        try:
            return parse_time(value)
        except TimeError as error:
            raise RefusedInput(Refusal.BAD_VALUE, f"{field}: {error}", field) from None
    if type(value) is int:
        return value
    raise RefusedInput(
        Refusal.BAD_VALUE, f"{field}: expected an RFC 3339 time in quotes, got {type(value).__name__}", field
    )


def _find_float(value: object) -> tuple[str, str] | None:
    """Return path and text of the first float within a value. The path is made on the way back: a long key has many
    children."""
    if isinstance(value, float):
        return "", repr(value)
    if isinstance(value, OversizedNumber):
        return "", value.text
    if isinstance(value, Mapping):
        for key, child in value.items():
            found = _find_float(child)
            if found is not None:
                return f".{key}{found[0]}", found[1]
    elif isinstance(value, (list, tuple)):
        for n, child in enumerate(value):
            found = _find_float(child)
            if found is not None:
                return f"[{n}]{found[0]}", found[1]
    return None


def shape_of(tag: object, rules_version: int) -> Shape:
    """Return the shape that a ``type`` names, newest version if it names none.

    Args:
        tag: the value of ``type``.
        rules_version: that reads it.

    Raises:
        RefusedInput: TYPE_MISSING or UNKNOWN_TYPE.
    """
    if tag is None:
        raise RefusedInput(Refusal.TYPE_MISSING, 'the event has no "type"', "type")
    shape = SHAPES.get(tag) if isinstance(tag, str) else None
    if shape is None or shape.type_since > rules_version:
        raise RefusedInput(
            Refusal.UNKNOWN_TYPE, f"type: {str(tag)[:60]!r} is unknown; known are {', '.join(KNOWN_NAMES)}", "type"
        )
    return shape


def event_of(fields: Mapping[str, Any], *, text_times: bool, rules_version: int) -> AnyInput:
    """Return the typed event of a loose mapping; the refusals are in order of precedence.

    Args:
        fields: keys and values as parsed, ``type`` among them.
        text_times: times must be text (NDJSON), integers are for msgpack only.
        rules_version: that reads it; what only a later one knows is refused.

    Raises:
        RefusedInput: with reason, detail and field.
    """
    tag = fields.get("type")
    if isinstance(tag, str) and tag in UPCASTERS:
        tag, fields = upcast(tag, fields)
    shape = shape_of(tag, rules_version)
    found = _find_float(fields)
    if found is not None:
        path, text = found[0].removeprefix(".")[:PATH_SHOWN], found[1]
        raise RefusedInput(
            Refusal.FLOAT_NOT_ALLOWED, f'{path}: the number {text[:40]} is a float; quote it: "{text[:40]}"', path
        )
    unknown = sorted(
        str(name) for name in fields if name not in shape.fields or shape.since.get(name, 0) > rules_version
    )
    if unknown:
        name = unknown[0][:PATH_SHOWN]
        raise RefusedInput(Refusal.UNKNOWN_FIELD, f"{name}: {name_of(shape.kind)} has no such field", name)
    for name in shape.required:
        if name not in fields:
            raise RefusedInput(Refusal.MISSING_FIELD, f"{name}: {name_of(shape.kind)} needs it", name)
    values = dict(fields)
    values["type"] = shape.tag
    for name in shape.decimals:
        if name in values and not (values[name] is None and name in shape.nullable):
            values[name] = decimal_field(values[name], name)
    for name in shape.times:
        if name in values:
            if text_times and type(values[name]) is not str:
                raise RefusedInput(Refusal.BAD_VALUE, f"{name}: expected an RFC 3339 time in quotes", name)
            values[name] = time_field(values[name], name)
    for name, words in shape.words.items():
        word = values.get(name)
        if isinstance(word, str) and words.get(word, 0) > rules_version:
            raise RefusedInput(
                Refusal.BAD_VALUE,
                f"{name}: {word!r} needs rules version {words[word]}; this store has {rules_version}",
                name,
            )
    try:
        return msgspec.convert(values, shape.kind)  # type: ignore[return-value]
    except msgspec.ValidationError as error:
        text = str(error)
        at = re.search(r"`\$\.([^`]*)`", text)
        field = at.group(1) if at else ""
        raise RefusedInput(
            Refusal.BAD_VALUE, f"{field or name_of(shape.kind)}: {text.split(' - at ')[0]}", field
        ) from None
