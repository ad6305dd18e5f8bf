"""The parameters of the margin models: what does not fit is refused by the name of the parameter, the last value that
fits is taken."""

from __future__ import annotations

from typing import Any

import pytest

from margin_stream.core.margin import models as _models  # noqa: F401  (registers the models)
from margin_stream.core.margin.brackets import UNIT, Bracket, BracketTable, bracket_of, faults_of
from margin_stream.core.margin.collateral import AssetTerms, asset_terms
from margin_stream.core.margin.guards import Guard, Ratio
from margin_stream.core.margin.model import MODELS, CallPolicy, MarginCalculator
from margin_stream.core.margin.models.binance_usdm import BinanceUsdm
from margin_stream.core.margin.parameters import AssetParameters, BracketParameters, ParameterError
from margin_stream.core.margin.ratios import amount, less, per_billion, ratio
from margin_stream.core.market.directory import Directory
from margin_stream.schemas.inputs import InstrumentListed
from tests.days import INSTRUMENTS, PARAMETERS
from tests.usdm_days import PERPETUALS, USDM_PARAMETERS


def listed(name: str, kind: str, scale: int, **more: Any) -> InstrumentListed:
    return InstrumentListed(
        source="s", source_seq=1, event_time=0, instrument=name, kind=kind, quantity_scale=scale, **more
    )  # type: ignore[arg-type]


def directory() -> Directory:
    found = Directory()
    for name, scale in (("USDT", 2), ("BTC", 8), ("ETH", 8), ("XMR", 8), ("GEM", 0)):
        found.enlist(listed(name, "currency", scale))
    for name, (base, currency, price_scale, quantity_scale) in INSTRUMENTS.items():
        found.enlist(listed(name, "spot", quantity_scale, base=base, currency=currency, price_scale=price_scale))
    for name, (price_scale, quantity_scale, _) in PERPETUALS.items():
        found.enlist(listed(name, "perpetual", quantity_scale, currency="USDT", price_scale=price_scale))
    found.enlist(listed("BTC-IN-ETH", "perpetual", 3, currency="ETH", price_scale=2))
    found.enlist(listed("GEMUSDT", "spot", 0, base="GEM", currency="USDT", price_scale=0))
    found.enlist(listed("USDTBTC", "spot", 2, base="USDT", currency="BTC", price_scale=8))
    return found


DIRECTORY = directory()


def compiled(model: str, **changes: Any) -> tuple[CallPolicy, MarginCalculator]:
    base = PARAMETERS if model == "prime" else USDM_PARAMETERS
    return MODELS[model].compile({**base, **changes}, DIRECTORY)


