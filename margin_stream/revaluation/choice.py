"""The engines by name: what drives ticks. All give the same bytes; they differ in cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from margin_stream.core.revaluation.filter import PriceBoxFilter, RevaluationFilter
from margin_stream.revaluation import RevaluationName


class Revaluation(NamedTuple):
    """How an account fold is driven: see ``AccountFold``."""

    boxes: bool
    price_filter: Callable[[], RevaluationFilter] | None


def revaluation_of(name: RevaluationName) -> Revaluation:
    """Return how an engine drives the folds.

    ``boxes``: price boxes, in plain Python; a tick costs nothing for accounts that are safe. ``vectors``: every holder
    at every tick, compiled by numba (which is loaded only now). ``plain``: every holder at every tick by the pure core:
    the reference.
    """
    if name == "vectors":
        from margin_stream.revaluation.vectors import VectorFilter

        return Revaluation(boxes=False, price_filter=VectorFilter)
    return (
        Revaluation(boxes=False, price_filter=None)
        if name == "plain"
        else Revaluation(boxes=True, price_filter=PriceBoxFilter)
    )
