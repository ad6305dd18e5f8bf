"""What the service measures, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

from margin_stream import views
from margin_stream.schemas.times import SECOND_NS
from margin_stream.service.engine import Engine
from margin_stream.service.stream import Hub

BUSINESS = {
    "accounts_short": "Accounts that are short of margin.",
    "calls_open": "Open margin calls.",
    "calls_overdue": "Open margin calls past their due time.",
    "calls_met": "Margin calls that were met.",
}


class Measures:
    """The registry of one service."""

    def __init__(self, engine: Engine, hub: Hub) -> None:
        self.registry = CollectorRegistry()
        self._engine = engine
        self._hub = hub
        self.requests = Counter(
            "margin_stream_requests", "Requests, by route and status.", ["route", "status"], registry=self.registry
        )
        self.inputs = Counter("margin_stream_inputs", "Inputs, by verdict.", ["verdict"], registry=self.registry)
        self.seconds = Histogram(
            "margin_stream_request_seconds", "How long a request took, by route.", ["route"], registry=self.registry
        )
        self.registry.register(self)

    def collect(self) -> Iterator[Any]:
        """Yield what is read from the store at this moment."""
        engine = self._engine
        yield GaugeMetricFamily("margin_stream_writer", "1 where this process writes.", float(engine.store is not None))
        yield GaugeMetricFamily("margin_stream_ready", "1 where it answers.", float(engine.ready))
        yield GaugeMetricFamily("margin_stream_stream_clients", "Clients of the stream.", float(len(self._hub)))
        yield GaugeMetricFamily("margin_stream_stream_cut", "Clients that were too slow.", float(self._hub.cuts))
        folds = engine.known
        if folds is None:
            return
        yield GaugeMetricFamily(
            "margin_stream_sequence_number", "Sequence number of the last item.", float(folds.sequence)
        )
        clock_ns = folds.intake.market.clock_ns
        yield GaugeMetricFamily(
            "margin_stream_clock_seconds", "The store's clock, seconds since 1970.", clock_ns / SECOND_NS
        )
        lag = max(0, views.newest_input_ns(folds) - clock_ns) / SECOND_NS
        yield GaugeMetricFamily(
            "margin_stream_clock_lag_seconds", "Seconds that the newest input is later than the clock.", lag
        )
        counts = views.summary(folds, None if engine.index is None else engine.index.counts)
        for name, text in BUSINESS.items():
            yield GaugeMetricFamily(f"margin_stream_{name}", text, float(counts[name]))
