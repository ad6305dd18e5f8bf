"""The engines by name: what drives ticks. All give the same bytes; they differ in cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from margin_stream.core.revaluation.filter import BoxWatch, Watch
from margin_stream.revaluation import RevaluationName


class Revaluation(NamedTuple):
    """How an account fold is driven: see ``AccountFold``."""

    boxes: bool
    watch: Callable[[], Watch] | None


def revaluation_of(name: RevaluationName) -> Revaluation:
    """Return how an engine drives the folds.

    ``boxes``: price boxes, in plain Python; a tick costs nothing for accounts that are safe. ``vectors``: every holder at every tick, compiled by
    numba (which is loaded only now). ``plain``: every holder at every tick by the pure core: the reference.
    """
    if name == "vectors":
        from margin_stream.revaluation.vectors import VectorWatch

        return Revaluation(boxes=False, watch=VectorWatch)
    return Revaluation(boxes=False, watch=None) if name == "plain" else Revaluation(boxes=True, watch=BoxWatch)
