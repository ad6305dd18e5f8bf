"""What an input costs grows with its length, whatever its shape: steps are counted, which are the same everywhere."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from tests.benchmarks import shapes
from tests.benchmarks.shapes import REASONS, SHAPES, exponent, run

SIZES = [120, 480]
LIMIT = 1.15
"""N log N between these sizes is 1.14."""

pytestmark = pytest.mark.plain_core


def steps(lines: list[bytes]) -> int:
    """Return how many lines of the product run."""
    count = 0

    def line(_: FrameType, event: str, __: Any) -> Any:
        nonlocal count
        count += event == "line"
        return line

    def entered(frame: FrameType, _: str, __: Any) -> Any:
        return line if "margin_stream" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        run(lines)
    finally:
        sys.settrace(before)
    return count


def grows(make: shapes.Shape) -> float:
    return exponent(SIZES, [float(steps(make(size))) for size in SIZES])


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in REASONS])
def test_the_cost_of_a_shape_is_in_proportion_to_its_length(name: str) -> None:
    assert grows(SHAPES[name]) < LIMIT


def test_what_costs_more_is_noticed() -> None:
    assert set(REASONS) <= set(SHAPES)
    assert grows(SHAPES["many holders of what goes stale and comes back"]) > LIMIT
