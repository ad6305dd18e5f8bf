"""Settings for the command line: what no option gives comes from the settings in force."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App
from cyclopts.argument import ArgumentCollection, Token
from cyclopts.utils import UNSET

from margin_stream.cli.usage import OptionsConflict, UsageError
from margin_stream.files import STDIN

if TYPE_CHECKING:
    from margin_stream.settings import Setting

GENERAL = ("--json", "--quiet", "--store", "--config")
"""What every command takes, before its name or behind it; the last two with a value."""


def in_order(app: App, words: Sequence[str]) -> list[str]:
    """Return a command line as its parser wants it: what every command takes, once, behind the command's name; the file
    that ``-`` stands for.

    Where a command's name is missing or wrong, the error is about that, so nothing stands in its way.
    """
    words = [re.sub(r"^(--[a-z-]+=)?-$", rf"\1{STDIN}", word) for word in words]
    # Behind two hyphens there are no options; a shell that asks what could follow is answered by what stands there.
    end = next((place for place, word in enumerate(words) if word in ("--", "__complete")), len(words))
    general, rest = list[str](), list[str]()
    for word in words[:end]:
        if general and general[-1] in GENERAL[2:] and word[:1] != "-":
            general[-1] += f"={word}"
        elif word.partition("=")[0] in GENERAL:
            general.append(word)
        else:
            rest.append(word)
    path, apps, _ = app.parse_commands(rest)
    for option in general:
        # Behind a command's name the parser reports the missing value by itself.
        if option.endswith("=") or (option in GENERAL[2:] and not path):
            raise UsageError(f"{option.rstrip('=')}: name one", option=option.rstrip("="))
    return [*path, *(dict.fromkeys(general) if apps[-1].default_command else ()), *rest[len(path) :], *words[end:]]


def options_of(command: str) -> dict[str, Setting]:
    """Return the options of a command (its name, parts joined by blanks) that stand for settings."""
    from margin_stream.settings.shape import EVERYWHERE, SETTINGS

    return {
        row.flag: row
        for row in SETTINGS.values()
        if row.flag and (row.commands == EVERYWHERE or command in row.commands)
    }


def fill(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Put the settings in force for this command, and give its options their values.

    Raises:
        SettingsError: a file or a variable holds what cannot be.
        OptionsConflict: two files are to be standard input.
    """
    from margin_stream.settings import SettingsError, load, use

    # A default counts as well: `margin` and `ingest` read standard input where they name no file.
    words = [
        word for row in arguments for word in ([token.value for token in row.tokens] or [str(row.field_info.default)])
    ]
    if sum(str(STDIN) in word for word in words) > 1:
        raise OptionsConflict("standard input can be read once: name a file for all but one", file=STDIN)
    wanted = options_of(" ".join(commands))
    places = {
        name: argument for argument in arguments for name in argument.names if name in wanted or name == "--config"
    }
    flags = {
        wanted[name].key: (name, _text(argument.tokens[0]))
        for name, argument in places.items()
        if argument.tokens and name in wanted
    }
    named = places.get("--config")
    config = Path(named.tokens[0].value) if named is not None and named.tokens else None
    try:
        effective = load(flags, config=config)
    except SettingsError:
        if commands[:1] == ("doctor",):
            # It reports itself what is wrong with the settings.
            return
        raise
    use(effective)
    for name, argument in places.items():
        if name not in wanted or argument.tokens:
            continue
        key = wanted[name].key
        origin = effective.origins[key]
        if origin.kind != "default":
            argument.append(Token(keyword=origin.name, value=_word(effective.values[key]), source=origin.kind))


def _text(token: Token) -> str:
    return token.value if token.implicit_value is UNSET else _word(token.implicit_value)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
