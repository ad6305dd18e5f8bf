"""The columns of each kind of file, and the rows of a file under them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from margin_stream.importers.own_data.cells import (
    DOUBLE_DIGITS,
    Reading,
    digits_of,
    has_offset,
    moment_ns,
    number,
    unit_of,
)
from margin_stream.importers.own_data.problems import FileWrong, Place, Problem, WrongCell, problem
from margin_stream.importers.own_data.sheets import Sheet
from margin_stream.schemas.times import format_time

Kind = Literal["accounts", "positions", "collateral", "prices"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is read."""

    name: str
    meaning: str
    needed: bool = False


INSTRUMENT = (
    Column("kind", "`equity`, `spot` or `perpetual`; needed of an instrument that the store does not list"),
    Column("currency", "in which it is quoted; likewise"),
)
COLUMNS: dict[Kind, tuple[Column, ...]] = {
    "accounts": (
        Column("account", "its id: letters, digits, `_` and `-`, at most 64", needed=True),
        Column("profile", "its margin profile; left out, that of `--profile`"),
        Column("base_currency", "must be the profile's"),
        Column("desk", "which desk looks after it"),
        Column("contacts", "references into a directory of yours, separated by spaces or `;`; no names or addresses"),
    ),
    "positions": (
        Column("account", "must be open", needed=True),
        Column("instrument", "as the store lists it", needed=True),
        Column("quantity", "what is held; negative for a short one, where there is no column `side`", needed=True),
        Column("side", "`long` or `short` (`buy`, `sell`); the quantity is not negative then"),
        Column("price", "at which a difference to the store is booked; left out, the last mark"),
        *INSTRUMENT,
        Column("leverage", "of a perpetual"),
        Column("isolated", "the isolated subaccount that holds it"),
        Column("position_side", "`long` or `short` in hedge mode"),
    ),
    "collateral": (
        Column("account", "must be open", needed=True),
        Column("asset", "as the store lists it", needed=True),
        Column("amount", "what the account has of it, positions apart; not negative", needed=True),
        Column("loan", "what it owes of it; not negative"),
        Column("isolated", "the isolated subaccount that holds it"),
    ),
    "prices": (
        Column("time", "ISO 8601, by `--date-format`, or a count since 1970; local to `--zone`", needed=True),
        Column("instrument", "as the store lists it", needed=True),
        Column("price", "above 0", needed=True),
        Column("bid", "the best price that is offered for it"),
        Column("ask", "the best price at which it is offered"),
        *INSTRUMENT,
    ),
}
KEYS: dict[Kind, tuple[str, ...]] = {
    "accounts": ("account",),
    "positions": ("account", "instrument", "isolated", "position_side"),
    "collateral": ("account", "asset", "isolated"),
    "prices": ("time", "instrument"),
}
"""What a file has once."""
OFTEN: dict[str, tuple[str, ...]] = {
    "account": ("account id", "client", "client id", "customer", "acct", "konto"),
    "instrument": ("symbol", "ticker", "isin", "security", "product"),
    "quantity": ("qty", "units", "shares", "size", "position", "amount"),
    "asset": ("currency", "ccy", "symbol", "coin"),
    "amount": ("balance", "cash", "value", "quantity", "saldo"),
    "time": ("date", "datetime", "timestamp", "ts", "ts ms", "date time"),
    "price": ("close", "last", "mark", "px", "settle"),
}
"""What others call a column: for the hint at what is missing, never to read one."""
NUMBERS = ("quantity", "price", "amount", "loan", "bid", "ask", "leverage")


@dataclass(slots=True)
class Row:
    """One row, its cells read."""

    place: Place
    number: int
    """Among all rows of all files, from 2: what identifies its event."""
    texts: dict[str, str]
    """Our column -> what is written; columns without text are left out."""
    numbers: dict[str, str] = field(default_factory=dict)
    time_ns: int = 0

    def wrong(self, column: str, what: str, expected: str = "") -> Problem:
        """Return a problem of one of its cells."""
        return problem(self.place, what, expected, column=column, value=self.texts.get(column, ""))


@dataclass(slots=True)
class Rows:
    """What was understood of some files of a kind."""

    kind: Kind
    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    """Each as it was read, in words."""
    titles: set[str] = field(default_factory=set)
    """Of the columns of the files, as they are written."""
    count: int = 0
    """Rows that were looked at."""


