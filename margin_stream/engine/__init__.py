"""The vectorised evaluation behind the seam of ``margin_stream.core.watching``: every holder at every tick."""

from __future__ import annotations

from typing import Literal

EngineName = Literal["boxes", "vectors", "plain"]
ENGINES: tuple[EngineName, ...] = ("boxes", "vectors", "plain")
DEFAULT: EngineName = "boxes"