def fault(model: str, **changes: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        compiled(model, **changes)
    return str(caught.value)


def asset(name: str, **fields: Any) -> dict[str, Any]:
    """Return the assets with one changed or added."""
    assets = PARAMETERS["assets"]
    return {"assets": {**assets, name: {**assets.get(name, {"haircut": "0", "route": []}), **fields}}}


SHARED = [
    ({"base_currency": "NO"}, "parameters.base_currency: 'NO' is not listed"),
    (
        {"assets": {"BTC": {"haircut": "0", "route": ["BTCUSDT"]}}},
        "parameters.assets: USDT, the base currency, is missing",
    ),
    (asset("NO"), "parameters.assets.NO: 'NO' is not listed"),
    (asset("BTC", route=["NO"]), "parameters.assets.BTC.route: 'NO' is not listed"),
    (
        asset("BTC", route=["BTCUSDT", "BTCUSDT", "BTCUSDT", "BTCUSDT"]),
        "parameters.assets.BTC.route: more than 3 instruments",
    ),
    (
        asset("BTC", route=["BTCUSDT-PERP"]),
        "parameters.assets.BTC.route: BTCUSDT-PERP is a perpetual, which converts nothing",
    ),
    (asset("BTC", route=["ETHUSDT"]), "parameters.assets.BTC.route: ETHUSDT converts ETH, not BTC"),
    (asset("XMR", route=["XMRBTC", "ETHUSDT"]), "parameters.assets.XMR.route: ETHUSDT converts ETH, not BTC"),
    (asset("XMR", route=["XMRBTC"]), "parameters.assets.XMR.route: ends in BTC, not in the base currency USDT"),
    (asset("BTC", route=[]), "parameters.assets.BTC.route: ends in BTC, not in the base currency USDT"),
    (asset("BTC", haircut="1.01"), "parameters.assets.BTC.haircut: above 1"),
    (asset("BTC", haircut="-0.01"), "parameters.assets.BTC.haircut: -0.01 is below 0"),
    (
        asset("GEM", route=["GEMUSDT"]),
        "parameters.assets.GEM.route: USDT has more decimal places than GEM and its route together",
    ),
    (
        {"liquidation_minimum": "0.001"},
        "parameters.liquidation_minimum: 0.001 is no amount of the base currency, at least 0 minor units",
    ),
    ({"liquidation_minimum": "-1"}, "parameters.liquidation_minimum: -1 is below 0"),
]


@pytest.mark.parametrize("model", ["prime", "binance-usdm"])
@pytest.mark.parametrize(("changes", "text"), SHARED)
def test_assets_and_amounts_that_do_not_fit_are_named(model: str, changes: dict[str, Any], text: str) -> None:
    assert fault(model, **changes) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"warn": "1.24"}, "parameters.warn: below call"),
        ({"call": "1.09"}, "parameters.call: below close_out"),
        ({"restore": "1.24"}, "parameters.restore: below call"),
        ({"close_out": "0.99", "call": "1"}, "parameters.close_out: below 1"),
        ({"warn": "-1"}, "parameters.warn: -1 is below 0"),
        ({"initial": "-1"}, "parameters.initial: -1 is below 0"),
        ({"maintenance": "-1"}, "parameters.maintenance: -1 is below 0"),
        (
            {"minimum_transfer": "0.005"},
            "parameters.minimum_transfer: 0.005 is no amount of the base currency, at least 0 minor units",
        ),
        ({"rounding": "0"}, "parameters.rounding: 0 is no amount of the base currency, at least 1 minor units"),
        (
            {"tranche_step": "0.00"},
            "parameters.tranche_step: 0.00 is no amount of the base currency, at least 1 minor units",
        ),
    ],
)
def test_levels_and_amounts_of_prime_that_do_not_fit_are_named(changes: dict[str, Any], text: str) -> None:
    assert fault("prime", **changes) == text


@pytest.mark.parametrize(
    "name",
    ["warn", "call", "close_out", "restore", "initial", "maintenance", "minimum_transfer", "rounding", "tranche_step"],
)
def test_a_text_that_is_no_decimal_is_named_with_its_parameter(name: str) -> None:
    assert fault("prime", **{name: "1e5"}).startswith(f"parameters.{name}: '1e5' is not a decimal")


@pytest.mark.parametrize("model", ["prime", "binance-usdm"])
def test_unknown_and_missing_parameters_are_named(model: str) -> None:
    assert fault(model, nonsense=1).startswith("parameters: Object contains unknown field `nonsense`")
    assert fault(model, **asset("BTC", nonsense=1)).startswith("parameters: Object contains unknown field `nonsense`")
    if model == "binance-usdm":
        assert fault(model, brackets={"BTCUSDT-PERP": [{**ROWS[0], "nonsense": 1}]}).startswith(
            "parameters: Object contains unknown field"
        )
    assert fault(model, at_level="perhaps").startswith("parameters: Invalid enum value 'perhaps'")
    with pytest.raises(ParameterError, match=r"^parameters: Object missing required field"):
        MODELS[model].compile({}, DIRECTORY)


@pytest.mark.parametrize("name", ["call_persistence_s", "due_after_s", "reopen_within_s"])
def test_periods_are_from_nothing_to_a_year(name: str) -> None:
    for seconds in (0, 31_536_000):
        policy, _ = compiled("prime", **{name: seconds})
        assert getattr(policy.call_types[0], name.removeprefix("call_").removesuffix("_s") + "_ns") == seconds * 10**9
    for seconds, text in ((-1, ">= 0"), (31_536_001, "<= 31536000")):
        assert fault("prime", **{name: seconds}).startswith(f"parameters: Expected `int` {text}")


