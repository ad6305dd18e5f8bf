"""Random feeds against the oracle: several sources, listings with bands of their own, wrong prints, silences, jumps,
new profiles."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.counts import TIMES
from tests.days import FIRST, INSTRUMENTS, Day, text
from tests.folding import fold, of_groups
from tests.oracle.prime_oracle import Oracle

SOURCES = ("feed/a", "feed/b", "feed/c")


class Feeds(Day):
    """A day whose quotes come from three sources and whose instruments are each listed otherwise."""

    def __init__(self, rng: Random) -> None:
        super().__init__({"due_after_s": rng.choice((180, 86400)), "call_persistence_s": rng.choice((0, 60))})
        self.rng = rng
        self.numbers = dict.fromkeys(SOURCES, 0)

    def book(self, type_: str, **fields: Any) -> None:
        if fields.get("kind") == "spot":
            rng = self.rng
            fields |= {
                "band": rng.choice(("0", "0.05", "0.1", "0.3")),
                "band_per_second": rng.choice(("0", "0.001", "0.01")),
                "band_maximum": rng.choice(("0.3", "0.5", "0.9")),
                "reanchor_quotes": rng.choice((2, 3, 5)),
                "reanchor_within": rng.choice(("0", "0.02", "0.1")),
                "stale_after_s": rng.choice((1, 60, 300, 1000)),
            }
        super().book(type_, **fields)

    def quote(self, source: str, instrument: str, price: int, **more: str) -> None:
        self.numbers[source] += self.rng.randint(1, 3)
        scale = INSTRUMENTS[instrument][2]
        self._add("price_ticked", source, self.numbers[source], instrument=instrument, price=text(price, scale), **more)


def a_day(seed: int) -> list[bytes]:
    rng = Random(seed)
    day = Feeds(rng)
    day.opened(prices=False)
    version = 1
    for n in range(6):
        name = f"A{n}"
        day.account(name)
        instrument = rng.choice(sorted(INSTRUMENTS))
        base = INSTRUMENTS[instrument][0]
        day.money(name, {"BTC": "1", "ETH": "13", "XMR": "160"}[base], base)
        day.money(name, rng.choice(("-20000", "-25000", "-27000")))
        if rng.randrange(3) == 0:
            day.money(name, "0.001", rng.choice(("BTC", "ETH", "XMR")))
    prices = dict(FIRST)
    for _ in range(90):
        instrument = rng.choice(sorted(INSTRUMENTS))
        what = rng.randrange(20)
        if what < 14:
            price = prices[instrument]
            move = rng.choice((1000, 1000, 990, 1010, 970, 1050, 900, 1100, 800))
            if rng.randrange(6):
                price = prices[instrument] = max(1, price * move // 1000)
            else:
                price = price * rng.choice((1, 5, 10, 13, 100, 0, -10)) // rng.choice((1, 10))
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                day.quote(rng.choice(SOURCES), instrument, price + rng.randrange(-2, 3) * abs(price) // 150)
        elif what < 18:
            day.clock(rng.choice((0, 1, 30, 59, 60, 61, 180, 300, 301, 900, 86_400, 691_200)))
        elif what == 18:
            version += 1
            effective = rng.choice(("2020-01-01T00:00:00Z", "2021-05-19T00:05:00Z", "2021-05-20T00:00:00Z"))
            parameters = {
                **day.parameters,
                "call": rng.choice(("1.20", "1.25", "1.30")),
                "due_after_s": rng.choice((180, 86400)),
            }
            day.book(
                "profile_activated",
                profile="prime",
                model="prime",
                version=version,
                effective_from=effective,
                approved_by="risk",
                parameters=parameters,
            )
        else:
            day.money(f"A{rng.randrange(6)}", rng.choice(("-3000", "500", "4000")))
    return day.lines


@pytest.mark.slow(reason="many random days, each folded several times")
@settings(max_examples=120 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**9))
def test_random_feeds_are_what_the_oracle_says(seed: int) -> None:
    lines = a_day(seed)
    oracle, system = Oracle(), StoreFold(1, rules_version=LATEST)
    for line in lines:
        if system.admission.line(line).value == "accepted":
            oracle.feed(json.loads(line))
        else:
            oracle.pass_over()
    said = [
        {key: value for key, value in effect.items() if (key, value) != ("supersedes", 0)} for effect in oracle.effects
    ]
    digests, effects = fold(lines)
    assert of_groups(effects) == said
    assert fold(lines, 3, boxes=False, cuts=Random(seed), extra=Random(seed)) == (digests, effects)


def test_a_few_days_hold_all_that_can_happen_to_a_feed() -> None:
    found = [effect for seed in range(12) for effect in fold(a_day(seed))[1]]
    assert {effect["reason"] for effect in found if effect["type"] in ("mark_refused", "mark_reanchored")} == {
        "deviation",
        "not_positive",
        "consecutive",
        "second_source",
        "one_side",
    }
    assert {
        "feed_went_stale",
        "profile_took_effect",
        "margin_call_issued",
        "call_escalated",
        "call_expired",
        "call_cured",
    } <= {effect["type"] for effect in found}
    assert len([effect for effect in found if effect["type"] == "input_refused"]) < len(found) // 10
