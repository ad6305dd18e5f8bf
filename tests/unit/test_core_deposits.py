"""Deposits that pay nothing: they change the balance, and nothing of them is remembered."""

from __future__ import annotations

import pytest

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day


@pytest.mark.parametrize(
    ("asset", "amount", "call"),
    [("XMR", "3", ""), ("XMR", "-3", "A/call/1"), ("XMR", "0", ""), ("BTC", "1", ""), ("USDT", "-5", "")],
)
def test_money_of_an_account_without_calls_is_not_kept_waiting(asset: str, amount: str, call: str) -> None:
    day = Day().opened(prices=False)
    day.tick("BTCUSDT", "40000")
    day.account("A")
    day.money("A", amount, asset, **({"call": call} if call else {}))
    system = StoreFold(1, rules_version=LATEST)
    for line in day.lines:
        system.admission.line(line)
    system.fold()
    account = system.accounts[0].account("A")
    assert account is not None
    assert account.cross.pending_deposits == []
    assert account.cross.calls == []
    assert account.effect_count == (1 if amount == "-5" else 0)
