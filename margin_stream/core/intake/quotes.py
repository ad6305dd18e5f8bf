"""Quotes at the intake: each is judged by the guard; the marks, and what is in doubt about them, go to every partition."""

from __future__ import annotations

from typing import Any

from margin_stream.core.effect_book import EffectBook
from margin_stream.core.intake import validation
from margin_stream.core.intake.routes import Routes
from margin_stream.core.intake.validation import Reason
from margin_stream.core.market.directory import Instrument
from margin_stream.core.market.market import Market
from margin_stream.core.market.quote_guard import Quote, QuoteGuard, Refused
from margin_stream.core.sequenced import Doubted, Marked
from margin_stream.schemas import effects
from margin_stream.schemas.decimals import DecimalPair, format_scaled
from margin_stream.schemas.inputs import MarkConfirmed
from margin_stream.schemas.refusals import Refusal


class Quotes:
    """What one store's quotes do to its market. ``sequence`` is the number of the item that is being taken."""

    def __init__(self, market: Market, routes: Routes, book: EffectBook) -> None:
        self.market = market
        self.routes = routes
        self.book = book
        self.guard = QuoteGuard()

    def tick(
        self, sequence: int, source: str, name: str, prices: tuple[DecimalPair, DecimalPair | None, DecimalPair | None]
    ) -> Reason | None:
        """Take a quote as it came; return why it is refused.

        Args:
            sequence: of the item.
            source: of the quote.
            name: of the instrument.
            prices: price, bid, ask.
        """
        if isinstance(quoted := validation.tick(name, *prices, self.market), tuple):
            return quoted
        self.take(sequence, quoted.instrument, quoted.price, source, crossed=quoted.crossed)
        return None

    def take(self, sequence: int, instrument: Instrument, price: int, source: str, *, crossed: bool) -> None:
        """Take a valid quote: move the mark, or keep the refused price in doubt."""
        market = self.market
        judged, accepted = (Quote.CROSSED, 0) if crossed else self.guard.judge(instrument, price, source, market)
        if judged is not Quote.ACCEPTED:
            self._report(sequence, instrument, accepted or price, judged.value, marked=judged.marks)
            if judged is Quote.DEVIATION:
                self._doubt(sequence, instrument.number, price)
        if judged.marks:
            self._mark(sequence, instrument.number, accepted)

    def confirm(self, sequence: int, event: MarkConfirmed) -> Reason | None:
        """Take the price that an operator confirms as the mark; return why it is refused."""
        if isinstance(quoted := validation.tick(event.instrument, event.price, None, None, self.market), tuple):
            return quoted
        if quoted.price <= 0:
            return Refusal.OUT_OF_RANGE, "price: above 0"
        self.guard.refused.pop(quoted.instrument.number, None)
        self._report(sequence, quoted.instrument, quoted.price, "confirmed", marked=True)
        self._mark(sequence, quoted.instrument.number, quoted.price)
        return None

    def _mark(self, sequence: int, number: int, price: int) -> None:
        self.market.mark(number, price)
        self.routes.to_partitions(Marked(sequence, number, price))

    def _doubt(self, sequence: int, number: int, price: int) -> None:
        """Note a quote that was refused for its distance, where it widens what holders are valued over."""
        before = self.market.in_doubt.get(number)
        lowest, highest = before or (price, price)
        lowest, highest = min(lowest, price), max(highest, price)
        if before != (lowest, highest):
            self.market.doubt(number, lowest, highest)
            self.routes.to_partitions(Doubted(sequence, number, lowest, highest))

    def _report(self, sequence: int, instrument: Instrument, price: int, reason: str, *, marked: bool) -> None:
        self.book.emit(
            effects.MarkReanchored if marked else effects.MarkRefused,
            sequence,
            self.market.clock_ns,
            effects.MARKET_GROUP,
            instrument=instrument.name,
            price=format_scaled(price, instrument.price_scale),
            mark=format_scaled(self.market.prices[instrument.number], instrument.price_scale),
            reason=reason,
        )

    # ---- digest, checkpoint ---------------------------------------------------------------------------------------

    def facts(self) -> list[Any]:
        """Return the refused quotes that the guard remembers, an instrument a row."""
        return [[number, *self.guard.refused[number].row()] for number in sorted(self.guard.refused)]

    def restore(self, market: Market, facts: list[Any]) -> None:
        """Go on with a market and with facts."""
        self.market = market
        self.guard.refused = {number: Refused.of_row(*row) for number, *row in facts}
