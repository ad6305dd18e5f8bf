"""What commands print: data on stdout (tables for people, NDJSON with ``--json``), everything else on stderr."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from cyclopts import Parameter

from margin_stream.cli.completions import stores
from margin_stream.cli.usage import BadAddress, BadTime, WrongKindOfStore

if TYPE_CHECKING:
    from rich.console import Console

    from margin_stream.views.source import Until


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """What every command takes."""

    json: Annotated[bool, Parameter(negative="", help="Print NDJSON: one object a line, stable keys.")] = False
    quiet: Annotated[bool, Parameter(negative="", help="Print nothing on stderr but errors.")] = False
    config: Annotated[
        Path | None, Parameter(help="A file of settings, instead of ./margin-stream.toml (docs/settings.md).")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class OnStore(Common):
    """What every command on a store takes."""

    store: Annotated[
        str,
        Parameter(
            completer=stores,
            help="The store: a folder, or kafka://HOST:PORT[,HOST:PORT]/NAME [also: MARGIN_STREAM_STORE].",
        ),
    ] = "./margin-store"

    @property
    def on_kafka(self) -> bool:
        """Whether the store is named by an address.

        Raises:
            BadAddress: it is an address, but not of Kafka.
        """
        from margin_stream.settings import without_secret

        if "://" in self.store and not self.store.startswith("kafka://"):
            raise BadAddress(
                f"--store {without_secret(self.store)}: a folder, or kafka://HOST:PORT[,HOST:PORT]/NAME",
                option="--store",
            )
        return "://" in self.store

    @property
    def path(self) -> Path:
        """The store's folder.

        Raises:
            WrongKindOfStore: it names a Kafka store.
        """
        from margin_stream.settings import without_secret

        if self.on_kafka:
            raise WrongKindOfStore(
                f"--store {without_secret(self.store)}: this command is for stores in folders",
                store=without_secret(self.store),
            )
        return Path(self.store)


def print_note(common: Common, text: str) -> None:
    """Print a note on stderr, unless quiet; with ``--json`` as a line of its own kind, so that all of stderr can be
    read by a program."""
    if not common.quiet:
        print(orjson.dumps({"note": text}).decode() if common.json else text, file=sys.stderr, flush=True)


def console() -> Console:
    """Return a console on stdout; colours only where it is a terminal and the settings allow them."""
    from rich.console import Console

    from margin_stream.settings import current

    return Console(highlight=False, width=width_of_output(), no_color=current().settings.color == "never")


def width_of_output() -> int:
    """Return how many columns the output has: those of the terminal, or what COLUMNS states; else many."""
    return shutil.get_terminal_size((200, 24)).columns


def print_json(row: Mapping[str, Any]) -> None:
    """Print one NDJSON line."""
    sys.stdout.buffer.write(orjson.dumps(row) + b"\n")
    sys.stdout.buffer.flush()


def show(common: Common, row: Mapping[str, Any]) -> None:
    """Print one object: NDJSON, or a line a field."""
    if common.json:
        print_json(row)
        return
    width, columns = max((len(name) for name in row), default=0), width_of_output()
    for name, value in row.items():
        text = plain(value)
        # A digest that would break at the edge has a line of its own.
        beside = width + GAP + len(text) <= columns or GAP + len(text) > columns
        print(f"{name.ljust(width)}{' ' * GAP}{text}" if beside else f"{name}\n{' ' * GAP}{text}")


def show_rows(common: Common, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Print many objects: NDJSON, or a table of some columns."""
    from rich.table import Table

    if common.json:
        for row in rows:
            print_json(row)
        return
    cells = [[plain(row.get(column)) for column in columns] for row in rows]
    if not cells:
        print_note(common, empty)
        return
    fitting = _fitting(columns, cells, width_of_output())
    left_out = [column for place, column in enumerate(columns) if place not in fitting]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (columns[place] for place in fitting):
        numeric = column in (
            "amount",
            "unpaid",
            "paid",
            "quantity",
            "open_cost",
            "realised",
            "unrealised",
            "fees",
            "mark",
            "age_s",
        )
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for line in cells:
        table.add_row(*(line[place] for place in fitting))
    console().print(table)
    if left_out:
        print_note(common, f"no room for {', '.join(left_out)}; --json has all")


GAP = 2
TEXTS = ("detail", "meaning", "source", "title", "found", "next")
"""Columns of sentences, which may go on in the next line; a number or an id may not."""
TEXT_WIDTH = 16


def _fitting(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the places of the columns that have room side by side; the last ones are left out first."""
    widths = [
        TEXT_WIDTH if column in TEXTS else max(len(column), *(len(row[place]) for row in cells))
        for place, column in enumerate(columns)
    ]
    fitting: list[int] = []
    left = width + GAP
    for place, wide in enumerate(widths):
        if not fitting or wide + GAP <= left:
            fitting.append(place)
            left -= wide + GAP
    return fitting


def plain(value: object) -> str:
    """Return a value as a person reads it: no control characters, nothing for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value) or "-"
    return re.sub(
        r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lambda found: f"\\x{ord(found.group()):02x}", str(value)
    )


def parse_until(text: str | None) -> Until:
    """Return the prefix that TIME names: a moment (RFC 3339), a day (its last moment) or a sequence number ``#N``.

    Raises:
        BadTime: it is none of them.
    """
    from margin_stream.schemas.times import TimeError
    from margin_stream.views.moments import until_of

    try:
        return until_of(text)
    except TimeError as error:
        raise BadTime(f"{text!r}: {error}", value=text) from None


class Progress:
    """Progress with rate and remaining time on stderr, where that is a terminal."""

    def __init__(self, common: Common, unit: str) -> None:
        self._on = not common.quiet and sys.stderr.isatty()
        self._unit = unit
        self._started = self._last = time.monotonic()

    def update(self, done: int, fraction: float | None) -> None:
        """Show the progress, at most five times a second."""
        now = time.monotonic()
        if not self._on or now - self._last < 0.2:
            return
        self._last = now
        spent = now - self._started
        left = f", {spent / fraction - spent:.0f} s left" if fraction else ""
        share = f" {fraction:.0%}" if fraction else ""
        print(f"\r{done:,} {self._unit}{share}, {done / spent:,.0f}/s{left}   ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line."""
        if self._on:
            print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)
