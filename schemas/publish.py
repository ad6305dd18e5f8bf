"""Write what is generated from the types: JSON Schema, golden samples, the event catalogue. ``python -m
schemas.publish``; a test keeps them fresh."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
import typing
from pathlib import Path
from typing import Any, get_args

import msgspec

from margin_stream.schemas.decimals import DecimalPair
from margin_stream.schemas.effects import EFFECT_TYPES, AccountEffect, Effect, Valued
from margin_stream.schemas.inputs import INPUT_TYPES, Input, Moment, name_of, tag_of
from margin_stream.schemas.ndjson import encode_line
from margin_stream.schemas.objects import SHAPES
from margin_stream.schemas.refusals import ADVICE, Refusal

ROOT = Path(__file__).resolve().parent.parent
DECIMAL_SCHEMA = {"type": ["string", "integer"], "pattern": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"}
TIME_SCHEMA = {"type": "string", "format": "date-time"}
ENVELOPE = {"source": "example/1", "source_seq": 1, "event_time": 1_621_427_400_000_000_000}


def input_schema(kind: type[Input]) -> dict[str, Any]:
    """Return the JSON Schema of an input as NDJSON."""
    schemas, components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    body: dict[str, Any] = components[kind.__name__]
    shape = SHAPES[tag_of(kind)]
    for name in shape.decimals:
        default = body["properties"][name].get("default")
        body["properties"][name] = (
            dict(DECIMAL_SCHEMA) if default is None else {**DECIMAL_SCHEMA, "default": _text(default)}
        )
    for name in shape.times:
        body["properties"][name] = dict(TIME_SCHEMA)
    body["properties"]["type"] = {"enum": [name_of(kind), tag_of(kind)]}
    del schemas
    return body


def _text(pair: Any) -> str:
    from margin_stream.schemas.decimals import format_decimal

    return format_decimal((pair[0], pair[1]))


def json_schema() -> dict[str, Any]:
    """Return the schema of every input line and of every effect."""
    _, effects = msgspec.json.schema_components(EFFECT_TYPES, ref_template="#/$defs/{name}")
    inputs = {kind.__name__: input_schema(kind) for kind in INPUT_TYPES}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "margin_stream inputs (NDJSON) and effects",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in inputs],
        "$defs": {**inputs, **effects},
    }


def samples() -> list[Input]:
    """Return one input of every type, every field set."""
    decimals: DecimalPair = (380001, -1)
    values: dict[str, Any] = {
        "source": "example/1",
        "event_time": ENVELOPE["event_time"],
        "corrects": "example/1#0",
        "time": ENVELOPE["event_time"],
        "effective_from": ENVELOPE["event_time"],
        "confirmed_by": "operator-1",
        "approved_by": "risk-1",
        "actor": "risk-1",
        "parameters": {"base_currency": "USDT"},
        "instrument": "BTCUSDT",
        "base": "BTC",
        "currency": "USDT",
        "kind": "spot",
        "account": "A-000017",
        "base_currency": "USDT",
        "profile": "prime",
        "model": "prime",
        "margin_group": "A-000017",
        "desk": "desk-1",
        "contacts": ("ops-17",),
        "reason": "trade",
        "asset": "USDT",
        "call": "A-000017/call/1",
        "isolated": "BTCUSDT-PERP",
        "from_isolated": "",
        "position_side": "long",
        "leverage": 20,
        "effect": "A-000017/5",
        "outcome": "delivered",
        "detail": "to ops-17",
    }
    found: list[Input] = []
    for number, kind in enumerate(INPUT_TYPES, start=1):
        fields: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            if field.name == "source_seq":
                fields[field.name] = number
            elif field.name == "rate":
                fields[field.name] = (1, -4)
            elif field.type in (DecimalPair, DecimalPair | None):
                fields[field.name] = (2, -1) if field.name.startswith(("band", "reanchor")) else decimals
            else:
                fields[field.name] = values.get(field.name, "a text" if _is_text(field) else 5)
        found.append(kind(**fields))
    return found


def _is_text(field: msgspec.structs.FieldInfo) -> bool:
    return str in (field.type, *get_args(field.type))


def catalogue() -> str:
    """Return docs/events.md."""
    lines = [
        "# Event catalogue",
        "",
        "Generated from the types by `make schemas`; do not edit.",
        "Inputs are NDJSON, one object a line; decimals are strings, times RFC 3339 in UTC.",
        "Every input has `type`, `source`, `source_seq`, `event_time`, and perhaps `corrects`.",
        "",
        "## Inputs",
        "",
    ]
    for kind in INPUT_TYPES:
        lines += [f"### `{name_of(kind)}` ({tag_of(kind)})", "", *_described(kind, Input), ""]
    lines += [
        "## Effects",
        "",
        "Every effect has `type`, `id` (`<group>/<number>`), `sequence` (the sequence number of its cause) and `at`",
        "(the clock in force).",
        "",
        "An effect on an account also has:",
        "",
        *field_table(AccountEffect, Effect),
        "",
        "An effect with a valuation has these too:",
        "",
        *field_table(Valued, AccountEffect),
        "",
    ]
    for effect in EFFECT_TYPES:
        family = next(base for base in (Valued, AccountEffect, Effect) if issubclass(effect, base))
        lines += [f"### `{name_of(effect)}` ({tag_of(effect)})", "", *_described(effect, family), ""]
        if family is not Effect:
            what = "an effect with a valuation" if family is Valued else "an effect on an account"
            lines[-1:] = [*([""] if lines[-2] else []), f"Also the fields of {what}.", ""]
    lines += [
        "## Refusals",
        "",
        "In order of precedence. A refused input keeps its sequence number, its raw bytes and its reason.",
        "",
    ]
    lines += ["| reason | what the sender should do |", "|---|---|"]
    lines += [f"| `{reason.value}` | {ADVICE[reason]} |" for reason in Refusal]
    return "\n".join(lines) + "\n"


def _described(kind: type[msgspec.Struct], envelope: type[msgspec.Struct]) -> list[str]:
    """Return an event's text, and the fields that its envelope does not have."""
    return [*textwrap.wrap(" ".join((inspect.getdoc(kind) or "").split()), 120), "", *field_table(kind, envelope)]


