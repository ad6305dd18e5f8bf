"""Settings: what can be set, where it is set, what is in force. docs/settings.md lists them."""

from margin_stream.settings.effective import (
    Effective,
    Origin,
    child_environment,
    current,
    defaults,
    load,
    unknown_variables,
    use,
    without_secret,
)
from margin_stream.settings.files import (
    InvalidSetting,
    SettingsError,
    SettingsFileDamaged,
    SettingsFileMissing,
    UnknownSetting,
    did_you_mean,
)
from margin_stream.settings.shape import SETTINGS, Setting, Settings

__all__ = [
    "SETTINGS",
    "Effective",
    "InvalidSetting",
    "Origin",
    "Setting",
    "Settings",
    "SettingsError",
    "SettingsFileDamaged",
    "SettingsFileMissing",
    "UnknownSetting",
    "child_environment",
    "current",
    "defaults",
    "did_you_mean",
    "load",
    "unknown_variables",
    "use",
    "without_secret",
]
