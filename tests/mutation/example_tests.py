"""Tests of the example. Nobody can tell what happens at the minimum exactly, and ``unheard`` is not asked."""

from __future__ import annotations

import pytest

from tests.mutation.example import charged, waited


@pytest.mark.parametrize(("amount", "minimum", "expected"), [(3, 5, 5), (5, 5, 5), (6, 5, 6)])
def test_at_least_the_minimum_is_charged(amount: int, minimum: int, expected: int) -> None:
    assert charged(amount, minimum) == expected


def test_it_waits_as_often_as_asked() -> None:
    assert waited(3) == 3