def header_of(kind: Kind, sheet: Sheet, names: Mapping[str, str]) -> tuple[dict[str, int], list[str]]:
    """Return the place of each of our columns, and the columns that are not read.

    Args:
        kind: of file.
        sheet: with the header.
        names: their column -> ours.

    Raises:
        FileWrong: a column is missing, is there twice, or the file is of another kind.
    """
    ours = {column.name: column for column in COLUMNS[kind]}
    theirs = {plain(name): our for name, our in names.items()}
    found: dict[str, int] = {}
    unread = []
    for place, title in enumerate(sheet.header):
        name = theirs.get(plain(title)) or (plain(title) if plain(title) not in names.values() else "")
        if name not in ours:
            if title:
                unread.append(title)
        elif name in found:
            raise FileWrong(
                f"{sheet.name}:1: two columns are {name}: {sheet.header[found[name]]!r} and {title!r}; "
                "remove or rename one",
                file=sheet.name,
                line=1,
            )
        else:
            found[name] = place
    missing = [column.name for column in ours.values() if column.needed and column.name not in found]
    if missing:
        raise FileWrong(
            f"{sheet.name}:1: {_lacking(kind, sheet, missing, unread)}", file=sheet.name, line=1, column=missing[0]
        )
    return found, unread


def _lacking(kind: Kind, sheet: Sheet, missing: Sequence[str], unread: Sequence[str]) -> str:
    there = {plain(title) for title in sheet.header}
    needed = {name: {column.name for column in columns if column.needed} for name, columns in COLUMNS.items()}
    like: Kind | None = next(
        (name for name in needed if name != kind and needed[name] <= there and name != "accounts"), None
    )
    if like is None and kind != "accounts" and "account" in there and there & {"profile", "desk", "contacts"}:
        like = "accounts"
    text = f"the header lacks {', '.join(missing)}"
    if like is not None:
        return f"{text}; it is that of a file of {like}: `margin-stream import {like}`"
    shown = ", ".join(repr(title) for title in unread[:8]) or "nothing else"
    known = {plain(title): title for title in unread}
    near = []
    for name in missing:
        often = [title for title in known if title in map(plain, OFTEN.get(name, ()))]
        match = often or get_close_matches(name, list(known), 1, 0.6)
        if match:
            near.append(f"--map '{known.pop(match[0])}={name}'")
    if not near and unread:
        near = [f"--map '{unread[0]}=OURS'"]
    return f"{text}; it has {shown}; rename the columns" + (f", or {' '.join(near)}" if near else "")


def plain(title: str) -> str:
    """Return a column's title as it is compared: ``Quantity Held`` -> ``quantity_held``."""
    return "_".join(title.lower().replace("-", " ").replace("_", " ").split())


