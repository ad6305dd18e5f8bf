"""What the demo says: counts by profile, and an explanation that reads well whatever the subaccount holds."""

from __future__ import annotations

from typing import Any

from margin_stream.cli.demo_report import Inputs, by_profile, explanation_lines, largest_isolated, profile_lines

LONG: dict[str, Any] = {
    "instrument": "BTCUSDT-PERP",
    "quantity": "0.500",
    "open_cost": "20000.00",
    "unrealised": "-975.00",
    "mark": "38050.00",
    "leverage": 20,
    "notional": "19025",
    "bracket": 1,
    "floor": "0",
    "cap": "20000",
    "maintenance_rate": "0.01",
    "maintenance_amount": "0",
}
SHORT: dict[str, Any] = {
    **LONG,
    "instrument": "ETHUSDT-PERP",
    "quantity": "-2.000",
    "open_cost": "-6000.00",
    "unrealised": "50.00",
    "mark": "2975.00",
    "leverage": None,
    "notional": "5950",
    "cap": None,
}
FACTS: dict[str, Any] = {
    "account": "A-1",
    "subaccount": "p",
    "currency": "USDT",
    "at": "2021-05-19T00:00:00Z",
    "sequence": 1234,
    "money": "1000.00",
    "positions": [LONG, SHORT],
    "equity": "75.00",
    "maintenance_margin": "249.75",
    "demanded": "19025.00",
    "legs": [{"asset": "BTCUSDT-PERP", "amount": "19025.00", "quantity": "-0.500"}],
}


def test_an_explanation_shows_longs_and_shorts() -> None:
    text = "\n".join(explanation_lines(FACTS))
    for part in (
        "(sequence number 1,234):",
        "long 0.500 BTCUSDT-PERP, entered at 40,000.00, leverage 20",
        "short 2.000 ETHUSDT-PERP, entered at 3,000.00, leverage by default",
        "-2.000 x 2,975.00 - (-6,000.00) = 50.00",
        "1,000.00 money in the subaccount - 975.00 + 50.00 = 75.00 USDT",
        "lies in 0 to no end",
        "19,025 x 0.01 - 0 + 5,950 x 0.01 - 0 = 249.75 USDT, rounded up",
        "75.00 <= 249.75",
        "close at least 0.500 BTCUSDT-PERP (19,025.00 USDT)",
    ):
        assert part in text
    assert "closed" not in text


def test_an_explanation_states_what_became_of_the_subaccount() -> None:
    trades = [{"instrument": "BTCUSDT-PERP", "quantity": "-0.5", "price": "38050", "fee": "9.5"}]
    closed = {"at": "2021-05-19T00:00:20Z", "trades": trades, "ended": True, "to_cross": "65.50", "owed": None}
    text = "\n".join(explanation_lines({**FACTS, "closed": closed}))
    assert "-0.5 BTCUSDT-PERP at 38,050, fee 9.50 USDT" in text
    assert "65.50 USDT were moved to the cross subaccount" in text
    owing = {**closed, "ended": False, "to_cross": None, "owed": "1250.00"}
    assert "the subaccount owes 1,250.00 USDT" in "\n".join(explanation_lines({**FACTS, "closed": owing}))


def test_effects_are_counted_by_profile() -> None:
    inputs = Inputs(profile_of={"A": "prime", "B": "binance-usdm", "C": "prime"})
    due = {"type": "liquidation_due", "account": "B", "isolated": "p", "amount": "9.00", "sequence": 3}
    effects: list[dict[str, Any]] = [
        {"type": "margin_warned", "account": "A"},
        {"type": "margin_warned", "account": "A"},
        {"type": "feed_went_stale"},
        due,
        {**due, "amount": "10.00", "sequence": 5},
        {**due, "amount": "99.00", "supersedes": 2},
        {**due, "amount": "50.00", "isolated": ""},
    ]
    counts = by_profile(inputs, effects)
    assert list(counts) == ["prime", "binance-usdm"]
    assert counts["prime"]["accounts"] == 2
    assert counts["prime"]["margin_warned"] == {"times": 2, "accounts": 1}
    assert counts["binance-usdm"]["liquidation_due"] == {"times": 4, "accounts": 1}
    assert counts["binance-usdm"]["liquidation_due_isolated"]["times"] == 3
    assert counts["binance-usdm"]["liquidation_due_lowered"]["times"] == 1
    lines = list(profile_lines(counts))
    assert lines[2].split() == ["margin_warned", "2", "(1)", "-", "fell", "to", "the", "warning", "level"]
    assert not any("call_met" in line for line in lines)
    assert largest_isolated(effects) == effects[4]
    assert largest_isolated(effects[:3]) is None
