"""Accounts, positions and collateral: a file states what is, and what differs from the store is booked.

Differences are taken at one sequence number N, which is part of the source (``positions@<hash>#N``); an event's number
is that of its row. So an import that was cut off sends the same again, and a later one is another.
"""

from __future__ import annotations

from collections import Counter

from margin_stream.importers.own_data.accounts import account_changes
from margin_stream.importers.own_data.collateral import collateral_movements
from margin_stream.importers.own_data.directory import Listings
from margin_stream.importers.own_data.forms import Row, Rows
from margin_stream.importers.own_data.plan import Plan
from margin_stream.importers.own_data.positions import position_trades
from margin_stream.importers.own_data.snapshot import Moved, Snapshot
from margin_stream.schemas.decimals import format_scaled, whole
from margin_stream.schemas.inputs import (
    AnyInput,
    ClockTicked,
    CollateralMoved,
)


def plan_of(rows: Rows, snapshot: Snapshot, listings: Listings, collateral: Rows | None = None) -> Plan:
    """Return what a file of accounts, positions or collateral books.

    Args:
        rows: of the files.
        snapshot: what they are compared with.
        listings: takes the instruments that are new.
        collateral: beside positions, the balances of the same moment. What an account gains comes before its trades and
            what it loses after them, so that it is never poorer on the way than before or after.
    """
    plan = Plan(snapshot.source)
    if rows.kind != "accounts" and snapshot.at_ns > snapshot.clock_ns:
        plan.add(
            ClockTicked(source=f"{snapshot.source}/clock", source_seq=1, event_time=snapshot.at_ns, time=snapshot.at_ns)
        )
    moved: Moved = Counter()
    gains: list[tuple[AnyInput, Row | None]] = []
    losses: list[tuple[AnyInput, Row | None]] = []
    if rows.kind == "accounts":
        booked = list(account_changes(rows, snapshot, plan))
    elif rows.kind == "collateral":
        booked = list(collateral_movements(rows, snapshot, plan, moved, snapshot.source))
    else:
        booked = list(position_trades(rows, snapshot, plan, listings, moved))
        if collateral is None:
            _warn_of_cash(plan, snapshot, moved)
        else:
            for event, row in collateral_movements(collateral, snapshot, plan, moved, f"{snapshot.source}/collateral"):
                assert isinstance(event, CollateralMoved)
                (gains if whole(event.amount_delta[0]) > 0 else losses).append((event, row))
    plan.events += listings.events
    for event, row in [*gains, *booked, *losses]:
        plan.add(event, row)
    plan.facts |= {"differences": len(gains) + len(booked) + len(losses), "listed": len(listings.events)}
    return plan


def _warn_of_cash(plan: Plan, snapshot: Snapshot, moved: Moved) -> None:
    """Note what trades move, where no balances come with them."""
    directory = snapshot.folds.intake.market.directory
    totals: Counter[str] = Counter()
    for (_, _, asset), amount in moved.items():
        totals[asset] += amount
    if totals:
        shown = ", ".join(
            f"{format_scaled(amount, directory.asset_by_name[name].scale)} {name}"
            for name, amount in sorted(totals.items())
        )
        plan.notes.append(
            f"these trades move cash: {shown}; --collateral FILE books the balances of the same moment with them"
        )
