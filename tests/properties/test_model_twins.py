"""The margin models against plain fractions, written from docs/rules.md: figures, statements, credits, sales, and what
bounds must hold."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from margin_stream.core.accounts.position import Position
from margin_stream.core.margin.brackets import UNIT, BracketTable
from margin_stream.core.margin.guards import NO_BOUND, NO_LIMIT, Guard, GuardState, Ratio, guard_state_of
from margin_stream.core.margin.model import SaleLeg
from margin_stream.core.margin.models.binance_usdm import UsdmCalculator
from margin_stream.core.margin.models.prime import PrimeCalculator
from tests.days import INSTRUMENTS, PARAMETERS
from tests.unit.test_core_profiles import DIRECTORY, bracket, compiled
from tests.usdm_days import PERPETUALS, TABLES, USDM_PARAMETERS

SEEDS = st.integers(0, 10**9)
LAW = settings(max_examples=150, deadline=None)
NUMBER = {name: DIRECTORY.instrument_by_name[name].number for name in (*INSTRUMENTS, *PERPETUALS)}
ASSET = {name: DIRECTORY.asset_by_name[name].number for name in ("USDT", "BTC", "ETH", "XMR", "GEM")}
PRIME = compiled("prime")[1]
USDM = compiled("binance-usdm")[1]
RATIOS = (Ratio(14, 10), Ratio(125, 100), Ratio(11, 10), Ratio(1, 1), Ratio(0, 1), Ratio(5, 1), Ratio(300, 1))


class Book:
    """What a model may look at."""

    def __init__(self, balances: dict[int, int], perpetuals: dict[int, Position] | None = None) -> None:
        self.balances = balances
        self.perpetuals = perpetuals or {}


def price_list(rng: Random) -> list[int]:
    """Return prices near the usual ones; some instruments are not marked."""
    prices = [1] + [0] * (len(DIRECTORY.instruments) - 1)
    for name, usual in (
        ("BTCUSDT", 4_000_000),
        ("ETHUSDT", 300_000),
        ("XMRBTC", 8_000),
        *((n, row[2]) for n, row in PERPETUALS.items()),
    ):
        if rng.randrange(8):
            prices[NUMBER[name]] = max(1, usual * rng.randint(1, 300) // 100)
    return prices


def balances(rng: Random, *names: str) -> dict[int, int]:
    found = {}
    for name in rng.sample(names, rng.randint(0, len(names))):
        found[ASSET[name]] = rng.choice((-1, 1, 1)) * rng.choice((1, 7, rng.randint(1, 10**7), rng.randint(1, 10**10)))
    return found


def positions(rng: Random) -> dict[int, Position]:
    found = {}
    for name, (price_scale, quantity_scale, usual) in PERPETUALS.items():
        for side in range(3):
            if rng.randrange(3) == 0:
                worth = rng.choice((1, 500, 9_999, 20_000, 60_000, 149_000, 400_000))
                quantity = max(1, worth * 10 ** (price_scale + quantity_scale) // usual) * rng.choice((1, -1))
                cost = quantity * usual * rng.randint(70, 130) // (10 ** (price_scale + quantity_scale))
                found[NUMBER[name] << 2 | side] = Position(quantity, cost, 0, 0, rng.choice((0, 1, 3, 20, 125)))
    return found


def marks(prices: list[int]) -> dict[str, Fraction]:
    """Return the mark of each asset in the base currency."""
    btc = Fraction(prices[NUMBER["BTCUSDT"]], 100)
    return {
        "USDT": Fraction(1),
        "BTC": btc,
        "ETH": Fraction(prices[NUMBER["ETHUSDT"]], 100),
        "XMR": Fraction(prices[NUMBER["XMRBTC"]], 10**6) * btc,
    }


def scale_of(name: str) -> int:
    return 2 if name == "USDT" else 8


def twin_assets(book: Book, prices: list[int], parameters: dict[str, Any]) -> tuple[int, int, bool]:
    """Return V, D and whether something is owed that has no price, in cents."""
    value = debit = 0
    unbounded = False
    mark = marks(prices)
    for name, number in ASSET.items():
        balance = Fraction(book.balances.get(number, 0), 10 ** (scale_of(name) if name != "GEM" else 0))
        if name not in parameters["assets"]:
            unbounded = unbounded or balance < 0
        elif balance > 0:
            value += math.floor(balance * mark[name] * (1 - Fraction(parameters["assets"][name]["haircut"])) * 100)
        else:
            debit += math.ceil(-balance * mark[name] * 100)
    return value, debit, unbounded


@LAW
@given(SEEDS)
def test_value_and_debit_of_prime_are_those_of_the_rules(seed: int) -> None:
    rng = Random(seed)
    prices, book = price_list(rng), Book(balances(rng, *ASSET))
    value, debit, unbounded = twin_assets(book, prices, PARAMETERS)
    assert PRIME.evaluate(book, prices) == (value, debit, unbounded)
    statement = PRIME.statement(book, prices)
    assert statement[:3] == (value - debit, math.ceil(debit * Fraction("0.4")), math.ceil(debit * Fraction("0.25")))


def test_perpetuals_under_prime_cannot_be_priced() -> None:
    book = Book({0: 100}, {NUMBER["BTCUSDT-PERP"] << 2: Position(1, 0, 0, 0, 0)})
    prices = price_list(Random(1))
    assert PRIME.evaluate(book, prices) == (100, 0, True)
    (span,) = PRIME.bounds(book, prices, prices, [Guard(Ratio(1, 1), 0, inclusive=False)])
    # What it gains or loses is not known either way.
    assert span == (None, None)
    assert PRIME.refuses(DIRECTORY.instrument_by_name["BTCUSDT-PERP"]) == "prime margins no perpetuals"
    assert PRIME.refuses(DIRECTORY.instrument_by_name["BTCUSDT"]) == ""


@LAW
@given(SEEDS)
def test_what_a_model_reads_is_what_moves_it(seed: int) -> None:
    """Instruments on which a value does not depend do not move it; directions tell who is helped by a rise."""
    rng = Random(seed)
    for calculator in (PRIME, USDM):
        book = Book(balances(rng, *ASSET), positions(rng) if calculator is USDM else None)
        prices = [price or 5 for price in price_list(rng)]
        prices[0] = 1
        reads = list(calculator.depends_on(book))
        ways = calculator.directions(book)
        assert len(set(reads)) == len(reads)
        assert set(ways) == set(reads)
        before = calculator.evaluate(book, prices)
        for number in range(1, len(prices)):
            higher = list(prices)
            higher[number] = prices[number] * 3
            after = calculator.evaluate(book, higher)
            if number not in ways:
                assert after == before
            elif calculator is PRIME and ways[number] != 0:
                assert ways[number] * (after.value - before.value) >= 0
                assert ways[number] * (after.debit - before.debit) <= 0
            elif calculator is USDM and ways[number] != 0 and not any(key >> 2 == number for key in book.perpetuals):
                assert ways[number] * (after.value - before.value) >= 0
        for number, name in ((NUMBER[name], name) for name in INSTRUMENTS):
            routed = [DIRECTORY.assets[asset].name for asset in calculator.routed_through(number)]
            expected = [
                n
                for n, row in (PARAMETERS if calculator is PRIME else USDM_PARAMETERS)["assets"].items()
                if name in row["route"]
            ]
            assert routed == sorted(expected, key=lambda n: ASSET[n])
        assert list(calculator.routed_through(NUMBER["BTCUSDT-PERP"])) == []


def test_long_and_short_legs_of_one_instrument_may_go_either_way() -> None:
    key = NUMBER["BTCUSDT-PERP"] << 2
    long, short = Position(5, 0, 0, 0, 0), Position(-5, 0, 0, 0, 0)
    for held, way in (
        ([long], 1),
        ([short], -1),
        ([long, short], 0),
        ([short, long], 0),
        ([long, short, long], 0),
        ([short, short], -1),
    ):
        book = Book({}, {key | side: position for side, position in enumerate(held)})
        assert USDM.directions(book) == {NUMBER["BTCUSDT-PERP"]: way}
    for calculator in (PRIME, USDM):
        assert calculator.directions(Book({ASSET["BTC"]: 1})) == {NUMBER["BTCUSDT"]: 1}
        assert calculator.directions(Book({ASSET["BTC"]: -1})) == {NUMBER["BTCUSDT"]: -1}
    both = Book({ASSET["BTC"]: -1, ASSET["XMR"]: 1})
    assert PRIME.directions(both) == {NUMBER["BTCUSDT"]: 0, NUMBER["XMRBTC"]: 1}
    assert list(PRIME.depends_on(both)) == [NUMBER["BTCUSDT"], NUMBER["XMRBTC"]]


@LAW
@given(SEEDS)
def test_a_deposit_counts_at_face_as_far_as_it_repays_and_a_withdrawal_as_far_as_it_draws(seed: int) -> None:
    rng = Random(seed)
    prices, mark = price_list(rng), None
    for name in ("USDT", "BTC", "XMR"):
        before, delta = (rng.choice((-1, 0, 1)) * rng.randint(1, 10**9) for _ in range(2))
        mark = marks(prices)[name]
        keep = 1 - Fraction(PARAMETERS["assets"][name]["haircut"])
        unit = Fraction(mark * 100, 10 ** scale_of(name))
        owed, held = max(-before, 0), max(before, 0)
        face = min(delta, owed) if delta > 0 else -delta - min(-delta, held)
        expected = math.floor(face * unit) + math.floor((abs(delta) - face) * unit * keep)
        assert PRIME.credit(ASSET[name], before, delta, prices) == (None if mark == 0 else expected)
    assert PRIME.credit(ASSET["GEM"], 0, 5, prices) == 0
    # Calls of the time under another profile are paid under this one too.
    assert USDM.credit(ASSET["USDT"], 0, 5, prices) == 5
    assert USDM.credit(ASSET["GEM"], 0, 5, prices) == 0


def twin_sale(book: Book, prices: list[int], level: Fraction) -> list[SaleLeg]:
    """Return the sale of docs/rules.md under prime."""
    value, debit, _ = twin_assets(book, prices, PARAMETERS)
    gap = level * debit - value
    rows = []
    for name in PARAMETERS["assets"]:
        keep = 1 - Fraction(PARAMETERS["assets"][name]["haircut"])
        held = math.floor(Fraction(book.balances.get(ASSET[name], 0), 10 ** scale_of(name)) * marks(prices)[name] * 100)
        if held > 0:
            rows.append((-keep, ASSET[name], held))
    legs = []
    for minus, number, held in sorted(rows):
        if gap <= 0:
            break
        gain = level + minus
        if gain > 0:
            sold = min(math.ceil(gap / gain), held)
            legs.append(SaleLeg(number, sold))
            gap -= sold * gain
    return legs


@LAW
@given(SEEDS)
def test_a_sale_takes_the_lowest_haircut_first_until_the_gap_is_closed(seed: int) -> None:
    rng = Random(seed)
    prices, book = price_list(rng), Book(balances(rng, "USDT", "BTC", "ETH", "XMR"))
    for level in (Fraction("1.4"), Fraction(1), Fraction("0.9")):
        guard = Guard(Ratio(level.numerator, level.denominator), 0, inclusive=False)
        assert PRIME.sale(book, prices, guard) == twin_sale(book, prices, level)


# ---- brackets and perpetuals
# -------------------------------------------------------------------------------------------------


def twin_bracket(name: str, notional: Fraction) -> dict[str, Any]:
    return [row for row in TABLES[name] if Fraction(row["floor"]) <= notional][-1]


def twin_margin(name: str, notional: Fraction) -> int:
    """Return the maintenance margin in cents."""
    row = twin_bracket(name, notional)
    return max(math.ceil((notional * Fraction(row["maintenance_rate"]) - Fraction(row["maintenance_amount"])) * 100), 0)


def sizes(name: str, rng: Random) -> list[int]:
    """Return sizes around every edge, and any."""
    price_scale, quantity_scale, _ = PERPETUALS[name]
    unit = 10 ** (price_scale + quantity_scale)
    edges = [int(row["floor"]) * unit for row in TABLES[name]]
    return [size for edge in edges for size in (edge - 1, edge, edge + 1) if size >= 0] + [
        rng.randint(0, 300_000 * unit) for _ in range(5)
    ]


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_margins_are_those_of_the_published_formula_on_either_side_of_every_edge(seed: int) -> None:
    rng = Random(seed)
    for name, (price_scale, quantity_scale, _) in PERPETUALS.items():
        table = USDM.tables[NUMBER[name]]
        unit = 10 ** (price_scale + quantity_scale)
        for size in sizes(name, rng):
            notional = Fraction(size, unit)
            assert table.maintenance(size) == twin_margin(name, notional)
            assert TABLES[name][table.place(size)] is twin_bracket(name, notional)
            for leverage in (1, 20, 125):
                most = Fraction(twin_bracket(name, notional)["max_leverage"])
                allowed = min(most, leverage)
                assert table.allowed(size, leverage) == allowed * UNIT
                assert table.initial(size, leverage) == math.ceil(notional / allowed * 100)


def test_a_bracket_without_a_highest_leverage_allows_what_was_chosen() -> None:
    table = BracketTable([bracket("0", None, "0.01", "0")], DIRECTORY.instrument_by_name["BTCUSDT-PERP"])
    assert table.allowed(10**9, 125) == 125 * UNIT
    assert table.initial(100_000 * 100, 3) == math.ceil(Fraction(10_000, 3))


def twin_subaccount(book: Book, prices: list[int]) -> tuple[int, int, bool]:
    """Return equity, maintenance and whether something cannot be priced."""
    value, debit, unbounded = twin_assets(book, prices, USDM_PARAMETERS)
    equity, maintenance = value - debit, 0
    for name, (price_scale, quantity_scale, _) in PERPETUALS.items():
        for side in range(3):
            position = book.perpetuals.get(NUMBER[name] << 2 | side)
            price = prices[NUMBER[name]]
            if position is not None and price:
                worth = Fraction(position.quantity * price, 10 ** (price_scale + quantity_scale))
                equity += math.floor(worth * 100) - position.open_cost
                maintenance += twin_margin(name, abs(worth))
    return equity, maintenance, unbounded


@LAW
@given(SEEDS)
def test_equity_and_maintenance_of_a_subaccount_are_those_of_the_rules(seed: int) -> None:
    rng = Random(seed)
    prices, book = price_list(rng), Book(balances(rng, *ASSET), positions(rng))
    expected = twin_subaccount(book, prices)
    assert USDM.evaluate(book, prices) == expected
    initial = 0
    for name, (price_scale, quantity_scale, _) in PERPETUALS.items():
        for side in range(3):
            position = book.perpetuals.get(NUMBER[name] << 2 | side)
            if position is not None:
                worth = Fraction(abs(position.quantity) * prices[NUMBER[name]], 10 ** (price_scale + quantity_scale))
                most = Fraction(twin_bracket(name, worth)["max_leverage"])
                initial += math.ceil(worth / min(most, position.leverage or 20) * 100)
    assert USDM.statement(book, prices)[:3] == (expected[0], initial, expected[1])


def test_a_perpetual_without_a_table_cannot_be_priced() -> None:
    number = DIRECTORY.instrument_by_name["BTC-IN-ETH"].number
    book = Book(
        {0: 100}, {number << 2: Position(1, 0, 0, 0, 0), NUMBER["BTCUSDT-PERP"] << 2: Position(1000, 0, 0, 0, 1)}
    )
    prices = [1] + [4_000_000] * (len(DIRECTORY.instruments) - 1)
    assert USDM.evaluate(book, prices) == (100 + 4_000_000, 4_000_000 // 100 - 12_000, True)
    assert USDM.bounds(book, prices, prices, [Guard(Ratio(1, 1), 0, inclusive=True)] * 2) == [(None, None)] * 2
    assert USDM.statement(book, prices).initial == 4_000_000
    assert USDM.refuses(DIRECTORY.instrument_by_name["BTC-IN-ETH"]) == "it has no table of leverage brackets"
    assert USDM.refuses(DIRECTORY.instrument_by_name["BTCUSDT-PERP"]) == ""
    assert USDM.refuses(DIRECTORY.instrument_by_name["BTCUSDT"]) == "binance-usdm margins perpetuals only"


def twin_close(book: Book, prices: list[int], restore: Guard) -> list[SaleLeg]:
    """Return the sale of docs/rules.md in perpetuals: of each position the least that is enough, found one unit at a
    time from a near guess."""
    equity, maintenance, _ = twin_subaccount(book, prices)
    rows = []
    for key, position in book.perpetuals.items():
        name = DIRECTORY.instruments[key >> 2].name  # type: ignore[union-attr]
        price = prices[key >> 2]
        unit = 10 ** (PERPETUALS[name][0] + PERPETUALS[name][1])
        if price:
            rows.append(
                (-twin_margin(name, Fraction(abs(position.quantity) * price, unit)), key, position, name, price, unit)
            )
    legs = []
    for minus, key, position, name, price, unit in sorted(rows, key=lambda row: row[:2]):
        if restore.excess(equity, maintenance) >= 0:
            break
        held, others = abs(position.quantity), maintenance + minus

        def enough(
            closed: int, held: int = held, others: int = others, name: str = name, price: int = price, unit: int = unit
        ) -> bool:
            return restore.excess(equity, others + twin_margin(name, Fraction((held - closed) * price, unit))) >= 0

        closed = next((n for n in range(held + 1) if enough(n)), held)
        maintenance = others + twin_margin(name, Fraction((held - closed) * price, unit))
        amount = math.floor(Fraction(closed * price, unit) * 100)
        legs.append(SaleLeg(0, amount, key, -closed if position.quantity > 0 else closed))
    return legs


@pytest.mark.slow(reason="many random days, each folded several times")
@LAW
@given(SEEDS)
def test_of_each_position_the_least_is_closed_that_is_enough(seed: int) -> None:
    rng = Random(seed)
    prices = price_list(rng)
    held = {key: position for key, position in positions(rng).items() if abs(position.quantity) <= 2_000}
    book = Book({0: rng.choice((-1, 1)) * rng.randint(0, 400_000)}, held)
    for inclusive in (True, False):
        restore = Guard(Ratio(125, 100), 0, inclusive)
        assert USDM.sale(book, prices, restore) == twin_close(book, prices, restore)


# ---- bounds
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow(reason="many random days, each folded several times")
@settings(max_examples=250, deadline=None)
@given(SEEDS)
def test_every_evaluation_of_a_subaccount_inside_lies_within_the_bounds(seed: int) -> None:
    """Also next to every edge between brackets, where the excess may be greatest; and the bounds are no wider than
    rounding explains."""
    rng = Random(seed)
    book = Book(balances(rng, "USDT", "BTC"), positions(rng))
    middle = [price or 7 for price in price_list(rng)]
    middle[0] = 1
    lowest, highest = [1], [1]
    for price in middle[1:]:
        low = price * rng.choice((0, 50, 99, 100)) // 100
        lowest.append(low)
        highest.append(max(low, price * rng.choice((100, 100, 101, 150, 400)) // 100))
    guards = [
        Guard(rng.choice(RATIOS), rng.choice((0, 0, rng.randint(-500, 500))), rng.random() < 0.5) for _ in range(4)
    ]
    spans = USDM.bounds(book, lowest, highest, guards)
    opened = [NO_BOUND if rng.randrange(4) == 0 else high for high in highest]
    opened[0] = 1
    wider = USDM.bounds(book, lowest, opened, guards)
    corners = [lowest, highest, middle, *(random_corner(rng, book, lowest, highest) for _ in range(25))]
    for prices in corners:
        inside = [max(price, 1) for price in prices]
        if all(low <= price <= high for low, price, high in zip(lowest, inside, highest, strict=True)):
            value, debit, _ = USDM.evaluate(book, inside)
            for guard, (least, greatest), (wide_least, wide_greatest) in zip(guards, spans, wider, strict=True):
                excess = guard.excess(value, debit)
                assert least is not None
                assert greatest is not None
                assert least <= excess <= greatest
                assert wide_least is None or wide_least <= excess
                assert wide_greatest is None or excess <= wide_greatest


def random_corner(rng: Random, book: Book, lowest: list[int], highest: list[int]) -> list[int]:
    """Return prices inside: each at an end, anywhere, or where a position goes from one bracket to the next."""
    found = []
    for number, (low, high) in enumerate(zip(lowest, highest, strict=True)):
        price = rng.choice((low, high, rng.randint(low, high)))
        keys = [key for key in book.perpetuals if key >> 2 == number]
        if keys and rng.randrange(2):
            size = abs(book.perpetuals[rng.choice(keys)].quantity)
            edge = rng.choice(USDM.tables[number].edges)
            price = min(max(edge // size + rng.choice((-1, 0, 1)), low), high)
        found.append(price)
    return found


@LAW
@given(SEEDS)
def test_bounds_at_one_price_are_the_excess_there(seed: int) -> None:
    rng = Random(seed)
    prices = [price or 7 for price in price_list(rng)]
    prices[0] = 1
    for calculator in (PRIME, USDM):
        book = Book(balances(rng, "USDT", "BTC"), positions(rng) if calculator is USDM else None)
        value, debit, _ = calculator.evaluate(book, prices)
        for ratio in RATIOS:
            for inclusive in (True, False):
                guard = Guard(ratio, rng.choice((0, 0, 7, -7, 10**6)), inclusive)
                (span,) = calculator.bounds(book, prices, prices, [guard])
                excess = guard.excess(value, debit)
                assert span == (excess, excess) or (calculator is USDM and debit == 0 and excess <= span[1] <= 0)  # type: ignore[operator]
                assert guard_state_of(span) is (GuardState.TRUE if excess < 0 else GuardState.FALSE) or debit == 0


@LAW
@given(SEEDS)
def test_bounds_of_one_position_are_reached_but_for_rounding(seed: int) -> None:
    """They are as narrow as can be: less than one unit of profit and one of margin from what some price gives."""
    rng = Random(seed)
    name = rng.choice(sorted(PERPETUALS))
    number = NUMBER[name]
    (price_scale, quantity_scale, usual), side = PERPETUALS[name], rng.choice((1, -1))
    quantity = max(1, rng.choice((500, 20_000, 60_000, 150_000)) * 10 ** (price_scale + quantity_scale) // usual)
    book = Book({0: 1000}, {number << 2: Position(side * quantity, side * 777, 0, 0, 0)})
    low, high = usual * rng.randint(10, 90) // 100, usual * rng.randint(100, 700) // 100
    ratio = rng.choice((Ratio(125, 100), Ratio(1, 1), Ratio(3, 1), Ratio(30, 1)))
    guard = Guard(ratio, rng.choice((0, 300)), inclusive=False)
    ends = [[1] + [low] * (len(DIRECTORY.instruments) - 1), [1] + [high] * (len(DIRECTORY.instruments) - 1)]
    (span,) = USDM.bounds(book, ends[0], ends[1], [guard])
    edges = [edge // quantity + more for edge in USDM.tables[number].edges for more in (0, 1)]
    found = []
    for price in (low, high, *(edge for edge in edges if low <= edge <= high)):
        value, debit, _ = USDM.evaluate(book, [1] + [price] * (len(ends[0]) - 1))
        found.append(guard.excess(value, debit))
    slack = 2 * (ratio.numerator + ratio.denominator)
    assert min(found) - slack <= span[0] <= min(found)  # type: ignore[operator]
    assert max(found) <= span[1] <= max(found) + slack  # type: ignore[operator]
    (opened,) = USDM.bounds(book, ends[0], [1] + [NO_BOUND] * (len(ends[0]) - 1), [guard])
    # Nothing bounds a short from below, nor a long whose margin grows slower than its profit from above.
    steep = ratio.numerator * Fraction(TABLES[name][-1]["maintenance_rate"]) > ratio.denominator
    assert (opened[0] is None) is (side < 0 or steep)
    assert (opened[1] is None) is (side > 0 and not steep)


def test_what_cannot_be_priced_leaves_bounds_open_on_its_side_alone() -> None:
    guard = Guard(Ratio(14, 10), 0, inclusive=False)
    prices = [1] + [100] * (len(DIRECTORY.instruments) - 1)
    never = [1] + [NO_BOUND] * (len(DIRECTORY.instruments) - 1)
    for calculator in (PRIME, USDM):
        # Owed, and not named by the profile: no least excess. Held so: nothing at all.
        owed, held = Book({ASSET["GEM"]: -1, ASSET["USDT"]: 700}), Book({ASSET["GEM"]: 1, ASSET["USDT"]: 700})
        assert calculator.bounds(owed, prices, prices, [guard]) == [(None, 7000)]
        assert calculator.bounds(held, prices, prices, [guard]) == [(7000, 7000)]
        # Never marked: held it has no greatest excess, owed no least.
        for balance, open_at in ((1, 1), (-1, 0)):
            (span,) = calculator.bounds(
                Book({ASSET["BTC"]: balance, ASSET["USDT"]: 700}), [1] + [0] * (len(prices) - 1), never, [guard]
            )
            assert span[open_at] is None
            # A price is at least one unit under binance-usdm, so what is owed costs at least one minor unit.
            assert span[1 - open_at] == (6990 if calculator is USDM and balance < 0 else 7000)
    for haircut, greatest in (("0.99", None), ("1", 7000)):
        assets = {**PARAMETERS["assets"], "BTC": {"haircut": haircut, "route": ["BTCUSDT"]}}
        for model in ("prime", "binance-usdm"):
            calculator = compiled(model, assets=assets)[1]
            (span,) = calculator.bounds(
                Book({ASSET["BTC"]: 1, ASSET["USDT"]: 700}), [1] + [0] * (len(prices) - 1), never, [guard]
            )
            assert span == (7000, greatest)


def test_without_a_debit_a_guard_holds_back_whatever_its_offset() -> None:
    guards = [Guard(Ratio(14, 10), 10**6, inclusive) for inclusive in (True, False)]
    prices = [1] + [0] * (len(DIRECTORY.instruments) - 1)
    for calculator in (PRIME, USDM):
        for units in (0, 1, 5):
            book = Book({0: units} if units else {})
            assert calculator.bounds(book, prices, prices, guards) == [(0, 0), (0, 0)]
    assert PRIME.bounds(Book({0: -1}), prices, prices, guards[:1]) == [(-14 - 10**7 - 1,) * 2]
    assert USDM.bounds(Book({0: -1}), prices, prices, guards[:1]) == [(-10 - 10**7 - 1,) * 2]


def test_a_guess_of_reach_is_a_share_of_what_could_move() -> None:
    """Guesses decide nothing, but a wild one costs time: at 1.5 times the debit, a guard at 1.25 is a tenth of the
    swing away."""
    guards = [Guard(Ratio(125, 100), 0, inclusive=False), Guard(Ratio(2, 1), 0, inclusive=False)]
    prices = [1] + [1_000_000] * (len(DIRECTORY.instruments) - 1)
    book = Book({ASSET["BTC"]: 10**8 * 3 // 2, ASSET["USDT"]: -900_000})
    figures = PRIME.evaluate(book, prices)
    assert figures == (1_350_000, 900_000, False)
    against, favourable = PRIME.reach(book, prices, guards, [GuardState.FALSE, GuardState.TRUE], figures)
    share = 1 << 20
    assert (
        share * (1_350_000 - 1_125_000) // 1_350_000 * 99 // 100
        < against
        <= share * (1_350_000 - 1_125_000) // 1_350_000
    )
    assert (
        share * (1_800_000 - 1_350_000) // 1_350_000 * 99 // 100
        < favourable
        <= share * (1_800_000 - 1_350_000) // 1_350_000
    )
    assert PRIME.reach(
        Book({0: 5}), prices, guards, [GuardState.FALSE, GuardState.FALSE], PRIME.evaluate(Book({0: 5}), prices)
    ) == (
        NO_LIMIT,
        NO_LIMIT,
    )
    assert isinstance(PRIME, PrimeCalculator)
    assert isinstance(USDM, UsdmCalculator)
