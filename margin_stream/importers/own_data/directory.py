"""What the store lists, and the listings of what it does not list yet."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from margin_stream.core.market.directory import Directory, Instrument
from margin_stream.importers.market import COIN_SCALE, CURRENCY_SCALES, STALE_AFTER_S, pair_of
from margin_stream.importers.own_data.forms import Row, Rows
from margin_stream.importers.own_data.problems import Problem
from margin_stream.schemas.inputs import InstrumentListed

LEAST_PRICE_SCALE = 4
"""A new instrument has at least so many decimal places, so that a finer price of a later day fits."""
PRICE_SCALES = {"equity": LEAST_PRICE_SCALE, "spot": 8, "perpetual": 8}
LISTINGS_A_ROW = 3
QUANTITY_SCALES = {"equity": 6, "spot": 8, "perpetual": 8}


class Listings:
    """The instruments of some rows: those that the store lists, and new ones."""

    def __init__(
        self,
        directory: Directory,
        rows: Rows,
        source: str,
        *,
        price_scale: int | None = None,
        quantity_scale: int | None = None,
        stale_after_s: int = STALE_AFTER_S,
    ) -> None:
        """
        Args:
            directory: of the store.
            rows: of the files: how many digits prices and quantities have in them.
            source: of the listings.
            price_scale, quantity_scale: decimal places of what is new; left out, by its kind.
            stale_after_s: of what is new.
        """
        self._directory = directory
        self._source = source
        self._digits: dict[tuple[str, str], int] = {}
        for row in rows.rows:
            for column, value in row.numbers.items():
                key = row.texts.get("instrument", ""), "quantity" if column == "quantity" else "price"
                self._digits[key] = max(self._digits.get(key, 0), len(value.partition(".")[2].rstrip("0")))
        self._price_scale = price_scale
        self._quantity_scale = quantity_scale
        self._stale_after_s = stale_after_s
        self.events: list[InstrumentListed] = []
        self.new: dict[str, InstrumentListed] = {}

    def known(self, name: str) -> Instrument | None:
        """Return an instrument that the store lists."""
        return self._directory.instrument_by_name.get(name)

    def instrument(self, row: Row) -> Problem | None:
        """See to it that a row's instrument is listed; return why it cannot be."""
        name, kind, currency = (row.texts.get(column, "") for column in ("instrument", "kind", "currency"))
        known = self.known(name)
        if known is not None:
            if kind and kind.lower() != known.kind:
                return row.wrong("kind", f"the store lists {name} as {known.kind}", f"write {known.kind}")
            if currency and currency != known.currency.name:
                what = f"the store lists {name} in {known.currency.name}"
                return row.wrong("currency", what, f"write {known.currency.name}")
            return None
        if name in self.new:
            return None
        if name in self._directory.asset_by_name:
            return row.wrong("instrument", f"{name} is a currency", "move it by a file of collateral")
        if not kind:
            names = [*self._directory.instrument_by_name, *self.new]
            near = get_close_matches(name, names, 1) or get_close_matches(name.upper(), names, 1)
            guess = f"did you mean {near[0]}? " if near else ""
            how = "to list it, add a column kind (equity, spot, perpetual) and currency, or give --kind and --quote"
            return row.wrong("instrument", "not listed in the store", guess + how)
        return self._list(row, name, kind.lower(), currency)

    def _list(self, row: Row, name: str, kind: str, currency: str) -> Problem | None:
        if kind not in PRICE_SCALES:
            return row.wrong("kind", "no kind of instrument", "write equity, spot or perpetual")
        base = ""
        if kind == "spot":
            pair = pair_of(name, "spot", currency or None)
            if pair is None or pair.kind != "spot":
                return row.wrong("instrument", "what the pair is of cannot be told", "give its currency")
            base, currency = pair.base, pair.currency
        if not currency:
            return row.wrong("currency", "the cell is empty", f"{name} is new: give its currency, or --quote")
        self._currency(currency, row, 0)
        if base:
            self._currency(base, row, 1)
        scale = self._price_scale
        if scale is None:
            scale = max(self._digits.get((name, "price"), 0), PRICE_SCALES[kind])
        quantity = self._quantity_scale
        if quantity is None:
            quantity = max(self._digits.get((name, "quantity"), 0), QUANTITY_SCALES[kind])
            quantity = min(quantity, self._scale_of(base)) if base else quantity
        self._add(
            row,
            2,
            instrument=name,
            kind=kind,
            quantity_scale=quantity,
            base=base,
            currency=currency,
            price_scale=scale,
            stale_after_s=self._stale_after_s,
        )
        return None

    def _currency(self, name: str, row: Row, place: int) -> None:
        """See to it that a currency is listed."""
        if name not in self._directory.asset_by_name and name not in self.new:
            scale = CURRENCY_SCALES.get(name, COIN_SCALE)
            self._add(row, place, instrument=name, kind="currency", quantity_scale=scale)

    def _scale_of(self, asset: str) -> int:
        known = self._directory.asset_by_name.get(asset)
        return known.scale if known is not None else self.new[asset].quantity_scale

    def _add(self, row: Row, place: int, **fields: Any) -> None:
        # By the row: where a part was listed before a crash, the rest keeps its numbers.
        number = LISTINGS_A_ROW * row.number + place
        event = InstrumentListed(source=self._source, source_seq=number, event_time=row.time_ns, **fields)
        self.events.append(event)
        self.new[event.instrument] = event

    def scales(self, name: str) -> tuple[int, int]:
        """Return the decimal places of price and quantity of an instrument."""
        known = self.known(name)
        if known is not None:
            return known.price_scale, known.quantity_scale
        return self.new[name].price_scale, self.new[name].quantity_scale

    def settlement(self, name: str) -> tuple[str, int, bool]:
        """Return the currency that an instrument settles in, its decimal places, and whether it is a perpetual."""
        known = self.known(name)
        if known is not None:
            return known.currency.name, known.currency.scale, known.perpetual
        listed = self.new[name]
        return listed.currency, self._scale_of(listed.currency), listed.kind == "perpetual"


def too_fine(row: Row, column: str, scale: int, name: str) -> Problem | None:
    """Return a problem where a number has more decimal places than its instrument or asset was listed with."""
    value = row.numbers.get(column, "")
    places = len(value.partition(".")[2].rstrip("0"))
    if places <= scale:
        return None
    return row.wrong(column, f"{places} decimal places, and {name} is listed with {scale}", f"round it to {scale}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a hint at the name that was meant, or nothing."""
    found = get_close_matches(name, list(names), 1)
    return f"did you mean {found[0]}?" if found else ""
