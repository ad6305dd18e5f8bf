"""The fields of a scenario, one by one; an error names the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from margin_stream.schemas.decimals import DecimalPair, scaled
from margin_stream.schemas.objects import decimal_field
from margin_stream.schemas.refusals import Refusal, RefusedInput


class ScenarioError(ValueError):
    """A scenario cannot be computed."""

    def __init__(self, code: str, where: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = where
        self.message = message


def decimal(value: object, where: str) -> DecimalPair:
    """Return a decimal of a scenario: text, or an integer.

    Raises:
        ScenarioError: with the field.
    """
    if isinstance(value, (list, tuple, bool)):
        raise ScenarioError("bad_value", where, "expected a decimal in quotes")
    try:
        return decimal_field(value, where)
    except RefusedInput as refused:
        code = "float_not_allowed" if refused.refusal is Refusal.FLOAT_NOT_ALLOWED else "bad_value"
        raise ScenarioError(code, where, refused.detail.removeprefix(f"{where}: ")) from None


def places(value: object) -> int:
    """Return how many decimal places a number has as it is written, zeros at its end among them."""
    return len(value.partition(".")[2]) if isinstance(value, str) else 0


def within(where: str, name: str) -> str:
    """Return the place of a field."""
    return f"{where}.{name}" if where else name


def units(pair: DecimalPair, scale: int, where: str, what: str) -> int:
    """Return a decimal in units of a scale, that of ``what``; one with more places is an error."""
    units = scaled(pair, scale)
    if units is None:
        raise ScenarioError("wrong_scale", where, f"{what} has {scale} decimal places")
    return units


def mapping(value: object, where: str) -> Mapping[str, Any]:
    """Return a value that is to be an object."""
    if not isinstance(value, Mapping):
        raise ScenarioError("bad_value", where, "expected an object")
    return value


def rows(value: object, where: str) -> list[Mapping[str, Any]]:
    """Return a value that is to be an array of objects."""
    if not isinstance(value, (list, tuple)):
        raise ScenarioError("bad_value", where, "expected an array")
    return [mapping(row, f"{where}[{n}]") for n, row in enumerate(value)]


def known(fields: Mapping[str, Any], allowed: set[str], where: str) -> None:
    """Refuse fields that are not among those allowed."""
    unknown = sorted(str(name) for name in fields if name not in allowed)
    if unknown:
        raise ScenarioError(
            "unknown_field", within(where, unknown[0]), f"no such field; there are {', '.join(sorted(allowed))}"
        )


def text(fields: Mapping[str, Any], name: str, where: str, default: str | None = None) -> str:
    """Return a text field."""
    place, value = within(where, name), fields.get(name, default)
    if value is None:
        raise ScenarioError("missing_field", place, "it is needed")
    if not isinstance(value, str) or not value:
        raise ScenarioError("bad_value", place, "expected a text")
    return value


def choice(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str, where: str = "") -> str:
    """Return a field that is one of some words."""
    value = fields.get(name, default)
    if value not in allowed:
        raise ScenarioError("bad_value", within(where, name), f"one of {', '.join(allowed)}, not {value!r}")
    return str(value)
