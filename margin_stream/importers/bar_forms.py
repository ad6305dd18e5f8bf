"""Bars in columns, as vendors publish them: which columns there are, and what their times and prices mean."""

from __future__ import annotations

import re
from dataclasses import dataclass

Titles = tuple[str, ...]
"""What a column may be called, in lower case, without spaces and brackets."""


@dataclass(frozen=True, slots=True)
class BarForm:
    """A format of bars."""

    name: str
    published: str
    """Where its columns are published."""
    counted: Titles = ()
    """A time that counts from 1970."""
    local: Titles = ()
    """A time as text; with ``clock`` beside it, a day."""
    clock: Titles = ()
    symbol: Titles = ()
    """Left out: the symbol is ``--symbol``, or the file's name."""
    prices: tuple[str, str, str, str] = ("open", "high", "low", "close")
    label: str = "open"
    """What a time as text names, where the user does not state it."""
    lengths: tuple[str, dict[str, int]] | None = None
    """A column that states how long a bar is, and seconds by its content."""
    units: bool = False
    """A price without a point counts units of 1e-9."""
    exchange: bool = False
    """What follows a point in a symbol is an exchange, not a class of share."""
    file_name: str = ""
    """The symbol of a file, as the first group of this expression."""

    @property
    def needed(self) -> list[str]:
        """The columns that a header must have, in words."""
        times = " or ".join(title for titles in (self.counted, self.local) for title in titles[:1])
        return [times, *self.symbol[:1], *self.prices]


FORMS = {
    form.name: form
    for form in (
        BarForm(
            "bars",
            "docs/simulation.md",
            counted=("ts_ms",),
            local=("datetime",),
            symbol=("symbol",),
            label="close",
        ),
        BarForm(
            "stooq",
            "https://schemas.apis.io/schemas/stooq/stooq-ohlcv-record/",
            local=("date",),
            clock=("time",),
            symbol=("ticker",),
            lengths=("per", {"5": 300, "60": 3600, "D": 86_400, "W": 604_800}),
            exchange=True,
            file_name=r"([a-z0-9]{1,8}(?:_[a-z]{2})?)_[dw]\.(?:csv|txt)",
        ),
        BarForm(
            "yahoo",
            "https://help.yahoo.com/kb/SLN2311.html",
            local=("datetime", "date"),
            exchange=True,
            file_name=r"([A-Z0-9.^=-]{1,16})\.csv",
        ),
        BarForm(
            "polygon",
            "https://massive.com/docs/flat-files/stocks/minute-aggregates",
            counted=("window_start",),
            symbol=("ticker",),
        ),
        BarForm(
            "databento",
            "https://databento.com/docs/schemas/ohlcv",
            counted=("ts_event",),
            local=("ts_event",),
            symbol=("symbol",),
            lengths=("rtype", {"32": 1, "33": 60, "34": 3600, "35": 86_400}),
            units=True,
        ),
    )
}


def title_of(text: str) -> str:
    """Return a column's title as it is compared: ``<TICKER>`` -> ``ticker``, ``Adj Close`` -> ``adjclose``."""
    return re.sub(r"[<>\s]", "", text).lower()


def symbol_of(form: BarForm, text: str) -> str:
    """Return a symbol as pairs and shares are told apart; empty where the format states that it is neither.

    ``X:BTC-USD`` and ``C:EUR-USD`` are pairs; ``O:`` and ``I:`` stand for options and indices. ``AAPL.US`` is a share of
    the United States; another exchange trades in a currency that the symbol does not state.
    """
    if form.name == "polygon":
        kind, colon, rest = text.partition(":")
        return text if not colon else rest if kind in ("X", "C") else ""
    if form.exchange and "." in text:
        base, _, exchange = text.upper().rpartition(".")
        return base if exchange == "US" else ""
    return text.upper() if form.exchange else text


def units_of(text: str) -> str:
    """Return a price that counts units of 1e-9 as a decimal: ``4500000000000`` -> ``4500.000000000``."""
    if not re.fullmatch(r"-?\d+", text):
        return text
    digits = text.lstrip("-").rjust(10, "0")
    return f"{'-' * text.startswith('-')}{digits[:-9]}.{digits[-9:]}"
