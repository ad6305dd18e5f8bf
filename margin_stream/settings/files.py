"""Files of settings: TOML, every key known, every value of its type; a mistake is named by file, line and key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from margin_stream.errors import Error
from margin_stream.files import content
from margin_stream.settings.shape import SETTINGS, TABLES, Setting

PROJECT_FILE = "margin-stream.toml"
USER_FILE = Path("margin-stream") / "config.toml"


class SettingsError(Error, code="setting_invalid"):
    """A setting cannot be used; the text states which, where it is set and what would do."""


class SettingsFileMissing(SettingsError, code="settings_file_missing"):
    """The file that was asked for cannot be read."""


class SettingsFileDamaged(SettingsError, code="settings_file_damaged"):
    """The file is not TOML."""


class UnknownSetting(SettingsError, code="setting_unknown"):
    """There is no setting of that name."""


class InvalidSetting(SettingsError):
    """The value does not fit the setting, or settings do not fit each other."""


FILE_LIMIT = 1 << 20
"""A file of settings has at most so many bytes."""


class Found(NamedTuple):
    """A value that a file has."""

    value: Any
    line: int | None
    """None where it could not be told (a key written in a way that only TOML knows)."""


def read_file(path: Path) -> dict[str, Found]:
    """Return what a file sets, by key.

    Raises:
        SettingsFileMissing, SettingsFileDamaged, UnknownSetting, InvalidSetting.
    """
    try:
        text = content(path, FILE_LIMIT).decode()
        tables = tomllib.loads(text)
    except RecursionError:
        raise SettingsFileDamaged(f"{path}: not TOML: nested too deep", file=path) from None
    except OSError as error:
        raise SettingsFileMissing(
            f"{path}: the settings cannot be read: {error.strerror or error}", file=path
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsFileDamaged(f"{path}: byte {error.start} is not UTF-8", file=path) from None
    except tomllib.TOMLDecodeError as error:
        # tomllib states the line in its text alone, before Python 3.14.
        line = re.search(r"line (\d+)", str(error))
        raise SettingsFileDamaged(f"{path}: not TOML: {error}", file=path, line=line and int(line.group(1))) from None
    lines = _lines(text)
    found = {}
    for key, value in _flat(tables):
        place = f"{path}:{lines[key]}" if key in lines else str(path)
        where = {"file": path, "setting": key, "line": lines.get(key)}
        setting = SETTINGS.get(key)
        if setting is None:
            raise UnknownSetting(f"{place}: there is no setting {key!r}{did_you_mean(key, SETTINGS)}", **where)
        if setting.secret:
            raise InvalidSetting(
                f"{place}: {key}: a secret does not belong into a file of settings; name a file that holds it: "
                f"{key}_file",
                **where,
            )
        found[key] = Found(checked(setting, value, place, where, strict=True), lines.get(key))
    return found


def checked(setting: Setting, value: Any, place: str, where: dict[str, Any], *, strict: bool) -> Any:
    """Return a value as the type of its setting.

    Args:
        strict: as TOML has types; else from a text.

    Raises:
        InvalidSetting: it is none. A secret is not repeated.
    """
    try:
        return msgspec.convert(value, setting.kind, strict=strict)
    except msgspec.ValidationError as error:
        shown = "" if setting.secret else f" {value!r}:"
        choices = setting.choices
        wanted = (
            f"one of {', '.join(choices)}{did_you_mean(str(value), choices)}"
            if choices
            else _plainly(str(error), strict=strict)
        )
        raise InvalidSetting(f"{place}: {setting.key}:{shown} {wanted}", **where) from None


def did_you_mean(word: str, known: Any) -> str:
    """Return a suggestion, or nothing."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


_WORDS = {"`float`": "a number", "`int": "a whole number", "`bool`": "true or false"}


def _plainly(text: str, *, strict: bool) -> str:
    """Return what is wrong in words; a text from the environment has no type to speak of."""
    if not strict and ", got `str`" in text:
        return "expected " + next((word for sign, word in _WORDS.items() if sign in text), "another value")
    return text[:1].lower() + text[1:].partition(" - at ")[0]


def _flat(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict) and name in TABLES:
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        elif isinstance(value, dict):
            # An unknown table: each of its keys is as unknown, one is enough to name.
            yield f"{name}.{next(iter(value))}" if value else name, value
        else:
            yield name, value


def _lines(text: str) -> dict[str, int]:
    """Return the line of each key. tomllib keeps none, so plain ``[table]`` and ``key =`` lines are looked up."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if head := re.match(r"\s*\[\s*([A-Za-z0-9_.\"'-]+)\s*\]", line):
            table = head.group(1).strip("\"'") + "."
        elif key := re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line):
            found.setdefault(table + key.group(1).strip("\"'"), number)
    return found