def test_levels_may_be_equal_and_amounts_the_least() -> None:
    policy, calculator = compiled(
        "prime",
        warn="1",
        call="1",
        close_out="1",
        restore="1",
        minimum_transfer="0",
        rounding="0.01",
        tranche_step="0.01",
        liquidation_minimum="0",
    )
    assert (
        policy.call_types[0].minimum_transfer,
        policy.call_types[0].rounding,
        policy.call_types[0].tranche_step,
        policy.liquidation_minimum,
    ) == (0, 1, 1, 0)
    assert calculator.base == 0
    assert not calculator.subaccounts


def test_the_policy_of_prime_is_its_parameters() -> None:
    policy, _ = compiled("prime")

    def guard(ratio: str, inclusive: bool = False) -> Guard:
        return Guard(Ratio(int(ratio.replace(".", "")), 100 if len(ratio) > 3 else 10), 0, inclusive)

    assert policy.call_types[0].callable is True
    assert (policy.warn, policy.call_types[0].trigger, policy.close_out) == (guard("1.4"), guard("1.25"), guard("1.1"))
    assert policy.restore == guard("1.4")
    assert policy.bankrupt == Guard(Ratio(1, 1), 0, inclusive=False)
    assert policy.quiescent == guard("1.4")
    assert (
        policy.call_types[0].persistence_ns,
        policy.call_types[0].due_after_ns,
        policy.call_types[0].reopen_within_ns,
    ) == (
        60 * 10**9,
        86_400 * 10**9,
        86_400 * 10**9,
    )
    assert (
        policy.call_types[0].minimum_transfer,
        policy.call_types[0].minimum_is_called,
        policy.call_types[0].rounding,
        policy.call_types[0].tranche_step,
    ) == (
        100_000,
        True,
        10_000,
        100_000,
    )
    assert policy.liquidation_minimum == 1_000


@pytest.mark.parametrize(
    ("changes", "quiescent"),
    [
        ({"warn": "1.5"}, Guard(Ratio(15, 10), 0, inclusive=False)),
        ({"restore": "1.5"}, Guard(Ratio(15, 10), 0, inclusive=False)),
        ({"at_level": "breach"}, Guard(Ratio(14, 10), 0, inclusive=True)),
        ({"at_restore": "short"}, Guard(Ratio(14, 10), 0, inclusive=True)),
    ],
)
def test_an_account_is_calm_above_the_widest_level(changes: dict[str, Any], quiescent: Guard) -> None:
    policy, _ = compiled("prime", **changes)
    assert policy.quiescent == quiescent
    breach, short = changes.get("at_level") == "breach", changes.get("at_restore") == "short"
    for guard in (policy.warn, policy.call_types[0].trigger, policy.close_out, policy.bankrupt):
        assert guard.inclusive is breach
    assert policy.restore.inclusive is short


def test_what_is_at_the_minimum_is_a_parameter() -> None:
    for word, called in (("called", True), ("suppressed", False)):
        policy, _ = compiled("prime", at_minimum=word)
        assert policy.call_types[0].minimum_is_called is called
        assert [policy.call_types[0].is_called(shortfall) for shortfall in (99_999, 100_000, 100_001)] == [
            False,
            called,
            True,
        ]
        reaches = policy.call_types[0].reaches_minimum()
        restore = policy.restore.ratio
        assert reaches == Guard(restore, 1 - (100_000 if called else 100_001), inclusive=False)
        assert [policy.call_types[0].rounded(units) for units in (0, 1, 9_999, 10_000, 10_001)] == [
            0,
            10_000,
            10_000,
            10_000,
            20_000,
        ]


