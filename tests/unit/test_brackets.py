"""Leverage brackets: the published formula, its edges, what is wrong with a table, and files of tables."""

from __future__ import annotations

import gzip
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from margin_stream.core.margin.brackets import BracketTable, bracket_of, faults_of
from margin_stream.core.margin.parameters import BracketParameters, ParameterError
from margin_stream.core.market.directory import Asset, Instrument
from margin_stream.importers.brackets import read_brackets
from margin_stream.importers.market import ImportFault
from margin_stream.schemas.inputs import InstrumentListed
from tests.folding import recorded_data
from tests.usdm_days import TABLES


def instrument(money: int = 2, price: int = 2, quantity: int = 3) -> Instrument:
    currency = Asset(0, "USDT", money)
    listed = InstrumentListed(
        source="b",
        source_seq=0,
        event_time=0,
        instrument="X",
        kind="perpetual",
        currency="USDT",
        price_scale=price,
        quantity_scale=quantity,
    )
    return Instrument(1, listed, currency, currency)


def rows(name: str = "BTCUSDT-PERP", **changes: Any) -> list[BracketParameters]:
    return [BracketParameters(**{**row, **changes}) for row in TABLES[name]]


def table(parameters: list[BracketParameters], **scales: int) -> BracketTable:
    return BracketTable([bracket_of(row, f"[{k}]") for k, row in enumerate(parameters)], instrument(**scales))


def test_the_worked_number_of_the_page() -> None:
    """100,000 in the bracket from 50,000 with rate 0.005 and amount 50: 450. Size has five decimal places, money
    two."""
    parameters = [
        BracketParameters(floor="0", cap="50000", maintenance_rate="0.004", maintenance_amount="0"),
        BracketParameters(floor="50000", cap=None, maintenance_rate="0.005", maintenance_amount="50"),
    ]
    assert table(parameters).maintenance(100_000 * 10**5) == 450_00


@pytest.mark.slow(reason="many random brackets")
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**12), st.sampled_from([(2, 2, 3), (8, 2, 3), (0, 5, 0), (2, 8, 8), (18, 0, 0)]))
def test_maintenance_is_the_formula_rounded_up_in_every_scale(size: int, scales: tuple[int, int, int]) -> None:
    money, price, quantity = scales
    made = table(rows(), money=money, price=price, quantity=quantity)
    notional = Fraction(size, 10 ** (price + quantity))
    k = max(n for n, row in enumerate(rows()) if Fraction(row.floor) <= notional)
    exact = notional * Fraction(rows()[k].maintenance_rate) - Fraction(rows()[k].maintenance_amount)
    assert made.maintenance(size) == -(-exact * 10**money // 1)
    assert made.place(size) == k


@pytest.mark.parametrize(("size", "bracket"), [(1_999_999_999, 0), (2_000_000_000, 1), (2_000_000_001, 1)])
def test_a_notional_on_an_edge_belongs_to_the_upper_bracket(size: int, bracket: int) -> None:
    assert table(rows()).place(size) == bracket


def test_the_bracket_caps_the_leverage() -> None:
    made = table(rows())
    assert made.initial(10_000 * 10**5, 20) == 500_00
    assert made.initial(100_000 * 10**5, 20) == 10_000_00
    assert made.initial(1, 3) == 1


@pytest.mark.parametrize(
    ("place", "changes", "field", "says"),
    [
        (1, {"floor": "19000"}, "floor", "overlaps: 19000 lies below 20000"),
        (1, {"floor": "20000.5"}, "floor", "leaves a gap: 20000.5 lies above 20000"),
        (2, {"maintenance_rate": "0.009"}, "maintenance_rate", "falls from 0.01 to 0.009"),
        (
            2,
            {"maintenance_amount": "2520.01"},
            "maintenance_amount",
            "is discontinuous: 2520.01, continuous would be 2520",
        ),
        (2, {"max_leverage": "51"}, "max_leverage", "rises from 50 to 51"),
        (0, {"floor": "1"}, "floor", "begins at 1, not at 0"),
        (0, {"maintenance_amount": "3"}, "maintenance_amount", "the first bracket's amount is 3"),
        (0, {"cap": None}, "cap", "open, though another bracket follows"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(place: int, changes: dict[str, Any], field: str, says: str) -> None:
    given_rows = [dict(row) for row in TABLES["BTCUSDT-PERP"]]
    given_rows[place] |= changes
    found = faults_of([bracket_of(BracketParameters(**row), "x") for row in given_rows])
    assert any((k, where) == (place, field) and says in what for k, where, what in found), found
    assert faults_of([bracket_of(row, "x") for row in rows()]) == []
    assert faults_of([]) == [(0, "", "the table is empty")]


@pytest.mark.parametrize(
    "changes", [{"maintenance_rate": "1"}, {"cap": "0"}, {"max_leverage": "0.5"}, {"floor": "-1"}, {"floor": "x"}]
)
def test_a_number_out_of_its_range_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ParameterError):
        bracket_of(BracketParameters(**{**TABLES["DOGEUSDT-PERP"][0], **changes}), "x")


def venue(symbol: str = "BTCUSDT", **changes: Any) -> list[dict[str, Any]]:
    first = {
        "bracket": 1,
        "initialLeverage": 125,
        "notionalCap": 50000,
        "notionalFloor": 0,
        "maintMarginRatio": 0.004,
        "cum": 0.0,
    }
    second = {
        "bracket": 2,
        "initialLeverage": 100,
        "notionalCap": 250000,
        "notionalFloor": 50000,
        "maintMarginRatio": 0.005,
        "cum": 50.0,
    }
    return [{"symbol": symbol, "brackets": [first, {**second, **changes}]}]


def test_the_venues_own_answer_is_read_and_unsound_tables_are_named_not_repaired(tmp_path: Path) -> None:
    path = tmp_path / "brackets.json"
    path.write_text(json.dumps([*venue(), *venue("ETHUSDT", cum=51.0), *venue("XRPUSDT", notionalFloor=40000)]))
    found = read_brackets(path)
    assert [row.maintenance_amount for row in found.sound["BTCUSDT", "USDT"]] == ["0", "50"]
    assert found.faults["ETHUSDT", "USDT"] == [
        "ETHUSDT: bracket 2: maintenance_amount is discontinuous: 51, continuous would be 50"
    ]
    assert found.faults["XRPUSDT", "USDT"][0].startswith("XRPUSDT: bracket 2: floor overlaps")
    assert set(found.sound) == {("BTCUSDT", "USDT")}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"[1]", gzip.compress(b"no json", mtime=0), b"\x1f\x8b broken"]
)
def test_a_file_without_tables_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "brackets.json"
    path.write_bytes(content)
    with pytest.raises(ImportFault, match=r"brackets\.json"):
        read_brackets(path)


def test_the_recorded_tables_are_read() -> None:
    found = read_brackets(recorded_data("binance_leverage_tiers", "binance_leverage_tiers.json.gz"))
    assert len(found.sound) == 345
    assert found.faults == {}
    assert found.sound["BTCUSDT", "USDT"][2].maintenance_rate == "0.0065"
