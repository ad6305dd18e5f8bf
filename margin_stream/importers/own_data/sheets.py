"""Files of rows as people make them (CSV, TSV, Excel, Parquet; plain, gzip or zip), read as text.

Nothing is guessed of a value here: money stays as it is written, a spreadsheet's number takes its shortest form.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from margin_stream.files import content, read_within
from margin_stream.importers.own_data.problems import FileWrong, Place, Problem, problem
from margin_stream.importers.text_files import DAMAGED

if TYPE_CHECKING:
    import polars

FILE_LIMIT = 256 << 20
"""A file has at most so many bytes, packed or not."""
SEPARATORS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n")
"""What Excel puts before a CSV that is not separated as the machine would."""


@dataclass(slots=True)
class Sheet:
    """The rows of one file, as text."""

    name: str
    form: str
    """What it was read as, in words."""
    header: list[str]
    rows: list[tuple[int, list[str]]]
    """(Row number as a spreadsheet counts, cells), without rows that are empty."""
    doubles: bool = False
    """Numbers were kept as doubles, so of more than 15 digits they lost some."""
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_sheets(path: Path, *, sheet: str | None = None) -> tuple[bytes, list[Sheet]]:
    """Return a file's bytes and the rows in it; a zip may hold several files.

    Args:
        path: of the file.
        sheet: of a workbook; the first one if left out.

    Raises:
        FileWrong: the file is none that can be read, or has no row.
    """
    try:
        data = content(path, FILE_LIMIT)
        sheets = list(_sheets(str(path), data, sheet))
    except DAMAGED as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise FileWrong(f"{path}: cannot be read: {reason}", file=path) from None
    if not sheets:
        raise FileWrong(f"{path}: the archive holds no file of rows", file=path)
    return data, sheets


def _sheets(name: str, data: bytes, sheet: str | None) -> Iterator[Sheet]:
    if data[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            yield from _sheets(name.removesuffix(".gz"), read_within(packed, FILE_LIMIT, name), sheet)
    elif data[:4] == b"PAR1":
        yield _parquet(name, data)
    elif data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if any(entry.filename == "[Content_Types].xml" for entry in entries):
                yield _workbook(name, data, sheet)
                return
            if sum(entry.file_size for entry in entries) > FILE_LIMIT:
                raise FileWrong(f"{name}: unpacks to more than {FILE_LIMIT >> 20} MiB", file=name)
            for entry in sorted(entries, key=lambda entry: entry.filename):
                if entry.filename.startswith("__MACOSX/") or Path(entry.filename).name.startswith("."):
                    continue  # What a Mac, or a file manager, adds.
                with archive.open(entry) as inner:
                    packed_data = read_within(inner, FILE_LIMIT, name)
                yield from _sheets(f"{name}!{entry.filename}", packed_data, sheet)
    elif data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        what = "a workbook of Excel 97-2003, or one with a password; save it as .xlsx without a password"
        raise FileWrong(f"{name}: {what}", file=name)
    else:
        yield _separated(name, data)


# ---- CSV and its kin -------------------------------------------------------------------------------------------------


def _separated(name: str, data: bytes) -> Sheet:
    import polars

    text = _decoded(name, data)
    skipped = 0
    if found := _SEPARATOR_LINE.match(text):
        text, skipped = text[found.end() :], 1
    first = next((line for line in text.splitlines() if line.strip()), None)
    if first is None:
        raise FileWrong(f"{name}: the file is empty", file=name)
    if re.match(r"\s*(<|\{|\[|%PDF)", first):
        raise FileWrong(f"{name}: no CSV: it begins with {first.strip()[:20]!r}", file=name)
    separator = found.group(1) if found else _separator(first)
    try:
        frame = polars.read_csv(text.encode(), has_header=False, infer_schema=False, separator=separator)
    except polars.exceptions.PolarsError:
        return _row_by_row(name, text, separator, skipped)
    blank = len(text) - len(text.lstrip("\r\n"))
    skipped += text[:blank].count("\n")
    return _sheet(name, f"CSV, separated by {_named(separator)}", frame, skipped)


def _decoded(name: str, data: bytes) -> str:
    """Return a file's text: UTF-8, or what has the mark of UTF-16."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        found = data[max(error.start - 10, 0) : error.start + 10]
        what = f"not UTF-8 at byte {error.start} ({found!r}); save the file as CSV UTF-8"
        raise FileWrong(f"{name}:{row}: {what}", file=name, line=row) from None
    if "\0" in text:
        raise FileWrong(f"{name}: no file of rows: it holds bytes that no text has", file=name)
    return text