# ---- binance-usdm
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"warn": "0.99"}, "parameters.warn: below 1, the level of liquidation"),
        ({"restore": "0.99"}, "parameters.restore: below 1, the level of liquidation"),
        (
            {"warn": "x"},
            'parameters.warn: \'x\' is not a decimal; write digits with an optional "-" and point, such as "38000.10"',
        ),
        ({"restore": "-1"}, "parameters.restore: -1 is below 0"),
        ({"default_leverage": 0}, "parameters.default_leverage: from 1 to 1000"),
        ({"default_leverage": 1001}, "parameters.default_leverage: from 1 to 1000"),
        ({"brackets": {"NO": []}}, "parameters.brackets.NO: 'NO' is not listed"),
        ({"brackets": {"BTCUSDT": []}}, "parameters.brackets.BTCUSDT: BTCUSDT is no perpetual"),
        (
            {"brackets": {"BTC-IN-ETH": []}},
            "parameters.brackets.BTC-IN-ETH: BTC-IN-ETH settles in ETH, not in the base currency USDT",
        ),
        ({"brackets": {"BTCUSDT-PERP": []}}, "parameters.brackets.BTCUSDT-PERP[0]: the table is empty"),
    ],
)
def test_parameters_of_the_perpetuals_that_do_not_fit_are_named(changes: dict[str, Any], text: str) -> None:
    assert fault("binance-usdm", **changes) == text


def test_the_policy_of_the_perpetuals_calls_nothing() -> None:
    for word, at in (("breach", True), ("safe", False)):
        policy, calculator = compiled("binance-usdm", at_level=word, warn="1.5", default_leverage=1000)
        one = Guard(Ratio(1, 1), 0, at)
        assert policy.call_types[0].callable is False
        assert (policy.call_types[0].trigger, policy.close_out) == (one, one)
        assert policy.bankrupt == Guard(Ratio(0, 1), 0, inclusive=False)
        assert policy.warn == Guard(Ratio(15, 10), 0, at)
        assert policy.restore == Guard(Ratio(125, 100), 0, at)
        assert policy.quiescent == Guard(Ratio(15, 10), 0, at)
        assert policy.call_types[0][4:] == (0, 0, 0, 0, False, 1, 1, Ratio(0, 1), 0)
        assert policy.liquidation_minimum == 1000
        assert calculator.subaccounts is True
    policy, _ = compiled("binance-usdm", warn="1", restore="1.1", default_leverage=1)
    assert policy.quiescent.ratio == Ratio(11, 10)


# ---- assets
# ----------------------------------------------------------------------------------------------------------------


def terms_of(name: str, haircut: str, *route: str, base: str = "USDT") -> tuple[int, AssetTerms]:
    return asset_terms(name, AssetParameters(haircut=haircut, route=route), base, DIRECTORY)


def test_a_route_is_numbers_of_instruments_and_one_division() -> None:
    assert terms_of("USDT", "0") == (0, AssetTerms(0, 0, 0, 1, 1, 1, Ratio(1, 1)))
    # BTC has 8 places and its price 2, the base currency 2: a product of units is divided by 10**8.
    assert terms_of("BTC", "0.05", "BTCUSDT") == (1, AssetTerms(1, 0, 0, 95, 10**10, 10**8, Ratio(95, 100)))
    assert terms_of("XMR", "0.30", "XMRBTC", "BTCUSDT") == (3, AssetTerms(3, 1, 0, 7, 10**15, 10**14, Ratio(7, 10)))
    assert terms_of("XMR", "1", "XMRBTC", "BTCUSDT")[1].keep == 0
    number, calculator = terms_of("XMR", "0", "XMRBTC", "BTCUSDT", "USDTBTC", base="BTC")
    assert (number, calculator[:3]) == (3, (3, 1, DIRECTORY.instrument_by_name["USDTBTC"].number))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", Ratio(0, 1)),
        ("1.40", Ratio(14, 10)),
        ("0.005", Ratio(5, 1000)),
        ("1200", Ratio(1200, 1)),
        ("1", Ratio(1, 1)),
    ],
)
def test_a_ratio_is_an_exact_fraction(text: str, expected: Ratio) -> None:
    assert ratio(text, "name") == expected
    assert per_billion(expected) == expected.numerator * 10**9 // expected.denominator


def test_ratios_are_compared_across_denominators() -> None:
    assert less(Ratio(1, 3), Ratio(34, 100))
    assert not less(Ratio(34, 100), Ratio(1, 3))
    assert not less(Ratio(1, 2), Ratio(2, 4))


