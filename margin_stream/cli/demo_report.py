"""What ``demo`` reports of a day: counts by margin profile, and one liquidated isolated subaccount worked out from the
store's own figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from margin_stream import views
from margin_stream.schemas.decimals import format_decimal
from margin_stream.schemas.inputs import AccountOpened, AnyInput, PositionChanged, ProfileActivated
from margin_stream.schemas.times import format_time
from margin_stream.views.source import Until

LOWERED = "liquidation_due_lowered"
ISOLATED = "liquidation_due_isolated"
ROWS = {
    "margin_warned": ("margin_warned", "fell to the warning level"),
    "margin_call_issued": ("margin_call_issued", "called for collateral"),
    "call_reduced": ("call_reduced", "paid in part"),
    "call_met": ("call_met", "paid in full"),
    "call_cured": ("call_cured", "resolved by price move"),
    "call_expired": ("call_expired", "not paid in time"),
    "liquidation_due": ("liquidation_due", "a liquidation request"),
    LOWERED: ("  lowering an earlier one", "less is needed by now"),
    ISOLATED: ("  of an isolated subaccount", "the rest of the account is left alone"),
}
"""What is counted: name and meaning as they are shown."""


@dataclass(slots=True)
class Inputs:
    """What the report needs to know of the inputs; in a new store the n-th input has sequence number n."""

    count: int = 0
    profile_of: dict[str, str] = field(default_factory=dict)
    """Account -> margin profile."""
    brackets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Perpetual -> leverage brackets, as last activated."""
    closings: dict[tuple[str, str], list[tuple[int, PositionChanged]]] = field(default_factory=dict)
    """(account, subaccount) -> liquidating trades with their sequence numbers."""

    def note(self, event: AnyInput) -> None:
        """Take note of the next input."""
        self.count += 1
        if isinstance(event, AccountOpened):
            self.profile_of[event.account] = event.profile
        elif isinstance(event, ProfileActivated):
            self.brackets |= event.parameters.get("brackets", {})
        elif isinstance(event, PositionChanged) and event.reason == "liquidation":
            self.closings.setdefault((event.account, event.isolated), []).append((self.count, event))

    def members(self) -> Counter[str]:
        """Return how many accounts each profile has."""
        return Counter(self.profile_of.values())