def _separator(line: str) -> str:
    """Return what separates the columns of a header: what is there most often outside quotes."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(SEPARATORS, key=bare.count)


def _named(separator: str) -> str:
    return {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}.get(separator, repr(separator))


def _row_by_row(name: str, text: str, separator: str, skipped: int) -> Sheet:
    """Read a file whose rows are not all alike, so that each such row is named."""
    found = Sheet(name, f"CSV, separated by {_named(separator)}", [], [])
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = skipped
    try:
        for row in rows:
            number += 1
            if not any(cell.strip() for cell in row):
                continue
            if not found.header:
                found.header = [cell.strip() for cell in row]
            elif len(row) > len(found.header) and any(cell.strip() for cell in row[len(found.header) :]):
                why = " (a decimal comma, not quoted?)" if separator == "," else ""
                found.problems.append(
                    problem(
                        Place(name, number),
                        f"{len(row)} cells, and the header has {len(found.header)} columns{why}",
                        "put a cell with a separator in it between quotes",
                    )
                )
            else:
                found.rows.append((number, _padded(row, len(found.header))))
    except csv.Error as error:
        raise FileWrong(f"{name}:{number + 1}: {error}; is a quote not closed?", file=name, line=number + 1) from None
    return found


def _padded(cells: list[str], width: int) -> list[str]:
    cells = [cell.strip() for cell in cells[:width]]
    return cells + [""] * (width - len(cells))


def _sheet(name: str, form: str, frame: polars.DataFrame, skipped: int = 0) -> Sheet:
    """Return a frame of texts whose first row that is not empty is the header."""
    found = Sheet(name, form, [], [])
    for number, row in enumerate(frame.iter_rows(), skipped + 1):
        cells = ["" if cell is None else cell.strip() for cell in row]
        if not any(cells):
            continue
        if found.header:
            found.rows.append((number, cells))
        else:
            found.header = cells
    return found


# ---- typed files -----------------------------------------------------------------------------------------------------


def _workbook(name: str, data: bytes, sheet: str | None) -> Sheet:
    import fastexcel

    try:
        book = fastexcel.read_excel(data)
        if sheet is not None and sheet not in book.sheet_names:
            raise FileWrong(f"{name}: no sheet {sheet!r}; there are {', '.join(book.sheet_names)}", file=name)
        chosen = sheet or book.sheet_names[0]
        # From the first cell on: else empty rows at the top do not count, and rows are numbered otherwise.
        frame = book.load_sheet(chosen, header_row=None, skip_rows=0, dtypes="string").to_polars()
    except fastexcel.FastExcelError as error:
        text = str(error).splitlines()[0]
        raise FileWrong(f"{name}: no workbook that can be read: {text}", file=name) from None
    found = _sheet(name, f"Excel, sheet {chosen!r}", frame)
    found.doubles = True
    others = [other for other in book.sheet_names if other != chosen]
    if others and sheet is None:
        found.notes.append(f"{name}: sheet {chosen!r} is read; --sheet names another: {', '.join(others)}")
    if not found.header:
        raise FileWrong(f"{name}: sheet {chosen!r} is empty", file=name)
    return found


def _parquet(name: str, data: bytes) -> Sheet:
    import polars

    try:
        with _silent():
            frame = polars.read_parquet(data)
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        raise FileWrong(f"{name}: no Parquet file that can be read: {str(error).splitlines()[0]}", file=name) from None
    doubles = any(kind.is_float() for kind in frame.dtypes)
    rows = [
        (number, [_text(cell) for cell in row])
        for number, row in enumerate(frame.iter_rows(), 2)
        if any(cell is not None for cell in row)
    ]
    return Sheet(name, "Parquet", list(frame.columns), rows, doubles)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the standard error of the process quiet: where its reader gives a damaged file up, it prints a trace."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _text(value: Any) -> str:
    """Return a typed cell as text; a double in its shortest form."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f") if value - value == 0 else str(value)
    return str(value).strip()