def add_rows(
    found: Rows, sheet: Sheet, names: Mapping[str, str], reading: Reading, constants: Mapping[str, str]
) -> None:
    """Read the rows of one sheet.

    Args:
        found: takes the rows and what is wrong.
        sheet: the rows as text.
        names: their column -> ours.
        reading: how cells are read.
        constants: our column -> the value of every row that has none.

    Raises:
        FileWrong: the header is not one of this kind.
    """
    found.titles |= set(sheet.header)
    columns, unread = header_of(found.kind, sheet, names)
    found.notes += sheet.notes
    found.problems += sheet.problems
    before = found.count
    found.count += max((number for number, _ in sheet.rows), default=0)
    long_digits: str | None = None
    unit: str | None = None
    local: Row | None = None
    offset: Row | None = None
    for line, cells in sheet.rows:
        texts = {name: cells[place] for name, place in columns.items() if cells[place]}
        row = Row(Place(sheet.name, line), before + line, {**constants, **texts})
        wrong = list(_read(found.kind, row, reading))
        if "time" in texts and not wrong:
            counted = unit_of(texts["time"])
            unit = unit or counted
            if counted and counted != unit:
                what = f"{counted} since 1970, and the rows before are {unit}"
                wrong = [row.wrong("time", what, f"write {unit} in every row")]
            elif not counted and has_offset(texts["time"]):
                offset = offset or row
            elif not counted:
                local = local or row
        found.problems += wrong
        if not wrong:
            found.rows.append(row)
        if sheet.doubles and long_digits is None:
            long_digits = next(
                (f"{line}: {n}: {texts[n]}" for n in NUMBERS if n in texts and digits_of(texts[n]) > DOUBLE_DIGITS),
                None,
            )
    if reading.zone is not None and local is not None:
        text = f"{sheet.name}: times are of {reading.zone}: {local.texts['time']!r} is {format_time(local.time_ns)}"
        found.notes.append(text)
    elif reading.zone is not None and found.kind == "prices":
        found.notes.append(
            f"{sheet.name}: --zone {reading.zone} is not used: the times have an offset, or count from 1970"
        )
    if local is not None and offset is not None:
        text = f"some times have an offset, as row {offset.place.row}, and some have none, as row {local.place.row}"
        found.notes.append(f"{sheet.name}: {text}")
    if long_digits:
        what = f"more than {DOUBLE_DIGITS} digits, and the file keeps no more for certain: give such numbers as text"
        found.notes.append(f"{sheet.name}:{long_digits} has {what}")
    shown = ", ".join(
        f"{sheet.header[place]} ({name})" if plain(sheet.header[place]) != name else name
        for name, place in columns.items()
    )
    rest = f"; not read: {', '.join(unread)}" if unread else ""
    found.files.append(f"{sheet.name}: {sheet.form}, {len(sheet.rows):,} rows; columns {shown}{rest}")


def _read(kind: Kind, row: Row, reading: Reading) -> Iterator[Problem]:
    """Read the cells of a row; yield what is wrong with them."""
    for column in COLUMNS[kind]:
        text = row.texts.get(column.name, "")
        if not text:
            if column.needed:
                yield row.wrong(column.name, "the cell is empty", "fill it in, or remove the row")
            continue
        try:
            if column.name in NUMBERS:
                row.numbers[column.name] = number(text, reading)
            elif column.name == "time":
                row.time_ns = moment_ns(text, reading)
        except WrongCell as error:
            yield row.wrong(column.name, str(error), error.expected)
    amount = row.numbers.get("amount", "")
    if reading.negative_is_loan and amount.startswith("-") and "loan" not in row.numbers:
        row.numbers |= {"amount": "0", "loan": amount[1:]}
    for name in ("price", "bid", "ask", "amount", "loan", "leverage"):
        value = row.numbers.get(name)
        if value is not None and value.startswith("-"):
            expected = "write what is owed into a column `loan`" if name == "amount" else "write it without the minus"
            if name == "amount":
                expected += ", or give --negative-is-loan"
            yield row.wrong(name, "negative, which it cannot be", expected)
        elif kind == "prices" and value is not None and not value.strip("0."):
            yield row.wrong(name, "0 is no price", "remove the row")
    if "side" in row.texts:
        side = {"long": "", "buy": "", "short": "-", "sell": "-"}.get(row.texts["side"].lower())
        quantity = row.numbers.get("quantity", "")
        if side is None:
            yield row.wrong("side", "no side", "write long or short")
        elif quantity.startswith("-"):
            yield row.wrong("quantity", "negative, beside a column `side`", "write it without the minus")
        elif quantity:
            row.numbers["quantity"] = side + quantity


def doubled(found: Rows) -> None:
    """Take out the rows that say again what an earlier row has, and name them."""
    seen: dict[tuple[object, ...], Row] = {}
    kept = []
    for row in found.rows:
        key = tuple(row.time_ns if name == "time" else row.texts.get(name, "") for name in KEYS[found.kind])
        first = seen.setdefault(key, row)
        if first is row:
            kept.append(row)
            continue
        where = f"row {first.place.row}" + (f" of {first.place.file}" if first.place.file != row.place.file else "")
        same = (
            "the same as"
            if first.texts == row.texts
            else "of the same " + ", ".join(name for name in KEYS[found.kind] if name in row.texts) + " as"
        )
        found.problems.append(
            row.wrong(
                KEYS[found.kind][-1] if found.kind == "accounts" else KEYS[found.kind][1],
                f"{same} {where}",
                "remove one of the two",
            )
        )
    found.rows = kept
