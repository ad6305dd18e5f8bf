"""The settings in force, and where each came from: flag, environment, file, the user's file, default. Nothing else
reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from margin_stream.files import STDIN
from margin_stream.settings.files import (
    PROJECT_FILE,
    USER_FILE,
    InvalidSetting,
    SettingsFileMissing,
    checked,
    did_you_mean,
    read_file,
)
from margin_stream.settings.shape import PREFIX, SETTINGS, Settings, settings_of

CONFIG = PREFIX + "CONFIG"
NOT_SETTINGS = (CONFIG, PREFIX + "PARENT", PREFIX + "CRASH", PREFIX + "DATA", PREFIX + "COMPILED")
"""Variables of our prefix that are none: the file of settings, a supervisor's word to its worker, trials, recordings
for tests, and whether the core runs compiled."""


class Origin(NamedTuple):
    """Where a value came from."""

    kind: str
    """``flag``, ``environment``, ``file`` or ``default``."""
    name: str = ""
    """The flag, the variable or the file."""
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.name}:{self.line}" if self.line is not None else self.name
        return f"{self.kind} {place}".strip()


class Effective(NamedTuple):
    """The settings in force."""

    settings: Settings
    values: dict[str, Any]
    """By key, in order of definition."""
    origins: dict[str, Origin]
    files: tuple[Path, ...]
    """The files that were read, the strongest first."""
    config: Path | None
    """The file that was asked for by name."""

    def shown(self, key: str) -> Any:
        """Return a value as it may be shown: of a secret, only whether it is set."""
        value = self.values[key]
        if SETTINGS[key].secret and value is not None:
            return "(set, hidden)"
        return without_secret(value) if isinstance(value, str) else value


def load(
    flags: Mapping[str, tuple[str, str]] | None = None,
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Effective:
    """Return the settings in force.

    Args:
        flags: by key, what the command line states: the option and its text.
        config: a file of settings, instead of ``margin-stream.toml`` in the folder.
        environment: by default the process's.
        folder: where the project's file is looked for; by default the working folder.

    Raises:
        SettingsError: a file or variable holds what cannot be.
    """
    variables = os.environ if environment is None else environment
    named = config or (Path(variables[CONFIG]) if variables.get(CONFIG) else None)
    project = named or (folder or Path()) / PROJECT_FILE
    if named is not None and not _is_there(named):
        origin = "--config" if config else CONFIG
        raise SettingsFileMissing(f"{origin} {named}: no such file", file=named)
    values: dict[str, Any] = {key: setting.default for key, setting in SETTINGS.items()}
    origins = {key: Origin("default") for key in SETTINGS}

    def take(layer: dict[str, tuple[Any, Origin]]) -> None:
        for key, (value, origin) in layer.items():
            partner = key.removesuffix("_file") if key.endswith("_file") else f"{key}_file"
            if partner in layer:
                raise InvalidSetting(
                    f"{layer[partner][1].name} and {origin.name} are both set: use one of them",
                    setting=key,
                )
            if partner in SETTINGS:
                # A secret and the file that holds it are one setting: the stronger layer has it.
                values[partner], origins[partner] = None, Origin("default")
            values[key], origins[key] = value, origin

    files = [path for path in (_user_file(variables), project) if path is not None and _is_there(path)]
    for path in files:
        take({key: (found.value, Origin("file", str(path), found.line)) for key, found in read_file(path).items()})
    take(_from_environment(variables))
    take({key: _from_text(key, text, Origin("flag", flag)) for key, (flag, text) in (flags or {}).items()})
    return Effective(settings_of(values), values, origins, tuple(reversed(files)), named)


def without_secret(text: str) -> str:
    """Return an address without the name and password that somebody may have put into it."""
    return re.sub(r"//[^\s]*@", "//***@", text)


def defaults() -> Effective:
    """Return the settings where nobody sets any."""
    values = {key: setting.default for key, setting in SETTINGS.items()}
    return Effective(Settings(), values, {key: Origin("default") for key in SETTINGS}, (), None)


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return what is in the environment under our prefix and means nothing, with what was perhaps meant."""
    known = [*(setting.variable for setting in SETTINGS.values()), *NOT_SETTINGS]
    names = sorted(os.environ if environment is None else environment)
    return [
        f"{name} means nothing{did_you_mean(name, known)}"
        for name in names
        if name.startswith(PREFIX) and name not in known
    ]


def child_environment(**more: str) -> dict[str, str]:
    """Return the environment for a process of our own: it reads the same file of settings."""
    effective = current()
    if effective.config == STDIN:
        raise InvalidSetting(
            "--config -: another process reads the settings too, and standard input can be read once; name a file",
            option="--config",
        )
    named = {} if effective.config is None else {CONFIG: str(effective.config.absolute())}
    return {**os.environ, **named, **more}


def _is_there(path: Path) -> bool:
    """Whether a file is there. A service may run with a home that it must not look into: then there is none."""
    try:
        return path == STDIN or path.is_file()
    except OSError:
        return False


def _user_file(variables: Mapping[str, str]) -> Path | None:
    if variables.get("XDG_CONFIG_HOME"):
        return Path(variables["XDG_CONFIG_HOME"]) / USER_FILE
    return Path(variables["HOME"]) / ".config" / USER_FILE if variables.get("HOME") else None


def _from_environment(variables: Mapping[str, str]) -> dict[str, tuple[Any, Origin]]:
    found = {
        key: _from_text(key, variables[setting.variable], Origin("environment", setting.variable))
        for key, setting in SETTINGS.items()
        if variables.get(setting.variable)
    }
    if variables.get("NO_COLOR"):
        found["color"] = ("never", Origin("environment", "NO_COLOR"))
    return found


def _from_text(key: str, text: str, origin: Origin) -> tuple[Any, Origin]:
    return checked(SETTINGS[key], text, origin.name, {"setting": key, origin.kind: origin.name}, strict=False), origin


_in_force: list[Effective] = []


def use(effective: Effective | None) -> None:
    """Put settings in force for this process; None takes them back."""
    _in_force[:] = [] if effective is None else [effective]


def current() -> Effective:
    """Return the settings in force; without a command line (a worker, a library), those of environment and files as
    they are now."""
    return _in_force[0] if _in_force else load()