@pytest.mark.parametrize(("text", "least", "units"), [("1.25", 0, 125), ("0.01", 1, 1), ("0", 0, 0), ("3", 300, 300)])
def test_an_amount_is_whole_minor_units(text: str, least: int, units: int) -> None:
    assert amount(text, "name", 2, least) == units
    for wrong, scale, bound in ((text, 2, units + 1), ("0.001", 2, 0)):
        with pytest.raises(ParameterError) as caught:
            amount(wrong, "name", scale, bound)
        assert (
            str(caught.value)
            == f"parameters.name: {wrong} is no amount of the base currency, at least {bound} minor units"
        )


def test_a_ratio_may_have_another_least() -> None:
    assert ratio("1", "name", least=1) == Ratio(1, 1)
    with pytest.raises(ParameterError) as caught:
        ratio("0", "name", least=1)
    assert str(caught.value) == "parameters.name: 0 is below 1"


# ---- brackets
# ---------------------------------------------------------------------------------------------------------------


def given(**changes: Any) -> BracketParameters:
    fields = {"floor": "10", "cap": "20", "maintenance_rate": "0.5", "maintenance_amount": "1", "max_leverage": "2"}
    return BracketParameters(**{**fields, **changes})


def test_a_bracket_is_counted_in_one_small_unit() -> None:
    assert bracket_of(given(), "t[0]") == Bracket(10 * UNIT, 20 * UNIT, UNIT // 2, UNIT, 2 * UNIT)
    assert bracket_of(given(cap=None, max_leverage=None), "t[0]") == Bracket(10 * UNIT, None, UNIT // 2, UNIT, None)
    assert UNIT == 10**18
    assert (
        bracket_of(given(cap="10.01", maintenance_rate="0.999999", max_leverage="1"), "t[0]").rate == 999_999 * 10**12
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"maintenance_rate": "1"}, "parameters.t[0].maintenance_rate: 1 is not below 1"),
        ({"cap": "10"}, "parameters.t[0].cap: 10 is not above the floor, 10"),
        ({"cap": "9.99"}, "parameters.t[0].cap: 9.99 is not above the floor, 10"),
        ({"max_leverage": "0.99"}, "parameters.t[0].max_leverage: 0.99 is below 1"),
        *(({field: "-1"}, f"parameters.t[0].{field}: -1 is below 0") for field in given().__struct_fields__),
    ],
)
def test_a_bracket_that_is_none_is_named(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ParameterError) as caught:
        bracket_of(given(**changes), "t[0]")
    assert str(caught.value) == text


def bracket(floor: str, cap: str | None, rate: str, units: str, leverage: str | None = None) -> Bracket:
    return bracket_of(BracketParameters(floor, cap, rate, units, leverage), "t")


SOUND = [
    bracket("0", "100", "0.01", "0", "50"),
    bracket("100", "300", "0.02", "1", "20"),
    bracket("300", None, "0.05", "10", "5"),
]


