"""What a journal said when it was written it says in every later build, to the last byte of state and effects."""

from __future__ import annotations

import json

import pytest

from tests.golden.recorded_days import FILE, days, folded

RECORDED = json.loads(FILE.read_text())
DAYS = days()


@pytest.mark.parametrize("name", DAYS)
def test_a_day_has_the_digests_that_it_had(name: str) -> None:
    rules_version, lines = DAYS[name]
    assert list(folded(rules_version, lines, name)) == RECORDED[name]


def test_every_recorded_day_is_folded() -> None:
    assert set(RECORDED) == set(DAYS)
