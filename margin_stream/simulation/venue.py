"""What the venue and its clients do on a simulated day: perpetuals are traded, and what is due for liquidation is
closed.

The engine states `liquidation_due` and places no order; here somebody does. All of it is decided from the folds' state at
a clock, so equal days and seeds give equal trades. Fees and sizes are illustrative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from random import Random

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.accounts.position import SIDES, Position, notional, split_key
from margin_stream.core.accounts.subaccount import Level, Subaccount
from margin_stream.core.margin.brackets import UNIT
from margin_stream.core.margin.model import Profile
from margin_stream.core.market.market import Market
from margin_stream.schemas.decimals import canonical
from margin_stream.schemas.effects import AnyEffect, LiquidationDue
from margin_stream.schemas.inputs import PositionChanged
from margin_stream.simulation.perpetual_books import LEVERAGES, USDM

TRADE_FEE = 4
LIQUIDATION_FEE = 5
"""Of the notional, in ten-thousandths; illustrative."""
ONE_IN = 2000
"""So many accounts trade at each clock."""


class Venue:
    """Trades and liquidations in perpetuals of one simulated day."""

    def __init__(self, source: str, seed: int, *, accounts: Sequence[str] = (), largest_trade: int = 0) -> None:
        """
        Args:
            source: of its trades, numbered from 1.
            seed: of the trades of clients.
            accounts: those under ``binance-usdm`` that trade.
            largest_trade: largest notional of a trade, whole units of the base currency; 0 for a day without trades.
        """
        self._source = source
        self._rng = Random(f"venue/{seed}")
        self._accounts = accounts
        self._largest = largest_trade
        self._due: dict[tuple[str, str], None] = {}
        self._numbers = count(1)

    def note(self, effect: AnyEffect) -> None:
        """Take note of an effect: what is due for liquidation."""
        if isinstance(effect, LiquidationDue):
            self._due[effect.account, effect.isolated] = None

    def act(self, fold: AccountFold, now_ns: int) -> Iterator[PositionChanged]:
        """Yield the trades at a clock: liquidations first, then those of clients.

        Args:
            fold: of all accounts, folded up to this clock.
            now_ns: the clock.
        """
        yield from self._liquidations(fold, now_ns)
        if self._largest:
            yield from self._trades(fold, now_ns)

    def _liquidations(self, fold: AccountFold, now_ns: int) -> Iterator[PositionChanged]:
        """Close what is due: an isolated subaccount whole, of cross what brings it back to the restore level and pays
        the fee."""
        market = fold.market
        for name, isolated in sorted(self._due):
            account = fold.account(name)
            assert account is not None
            profile = market.profiles.get(account.profile)
            subaccount = account.isolated.get(isolated) if isolated else account.cross
            if (
                profile is None
                or profile.name != USDM
                or subaccount is None
                or not subaccount.liquidating
                or not subaccount.perpetuals
            ):
                del self._due[name, isolated]
                continue
            left = max(profile.calculator.evaluate(subaccount, market.prices).value, 0)
            for key, quantity in _closing(profile, market, subaccount):
                # The fee takes no more than the equity that is left.
                fee = min(_fee(market, key, quantity, LIQUIDATION_FEE), left)
                left -= fee
                yield self._trade(market, account, isolated, key, quantity, now_ns, fee, reason="liquidation")

    def _trades(self, fold: AccountFold, now_ns: int) -> Iterator[PositionChanged]:
        """Yield the trades of clients; one whose margin the venue would refuse is not sent."""
        rng = self._rng
        whole, rest = divmod(len(self._accounts), ONE_IN)
        for _ in range(whole + (rng.randrange(ONE_IN) < rest)):
            account = fold.account(rng.choice(self._accounts))
            # Always as many draws, so that one account's trouble does not change the trades of the others.
            draws = Random(rng.getrandbits(64))
            assert account is not None
            profile = fold.market.profiles[account.profile]
            if any(part.level is not Level.HEALTHY or part.liquidating for part in account.subaccounts()):
                continue
            if account.cross.perpetuals and draws.randrange(2):
                key, position = draws.choice(sorted(account.cross.perpetuals.items()))
                part = max(1, abs(position.quantity) * draws.randint(25, 100) // 100)
                quantity = -part if position.quantity > 0 else part
                yield self._trade(
                    fold.market, account, "", key, quantity, now_ns, _fee(fold.market, key, quantity, TRADE_FEE)
                )
            else:
                yield from self._opened(fold.market, account, profile, draws, now_ns)

    def _opened(
        self, market: Market, account: Account, profile: Profile, draws: Random, now_ns: int
    ) -> Iterator[PositionChanged]:
        calculator = profile.calculator
        if not calculator.tables:
            return
        table = calculator.tables[draws.choice(sorted(calculator.tables))]
        instrument = market.directory.instruments[table.number]
        assert instrument is not None
        price = market.prices[table.number]
        worth, leverage, way = draws.randrange(50, self._largest), draws.choice(LEVERAGES), draws.choice((-1, 1))
        isolated = draws.randrange(5) == 0 and instrument.name not in account.isolated
        size = worth * 10**table.size_scale
        leverage = min(leverage, table.allowed(size, leverage) // UNIT)
        equity, initial, *_ = calculator.statement(account.cross, market.prices)
        cents = worth * 10**instrument.currency.scale
        free = min(equity - initial, account.cross.balances.get(calculator.base, 0))
        if not price or free < 2 * (cents // leverage):
            return
        quantity = way * max(1, size // price)
        hedged = any(split_key(key)[1] for key in account.cross.perpetuals)
        side = (1 if way > 0 else 2) if hedged and not isolated else 0
        margin = -(-worth // leverage) if isolated else 0
        subaccount = instrument.name if isolated else ""
        key = table.number << 2 | side
        fee = _fee(market, key, quantity, TRADE_FEE)
        yield self._trade(market, account, subaccount, key, quantity, now_ns, fee, margin=margin, leverage=leverage)

    def _trade(
        self,
        market: Market,
        account: Account,
        subaccount: str,
        key: int,
        quantity: int,
        now_ns: int,
        fee: int,
        *,
        margin: int = 0,
        leverage: int = 0,
        reason: str = "trade",
    ) -> PositionChanged:
        number, side = split_key(key)
        instrument = market.directory.instruments[number]
        assert instrument is not None
        return PositionChanged(
            source=self._source,
            source_seq=next(self._numbers),
            event_time=now_ns,
            account=account.id,
            instrument=instrument.name,
            quantity_delta=canonical(quantity, -instrument.quantity_scale),
            price=canonical(market.prices[number], -instrument.price_scale),
            fee=canonical(fee, -instrument.currency.scale),
            reason=reason,
            isolated=subaccount,
            position_side=SIDES[side],
            isolated_margin_delta=canonical(margin, 0),
            leverage=leverage,
        )


def _closing(profile: Profile, market: Market, subaccount: Subaccount) -> list[tuple[int, int]]:
    """Return (key, quantity of the closing trade) of what is closed."""
    if subaccount.name:
        return [(key, -position.quantity) for key, position in sorted(subaccount.perpetuals.items())]
    legs = profile.calculator.sale(subaccount, market.prices, profile.policy.restore)
    # The fee takes equity: a tenth more is closed, as far as it is held.
    return [(leg.key, _more(leg.quantity, subaccount.perpetuals[leg.key])) for leg in legs if leg.quantity]


def _more(quantity: int, position: Position) -> int:
    wanted = min(abs(quantity) + abs(quantity) // 10 + 1, abs(position.quantity))
    return wanted if quantity > 0 else -wanted


def _fee(market: Market, key: int, quantity: int, share: int) -> int:
    """Return a share (ten-thousandths) of the notional at the mark, in minor units of the settlement currency, rounded
    down."""
    number, _ = split_key(key)
    instrument = market.directory.instruments[number]
    assert instrument is not None
    shift = instrument.currency.scale - instrument.quantity_scale - instrument.price_scale
    return notional(abs(quantity) * market.prices[number] * share, shift) // 10_000