def by_profile(inputs: Inputs, effects: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, by profile: ``accounts``, and of each row of ROWS ``times`` and how many ``accounts`` it befell."""
    times: Counter[tuple[str, str]] = Counter()
    befell: dict[tuple[str, str], set[str]] = {}
    for effect in effects:
        account = effect.get("account")
        if account is None:
            continue
        kinds = [effect["type"]]
        if effect["type"] == "liquidation_due":
            kinds += [LOWERED] * bool(effect.get("supersedes")) + [ISOLATED] * bool(effect.get("isolated"))
        for kind in kinds:
            key = inputs.profile_of[account], kind
            times[key] += 1
            befell.setdefault(key, set()).add(account)
    return {
        profile: {
            "accounts": members,
            **{
                kind: {"times": times[profile, kind], "accounts": len(befell.get((profile, kind), ()))} for kind in ROWS
            },
        }
        for profile, members in sorted(inputs.members().items(), key=lambda row: (-row[1], row[0]))
    }


def profile_lines(counts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the counts as a table: how often, and in parentheses how many accounts it befell."""
    cells = [["", *counts, ""], ["accounts", *(f"{row['accounts']:,}" for row in counts.values()), ""]]
    for kind, (shown, meaning) in ROWS.items():
        found = [row[kind] for row in counts.values()]
        if any(one["times"] for one in found):
            cells.append(
                [shown, *(f"{one['times']:,} ({one['accounts']:,})" if one["times"] else "-" for one in found), meaning]
            )
    widths = [max(len(row[n]) for row in cells) for n in range(len(counts) + 1)]
    for name, *figures, meaning in cells:
        line = "   ".join(
            [
                name.ljust(widths[0]),
                *(text.rjust(width) for text, width in zip(figures, widths[1:], strict=True)),
                meaning,
            ]
        )
        yield f"   {line}".rstrip()
    yield "   In parentheses: how many accounts."


def largest_isolated(effects: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the first liquidation request of the isolated subaccount that was to be closed for most, or None."""
    found = [
        effect
        for effect in effects
        if effect["type"] == "liquidation_due" and effect.get("isolated") and not effect.get("supersedes")
    ]
    return max(found, key=lambda effect: (Decimal(effect["amount"]), -effect["sequence"]), default=None)


def explain(store: Path, due: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    """Return why an isolated subaccount is due for liquidation, and what became of it.

    Args:
        store: in a folder.
        due: its ``liquidation_due``, as a mapping.
        inputs: of the store.
    """
    account, subaccount = due["account"], due["isolated"]
    state = views.account_state(store, account, Until(sequence=due["sequence"]))
    found = next(row for row in state["subaccounts"] if row["subaccount"] == subaccount)
    positions = [
        {**row, **_margin(row, inputs.brackets[row["instrument"]])}
        for row in found["positions"]
        if Decimal(row["quantity"])
    ]
    facts = {
        "account": account,
        "subaccount": subaccount,
        "currency": due["currency"],
        "at": due["at"],
        "sequence": due["sequence"],
        "money": f"{_money(found, state['base_currency']):f}",
        "positions": positions,
        "equity": found["equity"],
        "maintenance_margin": found["requirement"],
        "demanded": due["amount"],
        "legs": due["legs"],
    }
    closings = [
        (sequence, event)
        for sequence, event in inputs.closings.get((account, subaccount), ())
        if sequence > due["sequence"]
    ]
    if closings:
        facts["closed"] = _closed(store, account, subaccount, state["base_currency"], closings[: len(positions)])
    return facts


def _margin(position: Mapping[str, Any], table: list[dict[str, Any]]) -> dict[str, Any]:
    """Return notional and bracket of a position at its mark."""
    notional = abs(Decimal(position["quantity"]) * Decimal(position["mark"]))
    rows = [msgspec.to_builtins(row) for row in table]
    number = max(n for n, row in enumerate(rows) if Decimal(row["floor"]) <= notional)
    return {
        "notional": f"{notional.normalize():f}",
        "bracket": number + 1,
        **{key: rows[number][key] for key in _BRACKET},
    }


_BRACKET = ("floor", "cap", "maintenance_rate", "maintenance_amount")


def _closed(
    store: Path, account: str, subaccount: str, currency: str, trades: list[tuple[int, PositionChanged]]
) -> dict[str, Any]:
    """Return how the subaccount was closed, and what came to cross; or, of one that stays, what it owes."""
    last, event = trades[-1]
    # One item earlier cross does not have the subaccount's money yet.
    states = [views.account_state(store, account, Until(sequence=sequence)) for sequence in (last - 1, last)]
    found = next((row for row in states[1]["subaccounts"] if row["subaccount"] == subaccount), None)
    return {
        "at": format_time(event.event_time),
        "trades": [
            {
                "instrument": one.instrument,
                "quantity": format_decimal(one.quantity_delta),
                "price": format_decimal(one.price),
                "fee": format_decimal(one.fee),
            }
            for _, one in trades
        ],
        "ended": found is None,
        "to_cross": f"{_money(states[1], currency) - _money(states[0], currency):f}" if found is None else None,
        "owed": None if found is None else f"{max(-_money(found, currency), Decimal(0)):f}",
    }


def _money(portfolio: Mapping[str, Any], currency: str) -> Decimal:
    return next((Decimal(row["amount"]) for row in portfolio["balances"] if row["asset"] == currency), Decimal(0))


def explanation_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what ``explain`` found, in lines for people."""
    currency = facts["currency"]
    what = f"{facts['account']}, isolated subaccount {facts['subaccount']}"
    yield f"{what}, at {facts['at']} (sequence number {facts['sequence']:,}):"
    rows: list[tuple[str, str]] = []
    profits = []
    for row in facts["positions"]:
        quantity = Decimal(row["quantity"])
        entry = abs(Decimal(row["open_cost"]) / quantity)
        places = len(row["mark"].partition(".")[2])
        way = "long" if quantity > 0 else "short"
        rows += [
            (
                "position",
                f"{way} {_grouped(abs(quantity))} {row['instrument']}, entered at {entry:,.{places}f}, leverage "
                f"{row['leverage'] or 'by default'}",
            ),
            ("mark", _grouped(row["mark"])),
            (
                "profit so far",
                f"{_grouped(quantity)} x {_grouped(row['mark'])} - {_cost(row['open_cost'])} = "
                f"{_grouped(row['unrealised'])}",
            ),
        ]
        profits.append(row["unrealised"])
    sum_of = " ".join(f"{'-' if text.startswith('-') else '+'} {_grouped(text.lstrip('-'))}" for text in profits)
    rows.append(
        (
            "equity",
            f"{_grouped(facts['money'])} money in the subaccount {sum_of} = {_grouped(facts['equity'])} {currency}",
        )
    )
    for row in facts["positions"]:
        upper = "no end" if row["cap"] is None else _grouped(row["cap"])
        rows.append(
            (
                "leverage bracket",
                f"{row['bracket']}: notional {_grouped(row['notional'])} lies in {_grouped(row['floor'])} to {upper}: "
                f"rate {row['maintenance_rate']}, amount {_grouped(row['maintenance_amount'])}",
            )
        )
    parts = " + ".join(
        f"{_grouped(row['notional'])} x {row['maintenance_rate']} - {_grouped(row['maintenance_amount'])}"
        for row in facts["positions"]
    )
    rows.append(("maintenance margin", f"{parts} = {_grouped(facts['maintenance_margin'])} {currency}, rounded up"))
    rows.append(
        (
            "rule",
            f"equity <= maintenance margin: {_grouped(facts['equity'])} <= {_grouped(facts['maintenance_margin'])}",
        )
    )
    legs = ", ".join(f"{_grouped(leg['quantity'].lstrip('-'))} {leg['asset']}" for leg in facts["legs"])
    rows.append(("liquidation request", f"close at least {legs} ({_grouped(facts['demanded'])} {currency})"))
    if "closed" in facts:
        closed = facts["closed"]
        trades = ", ".join(
            f"{_grouped(one['quantity'])} {one['instrument']} at {_grouped(one['price'])}, fee "
            f"{Decimal(one['fee']):,.2f} {currency}"
            for one in closed["trades"]
        )
        rows.append(("closed (simulated)", f"at {closed['at']}: {trades}"))
        if closed["ended"]:
            rows.append(("left of it", f"{_grouped(closed['to_cross'])} {currency} were moved to the cross subaccount"))
        else:
            rows.append(
                (
                    "left of it",
                    f"nothing: the subaccount owes {_grouped(closed['owed'])} {currency}, which an insurance fund "
                    f"would bear",
                )
            )
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {name.ljust(width)}  {text}"


def _grouped(number: str | Decimal) -> str:
    """Return a number with its thousands apart."""
    return f"{Decimal(number):,f}"


def _cost(text: str) -> str:
    return f"({_grouped(text)})" if text.startswith("-") else _grouped(text)
