"""The simulated venue: what it closes, for what fee, and whose trades it takes."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.subaccount import Level
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.binary import canonical_bytes
from margin_stream.schemas.decimals import DecimalPair
from margin_stream.schemas.effects import decode_effect
from margin_stream.schemas.inputs import PositionChanged
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.simulation.venue import Venue
from tests.usdm_days import UsdmDay

BTC = "BTCUSDT-PERP"


def number(pair: DecimalPair) -> Decimal:
    return Decimal(pair[0]).scaleb(pair[1])


class Floor:
    """A venue and the folds that it looks at; account U has 5,000 and a long of 0.5 BTC at 40,000."""

    def __init__(self, *, margin: str = "", traders: Sequence[str] = ()) -> None:
        self.day = UsdmDay()
        self.day.opened()
        self.day.usdm_account("U", "5000" if margin else "1000")
        more = {"isolated": BTC, "isolated_margin_delta": margin} if margin else {}
        self.day.perpetual("U", BTC, "0.5", "40000.00", leverage=20, **more)
        self.system = StoreFold(1, rules_version=LATEST)
        self.venue = Venue("venue", 1, accounts=traders, largest_trade=5000 if traders else 0)
        self.sent = 0

    def fall_to(self, price: str) -> None:
        self.day.tick(BTC, price)
        self.day.clock(1)

    def act(self) -> list[PositionChanged]:
        """Fold what there is, and let the venue act once."""
        for line in self.day.lines[self.sent :]:
            self.system.admission.line(line)
        self.sent = len(self.day.lines)
        for part in self.system.fold()[1:]:
            for row in part:
                self.venue.note(decode_effect(row.data))
        trades = list(self.venue.act(self.system.accounts[0], self.day.now_ns))
        for trade in trades:
            assert self.system.intake.offer(trade, canonical_bytes(trade)).value == "accepted"
        for part in self.system.fold()[1:]:
            for row in part:
                self.venue.note(decode_effect(row.data))
        return trades

    @property
    def account(self) -> Account:
        found = self.system.accounts[0].account("U")
        assert found is not None
        return found


@pytest.mark.parametrize(
    ("price", "fee", "left"),
    [
        ("38050.00", "9.51", 1549),  # Equity 25.00; a fee of 0.05 % of 19,025.00.
        ("38010.00", "5.00", 0),  # The fee would be 9.50, and 5.00 are left.
        ("37990.00", "0.00", -500),
    ],
)
def test_an_isolated_subaccount_is_closed_whole_and_pays_no_more_than_it_has(price: str, fee: str, left: int) -> None:
    floor = Floor(margin="1000")
    assert floor.act() == []
    cross = dict(floor.account.cross.balances)
    floor.fall_to(price)
    (trade,) = floor.act()
    assert (number(trade.quantity_delta), number(trade.price), number(trade.fee)) == (
        Decimal("-0.5"),
        Decimal(price),
        Decimal(fee),
    )
    assert (trade.isolated, trade.reason, trade.position_side) == (BTC, "liquidation", "both")
    (base,) = cross
    if left >= 0:
        assert floor.account.isolated == {}
        assert floor.account.cross.balances[base] - cross[base] == left
    else:
        assert floor.account.isolated[BTC].balances == {base: left}
        assert floor.account.cross.balances == cross
    assert floor.act() == []


def test_cross_is_closed_as_far_as_it_must_and_is_healthy_then() -> None:
    floor = Floor()
    floor.fall_to("38150.00")
    trades = floor.act()
    assert trades
    assert -Decimal("0.5") < sum(number(trade.quantity_delta) for trade in trades) < 0
    for _ in range(5):
        trades += floor.act()
    assert not floor.account.cross.liquidating
    assert floor.account.cross.level is Level.HEALTHY
    (position,) = floor.account.cross.perpetuals.values()
    assert 0 < position.quantity < 500
    assert [trade.source_seq for trade in trades] == list(range(1, len(trades) + 1))


def test_clients_in_trouble_do_not_trade_and_others_keep_to_their_margin() -> None:
    floor = Floor(traders=["U"])
    trades = [trade for _ in range(20_000) for trade in floor.act()]
    assert trades
    assert {trade.reason for trade in trades} == {"trade"}
    assert floor.account.cross.level is Level.HEALTHY
    profile = floor.system.accounts[0].market.profiles["binance-usdm"]
    equity, initial, *_ = profile.calculator.statement(floor.account.cross, floor.system.accounts[0].market.prices)
    assert initial <= equity
    floor.fall_to("36500.00")
    floor.venue = Venue("another", 1, accounts=["U"], largest_trade=5000)
    floor.system.accounts[0].account("U").cross.level = Level.WARNING  # type: ignore[union-attr]
    assert [trade for _ in range(8_000) for trade in floor.venue.act(floor.system.accounts[0], 1)] == []
