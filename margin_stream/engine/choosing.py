"""The engines by name: what drives ticks. All give the same bytes; they differ in cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from margin_stream.engine import DEFAULT, ENGINES, EngineName

if TYPE_CHECKING:
    from margin_stream.core.watching import Watch

__all__ = ["DEFAULT", "ENGINES", "Drive", "EngineName", "drive_of"]


class Drive(NamedTuple):
    """How an account fold is driven: see ``AccountFold``."""

    boxes: bool
    watch: Callable[[], Watch] | None


def drive_of(name: EngineName) -> Drive:
    """Return how an engine drives the folds.

    ``boxes``: price boxes, in plain Python; a tick costs nothing for accounts that are safe. ``vectors``: every holder at every tick, compiled by
    numba (which is loaded only now). ``plain``: every holder at every tick by the pure core: the reference.
    """
    if name == "vectors":
        from margin_stream.engine.vectors import VectorWatch

        return Drive(boxes=False, watch=VectorWatch)
    from margin_stream.core.watching import BoxWatch

    return Drive(boxes=False, watch=None) if name == "plain" else Drive(boxes=True, watch=BoxWatch)
