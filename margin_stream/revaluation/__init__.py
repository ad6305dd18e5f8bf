"""The vectorised evaluation behind the seam of ``margin_stream.core.revaluation.filter``: every holder at every
tick."""

from __future__ import annotations

from typing import Literal

RevaluationName = Literal["boxes", "vectors", "plain"]
ENGINES: tuple[RevaluationName, ...] = ("boxes", "vectors", "plain")
DEFAULT: RevaluationName = "boxes"