def field_table(kind: type[msgspec.Struct], envelope: type[msgspec.Struct] = msgspec.Struct) -> list[str]:
    """Return the fields of a type that its envelope does not have, as a table."""
    shared = {field.name for field in msgspec.structs.fields(envelope)}
    notes: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("margin_stream."):
            notes |= _notes(base)
    rows = []
    for field in msgspec.structs.fields(kind):
        if field.name in shared:
            continue
        need = "yes" if field.required else f"no ({_default(field)})"
        rows.append(f"| `{field.name}` | {_type(field.type)} | {need} | {notes.get(field.name, '')} |")
    return ["| field | type | needed | meaning |", "|---|---|---|---|", *rows] if rows else []


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.type in (DecimalPair, DecimalPair | None) and field.default is not None:
        return f'"{_text(field.default)}"'
    return json.dumps(field.default) if isinstance(field.default, (str, int, type(None))) else "[]"


def _type(kind: Any) -> str:
    if kind in (DecimalPair, DecimalPair | None):
        return "decimal"
    if kind == Moment:
        return "time"
    if typing.get_origin(kind) is typing.Annotated:
        return _type(typing.get_args(kind)[0])
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(kind))
    text = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    if "tuple" in text:
        return "list"
    if "dict" in text:
        return "object"
    return {"str": "text", "int": "integer"}.get(text, "text")


def _notes(kind: type) -> dict[str, str]:
    """Return the text under each field in a class's source."""
    source = inspect.getsource(kind)
    found = re.findall(r'^    (\w+):[^\n]*\n    """(.*?)"""', source, flags=re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def outputs() -> dict[Path, bytes]:
    """Return every generated file and its content."""
    return {
        ROOT / "schemas" / "json" / "margin_stream.schema.json": json.dumps(
            json_schema(), indent=1, sort_keys=True
        ).encode()
        + b"\n",
        ROOT / "schemas" / "golden" / "inputs.ndjson": b"".join(encode_line(sample) for sample in samples()),
        ROOT / "docs" / "events.md": catalogue().encode(),
    }


def main() -> None:
    """Write every generated file."""
    for path, content in outputs().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