@pytest.mark.parametrize(
    ("place", "changed", "faults"),
    [
        (0, bracket("1", "100", "0.01", "0"), [(0, "floor", "the first bracket begins at 1, not at 0")]),
        (
            0,
            bracket("0", "100", "0.01", "0.5"),
            [
                (
                    0,
                    "maintenance_amount",
                    "the first bracket's amount is 0.5, not 0: the margin of a small position would be negative",
                ),
                (1, "maintenance_amount", "is discontinuous: 1, continuous would be 1.5"),
            ],
        ),
        (0, bracket("0", None, "0.01", "0"), [(0, "cap", "open, though another bracket follows")]),
        (
            1,
            bracket("99.5", "300", "0.02", "0.995"),
            [
                (1, "floor", "overlaps: 99.5 lies below 100, where the bracket before ends"),
                (2, "maintenance_amount", "is discontinuous: 10, continuous would be 9.995"),
            ],
        ),
        (
            1,
            bracket("100", "299", "0.02", "1"),
            [(2, "floor", "leaves a gap: 300 lies above 299, where the bracket before ends")],
        ),
        (
            1,
            bracket("100", "300", "0.005", "0"),
            [
                (1, "maintenance_rate", "falls from 0.01 to 0.005"),
                (1, "maintenance_amount", "is discontinuous: 0, continuous would be -0.5"),
                (2, "maintenance_amount", "is discontinuous: 10, continuous would be 13.5"),
            ],
        ),
        (
            2,
            bracket("300", None, "0.05", "10.01"),
            [(2, "maintenance_amount", "is discontinuous: 10.01, continuous would be 10")],
        ),
        (2, bracket("300", None, "0.05", "10", "21"), [(2, "max_leverage", "rises from 20 to 21")]),
        (2, bracket("300", None, "0.05", "10", "20"), []),
        (2, bracket("300", None, "0.05", "10", None), []),
        (1, bracket("100", "300", "0.02", "1", None), []),
        (
            1,
            bracket("100", "300", "0.01", "0"),
            [(2, "maintenance_amount", "is discontinuous: 10, continuous would be 12")],
        ),
    ],
)
def test_everything_that_is_wrong_with_a_table_is_named(
    place: int, changed: Bracket, faults: list[tuple[int, str, str]]
) -> None:
    table = list(SOUND)
    table[place] = changed
    assert faults_of(table) == faults


def test_a_sound_table_has_no_faults_and_an_empty_one_is_none() -> None:
    assert faults_of(SOUND) == []
    assert faults_of(SOUND[:1]) == []
    assert faults_of([]) == [(0, "", "the table is empty")]
    # An amount must be the continuous one exactly, also behind the eighteenth place.
    tiny = [Bracket(0, 1, 0, 0, None), Bracket(1, None, UNIT // 2, 0, None)]
    assert faults_of(tiny) == [(1, "maintenance_amount", "is discontinuous: 0, continuous would be 0")]


ROWS = [
    {"floor": "0", "cap": "100", "maintenance_rate": "0.01", "maintenance_amount": "0", "max_leverage": "50"},
    {"floor": "100", "cap": None, "maintenance_rate": "0.02", "maintenance_amount": "2", "max_leverage": "60"},
]


def test_an_unsound_table_is_refused_by_its_first_fault_and_a_what_if_may_take_it() -> None:
    field = "parameters.brackets.BTCUSDT-PERP"
    first = f"{field}[1].maintenance_amount: is discontinuous: 2, continuous would be 1"
    assert fault("binance-usdm", brackets={"BTCUSDT-PERP": ROWS}) == f"{first} (and 1 more)"
    assert fault("binance-usdm", brackets={"BTCUSDT-PERP": [ROWS[0], {**ROWS[1], "max_leverage": "50"}]}) == first
    parameters = {**USDM_PARAMETERS, "brackets": {"BTCUSDT-PERP": ROWS}}
    _, calculator = BinanceUsdm().compile(parameters, DIRECTORY, sound=False)
    number = DIRECTORY.instrument_by_name["BTCUSDT-PERP"].number
    assert list(calculator.tables) == [number]
    assert [row.amount for row in calculator.tables[number].brackets] == [0, 2 * UNIT]
    with pytest.raises(ParameterError, match="the table is empty"):
        BinanceUsdm().compile({**parameters, "brackets": {"BTCUSDT-PERP": []}}, DIRECTORY, sound=False)
    assert (
        fault("binance-usdm", brackets={"BTCUSDT-PERP": [{**ROWS[0], "maintenance_rate": "2"}]})
        == f"{field}[0].maintenance_rate: 2 is not below 1"
    )


def test_a_table_belongs_to_its_instrument_and_its_scales() -> None:
    for name, (price_scale, quantity_scale, _) in PERPETUALS.items():
        instrument = DIRECTORY.instrument_by_name[name]
        table = BracketTable(SOUND, instrument)
        assert table.number == instrument.number
        assert table.size_scale == price_scale + quantity_scale
        assert table.shift == 2 - price_scale - quantity_scale
        assert table.edges == tuple(edge * 10**table.size_scale for edge in (0, 100, 300))
        assert (table.scale_up, table.scale_down) == (10 ** max(table.shift, 0), 10 ** max(-table.shift, 0))
