"""Mistakes in the words of a command; all of them exit 2."""

from __future__ import annotations

from typing import Any


class UsageError(Exception):
    """The value of an option does not do."""

    def __init__(self, text: str, **where: Any) -> None:
        super().__init__(text)
        self.where = where


class OptionsConflict(UsageError):
    """Options are there together, or missing, that do not go so."""


class InputFileMissing(UsageError):
    """An input file is not there."""


class WrongKindOfStore(UsageError):
    """The command is for stores of the other kind."""


class BadAddress(UsageError):
    """The store's address is not one."""


class BadTime(UsageError):
    """TIME is neither a moment nor a position."""
