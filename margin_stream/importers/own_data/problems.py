"""What is wrong with a file, named by row and column."""

from __future__ import annotations

from typing import NamedTuple

from margin_stream.errors import Error


class Problem(Error, code="row_wrong"):
    """A row of a file cannot be taken as it is; nothing of the file is."""


class FileWrong(Error, code="file_wrong"):
    """A file of rows cannot be read, or has not the columns of its kind."""


class WrongCell(ValueError):
    """A cell cannot be read; ``expected`` is the right form."""

    def __init__(self, what: str, expected: str) -> None:
        super().__init__(what)
        self.expected = expected


class Place(NamedTuple):
    """A row of a file."""

    file: str
    row: int
    """As a spreadsheet counts: the header is row 1."""


def problem(place: Place, what: str, expected: str = "", *, column: str = "", value: str | None = None) -> Problem:
    """Return a problem: where it is, what is wrong, and the right form."""
    name = f"{column}: " if column else ""
    shown = "" if value is None else f"{value[:80]!r}: "
    text = f"{place.file}:{place.row}: {name}{shown}{what}" + (f"; {expected}" if expected else "")
    return Problem(
        text,
        file=place.file,
        row=place.row,
        column=column or None,
        value=None if value is None else value[:200],
        expected=expected or None,
    )
