"""What a worker counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from margin_stream.core.fold import Fold
from margin_stream.schemas.times import SECOND_NS

ALERTS = Counter(
    "margin_stream_alerts",
    "Alerts seen on the topic of alerts, by type; one sent again counts again.",
    ["type"],
    registry=None,
)
REBALANCES = Counter("margin_stream_rebalances", "Assignments of partitions that this worker was given.", registry=None)


def count_alert(value: bytes | None) -> None:
    """Count an alert."""
    try:
        kind = orjson.loads(value or b"")["type"]
    except (ValueError, KeyError, TypeError):
        kind = "unreadable"
    ALERTS.labels(str(kind)[:40]).inc()


FACTS_LIMIT = 1000
"""So many rows of a fold are given to Prometheus; all are there for ``margin-stream facts``."""

_GAUGES = {
    "offset": ("margin_stream_offset", "Offset of the last record folded."),
    "sequence": ("margin_stream_sequence_number", "Sequence number of the last item folded."),
    "lag": ("margin_stream_lag_records", "Records of the topic that are not folded yet."),
    "checkpoint_age_s": ("margin_stream_checkpoint_age_seconds", "Seconds since the last checkpoint."),
    "checkpoint_s": ("margin_stream_checkpoint_seconds", "What the last checkpoint took."),
    "restore_s": ("margin_stream_restore_seconds", "What the last restoring from the table took."),
    "clock_lag_s": (
        "margin_stream_clock_lag_seconds",
        "Seconds that the newest input, by its own time, is later than the store's clock.",
    ),
    "ready": ("margin_stream_shard_ready", "1 where the shard is restored and not stopped by a fault."),
}
_COUNTERS = {
    "restores": ("margin_stream_restores", "Times that the shard was restored here."),
    "folded": ("margin_stream_records", "Records folded by this process."),
    "skipped": ("margin_stream_records_repeated", "Records that were delivered again and passed over."),
    "trimmed": ("margin_stream_items_trimmed", "Items that came again in other cuts and were trimmed."),
    "holes": ("margin_stream_holes", "Records passed over because something before them had not come."),
    "strange": ("margin_stream_strange", "Messages of another generation."),
    "foreign": ("margin_stream_foreign", "Messages that are not of this store: refused."),
    "duplicates": ("margin_stream_duplicates", "Inputs that the intake had seen before."),
    "refused": ("margin_stream_refused", "Inputs that the intake refused."),
}


def shard_row(app: Any, follower: Any) -> dict[str, Any]:
    """Return what is to be reported of one shard."""
    shard = follower.shard
    highwater = app.highwater(follower.topic, follower.partition)
    row = {
        "topic": follower.topic,
        "partition": follower.partition,
        "kind": shard.kind,
        "ready": bool(follower.loaded and follower.failed is None),
        "failed": follower.failed,
        "offset": shard.offset,
        "sequence": shard.sequence,
        "lag": None if highwater is None else max(0, highwater - shard.offset - 1),
        "checkpoint_age_s": round(follower.checkpoint_age_s, 3),
        "checkpoint_s": round(follower.checkpoint_s, 4),
        "restore_s": round(follower.restore_s, 4),
        "restores": follower.restores,
        "folded": shard.folded,
        "skipped": shard.skipped,
        "trimmed": shard.trimmed,
        "holes": shard.holes,
        "strange": shard.strange,
        "foreign": shard.foreign + (follower.table.foreign if follower.table is not None else 0),
    }
    if shard.kind == "intake":
        newest_ns = max(
            (row["newest_event_time_ns"] for fold in shard.folds.folds if fold.name == "feeds" for row in fold.facts()),
            default=0,
        )
        row["clock_lag_s"] = max(0, newest_ns - shard.intake.market.clock_ns) / SECOND_NS
        row |= {"duplicates": shard.duplicates, "refused": shard.intake.refused}
    return row


class ShardCollector:
    """Reads the shards when Prometheus asks."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def collect(self) -> Iterator[Any]:
        """Yield every metric family."""
        rows = [shard_row(self._app, follower) for follower in self._app.followers()]
        for kind, measures in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for key, (name, text) in measures.items():
                family = kind(name, text, labels=["topic", "partition"])
                for row in rows:
                    if row.get(key) is not None:
                        family.add_metric([row["topic"], str(row["partition"])], float(row[key]))
                yield family
        found: dict[str, list[tuple[int, Fold]]] = {}
        for follower in self._app.followers():
            for fold in follower.shard.folds.folds:
                found.setdefault(fold.name, []).append((follower.partition, fold))
        for folds in found.values():
            yield from measured(folds)


def measured(folds: list[tuple[int, Fold]]) -> Iterator[Any]:
    """Yield the metric families of one kind of fold, given with their partitions: one a measure, a sample a row of the
    facts; moments in seconds."""
    kind = folds[0][1]
    rows = (
        [(number, list(row.items())) for number, fold in folds for row in islice(fold.facts(), FACTS_LIMIT)]
        if kind.measures
        else []
    )
    for field, text in kind.measures.items():
        moment = field.endswith("_ns")
        name = f"margin_stream_{kind.name}_{field.removesuffix('_ns')}{'_seconds' if moment else ''}"
        gauge = GaugeMetricFamily(name, text, labels=[rows[0][1][0][0] if rows else kind.name, "partition"])
        for number, row in rows:
            gauge.add_metric([str(row[0][1]), str(number)], dict(row)[field] / (1e9 if moment else 1))
        yield gauge


def registry(app: Any) -> CollectorRegistry:
    """Return the registry of a worker."""
    found = CollectorRegistry()
    found.register(ShardCollector(app))
    found.register(ALERTS)
    found.register(REBALANCES)
    return found
