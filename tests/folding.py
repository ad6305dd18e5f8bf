"""Folding lines in memory, for tests: any partitions, any cuts, with or without price boxes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from margin_stream.core.revaluation.filter import RevaluationFilter
from margin_stream.core.store_fold import Digests, StoreFold
from margin_stream.schemas.rules_versions import LATEST

DATA = Path(os.environ.get("MARGIN_STREAM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def recorded_data(*parts: str) -> Path:
    """Return a path of the recorded market data; skip where it is absent (it is never part of the project)."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"recorded market data is not here: {path} (set MARGIN_STREAM_DATA)")
    return path


def fold(
    lines: Iterable[bytes],
    partitions: int = 1,
    *,
    boxes: bool = True,
    cuts: Random | None = None,
    extra: Random | None = None,
    price_filter: Callable[[], RevaluationFilter] | None = None,
) -> tuple[Digests, list[dict[str, Any]]]:
    """Fold lines and return digests and effects by (position, group, number).

    Args:
        cuts: batches end at random places; left out: one batch.
        watch: makes another watch than price boxes.
        extra: at random places every account is evaluated once more, which must say nothing.
    """
    system = StoreFold(partitions, boxes=boxes, price_filter=price_filter, rules_version=LATEST)
    rows: list[tuple[int, str, int, bytes]] = []

    def take() -> None:
        for part in system.fold(compare_markets=True):
            rows.extend(part)

    for line in lines:
        system.admission.line(line)
        if cuts is not None and cuts.randrange(7) == 0:
            take()
        if extra is not None and extra.randrange(9) == 0:
            take()
            for part in system.accounts:
                assert part.rest_all() == []
    take()
    rows.sort(key=lambda row: row[:3])
    return system.digests(), [readable(row[3]) for row in rows]


def readable(data: bytes) -> dict[str, Any]:
    """Return an effect as the oracle writes it: type without version, defaults left out."""
    fields: dict[str, Any] = msgspec.msgpack.decode(data)
    fields["type"] = fields["type"].rpartition(".v")[0]
    return fields


def of_groups(effects: Sequence[dict[str, Any]], *, without: tuple[str, ...] = ("@intake",)) -> list[dict[str, Any]]:
    return [effect for effect in effects if effect["id"].rpartition("/")[0] not in without]
