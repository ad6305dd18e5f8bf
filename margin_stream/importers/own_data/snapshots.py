"""Accounts, positions and collateral: a file states what is, and what differs from the store is booked.

Differences are taken at one sequence number N, which is part of the source (``positions@<hash>#N``); an event's number
is that of its row. So an import that was cut off sends the same again, and a later one is another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.position import SIDES, Position, notional, split_key
from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.core.store_fold import StoreFold
from margin_stream.importers.own_data.directory import Listings, nearest, too_fine
from margin_stream.importers.own_data.forms import Row, Rows
from margin_stream.importers.own_data.plan import Plan
from margin_stream.importers.own_data.problems import Place, problem
from margin_stream.schemas.decimals import DecimalPair, canonical, format_scaled, packed, parse_decimal, scaled, whole
from margin_stream.schemas.inputs import (
    AccountChanged,
    AccountOpened,
    AnyInput,
    ClockTicked,
    CollateralMoved,
    PositionChanged,
)

SHOWN = 5
_CONTACTS = re.compile(r"[;\s]+")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Against what a file is compared."""

    folds: StoreFold
    source: str
    at_ns: int
    """The moment of the snapshot."""

    @property
    def clock_ns(self) -> int:
        """The store's clock."""
        return self.folds.intake.market.clock_ns

    def accounts(self) -> Iterator[Account]:
        """Yield the accounts that are open."""
        for part in self.folds.accounts:
            yield from part.accounts()


Booked = Iterator[tuple[AnyInput, Row | None]]
Moved = Counter[tuple[str, str, str]]
"""(Account, subaccount, asset) -> what trades move of it, in units of its scale."""


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
        booked = list(_accounts(rows, snapshot, plan))
    elif rows.kind == "collateral":
        booked = list(_collateral(rows, snapshot, plan, moved, snapshot.source))
    else:
        booked = list(_positions(rows, snapshot, plan, listings, moved))
        if collateral is None:
            _warn_of_cash(plan, snapshot, moved)
        else:
            for event, row in _collateral(collateral, snapshot, plan, moved, f"{snapshot.source}/collateral"):
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


def _pair(units: int, scale: int) -> DecimalPair:
    """Return an integer of a scale as an input has it."""
    mantissa, exponent = canonical(units, -scale)
    return packed(mantissa), exponent


# ---- accounts --------------------------------------------------------------------------------------------------------


def _accounts(rows: Rows, snapshot: Snapshot, plan: Plan) -> Booked:
    """Yield an opening for each account that is new, and a change for each that differs."""
    known = {account.id: account for account in snapshot.accounts()}
    intake = snapshot.folds.intake
    assets = intake.market.directory.assets
    opened = changed = 0
    for row in rows.rows:
        texts = row.texts
        name = texts["account"]
        account = known.get(name)
        profile = texts.get("profile", "" if account is None else account.profile)
        activated = intake.accounts.profiles.get(profile)
        if activated is None:
            what = f"the profile {profile!r} was never activated in the store"
            advice = "`margin-stream profiles template` prints an activation"
            near = nearest(profile, intake.accounts.profiles)
            plan.problems.append(row.wrong("profile", what, f"{near} {advice}".strip()))
            continue
        base = assets[activated[0]].name
        if texts.get("base_currency", base) != base:
            what = f"the profile {profile} is in {base}"
            plan.problems.append(row.wrong("base_currency", what, f"write {base}, or name another profile"))
            continue
        desk = texts.get("desk")
        contacts = tuple(filter(None, _CONTACTS.split(texts["contacts"]))) if "contacts" in texts else None
        identity: dict[str, Any] = {"source": snapshot.source, "source_seq": row.number, "event_time": snapshot.at_ns}
        if account is None:
            opened += 1
            yield (
                AccountOpened(
                    **identity,
                    account=name,
                    base_currency=base,
                    profile=profile,
                    desk=desk or "",
                    contacts=contacts or (),
                ),
                row,
            )
            continue
        event = AccountChanged(
            **identity,
            account=name,
            profile=profile if profile != account.profile else None,
            desk=desk if desk not in (None, account.desk) else None,
            contacts=contacts if contacts is not None and list(contacts) != list(account.contacts) else None,
        )
        if (event.profile, event.desk, event.contacts) != (None, None, None):
            changed += 1
            yield event, row
    plan.facts |= {"opened": opened, "changed": changed}


# ---- positions -------------------------------------------------------------------------------------------------------


def _held(snapshot: Snapshot) -> dict[tuple[str, str, str, str], tuple[Subaccount, Position]]:
    """Return every position of the store, by account, subaccount, instrument and side."""
    instruments = snapshot.folds.intake.market.directory.instruments
    found: dict[tuple[str, str, str, str], tuple[Subaccount, Position]] = {}
    for account in snapshot.accounts():
        for part in account.subaccounts():
            for key, position in part.positions.items():
                number, side = split_key(key)
                instrument = instruments[number]
                if position.quantity and instrument is not None:
                    found[account.id, part.name, instrument.name, SIDES[side]] = part, position
    return found


def _positions(rows: Rows, snapshot: Snapshot, plan: Plan, listings: Listings, moved: Moved) -> Booked:
    """Yield a trade for each position that differs; one that the file does not name is closed."""
    intake = snapshot.folds.intake
    market = intake.market
    held = _held(snapshot)
    same = 0
    for row in rows.rows:
        texts = row.texts
        name = texts["account"]
        side = texts.get("position_side", "both").lower()
        key = (name, texts.get("isolated", ""), texts["instrument"], side)
        before = held.pop(key, None)
        if name not in intake.accounts.entries:
            near = nearest(name, intake.accounts.entries)
            plan.problems.append(row.wrong("account", "not open in the store", near or "import the accounts first"))
            continue
        if side not in SIDES:
            plan.problems.append(row.wrong("position_side", "no side", "write long, short or both"))
            continue
        wrong = listings.instrument(row)
        if wrong is not None:
            plan.problems.append(wrong)
            continue
        price_scale, quantity_scale = listings.scales(key[2])
        fine = [
            too_fine(row, column, scale, key[2])
            for column, scale in (("quantity", quantity_scale), ("price", price_scale))
        ]
        if any(fine):
            plan.problems += [one for one in fine if one is not None]
            continue
        quantity = scaled(parse_decimal(row.numbers["quantity"]), quantity_scale)
        assert quantity is not None
        delta = quantity - (before[1].quantity if before else 0)
        leverage = _leverage(row)
        if leverage is None:
            plan.problems.append(row.wrong("leverage", "no leverage", "write a whole number from 1 to 1000"))
            continue
        if before is not None and leverage == (before[1].leverage or 0):
            leverage = 0
        if delta == 0 and leverage == 0:
            same += 1
            continue
        instrument = listings.known(key[2])
        mark = market.prices[instrument.number] if instrument is not None else 0
        price = scaled(parse_decimal(row.numbers["price"]), price_scale) if "price" in row.numbers else mark
        if not price and "price" not in row.numbers:
            what = f"{key[2]} has no mark yet at which the difference could be booked"
            plan.problems.append(row.wrong("price", what, "fill in the price"))
            continue
        assert price is not None
        _add_cash(moved, key, listings, delta, price)
        yield (
            PositionChanged(
                source=snapshot.source,
                source_seq=row.number,
                event_time=snapshot.at_ns,
                account=name,
                instrument=key[2],
                quantity_delta=_pair(delta, quantity_scale),
                price=_pair(price, price_scale),
                reason="import",
                isolated=key[1],
                position_side=side,
                leverage=leverage,
            ),
            row,
        )
    plan.facts["as_in_store"] = same
    if not rows.problems and not plan.problems:
        # Else what the file does not name cannot be told from what is not understood.
        yield from _closed(rows, snapshot, plan, held, listings, moved)


def _leverage(row: Row) -> int | None:
    """Return the leverage of a row, 0 where it names none, None where it is none."""
    text = row.numbers.get("leverage")
    if text is None:
        return 0
    mantissa, exponent = parse_decimal(text)
    whole = scaled((mantissa, exponent), 0)
    return whole if whole is not None and 1 <= whole <= 1000 else None


def _add_cash(moved: Moved, key: tuple[str, str, str, str], listings: Listings, delta: int, price: int) -> None:
    """Add what a trade moves: of a share or pair its price; a perpetual moves nothing."""
    account, isolated, name, _ = key
    currency, currency_scale, perpetual = listings.settlement(name)
    if not perpetual:
        shift = currency_scale - sum(listings.scales(name))
        moved[account, isolated, currency] += notional(-delta * price, shift)


def _closed(
    rows: Rows,
    snapshot: Snapshot,
    plan: Plan,
    left: dict[tuple[str, str, str, str], tuple[Subaccount, Position]],
    listings: Listings,
    moved: Moved,
) -> Booked:
    """Yield what closes the positions that the file does not name, at their marks."""
    directory, prices = snapshot.folds.intake.market.directory, snapshot.folds.intake.market.prices
    number = rows.count
    shown = []
    for key in sorted(left):
        account, isolated, name, side = key
        instrument = directory.instrument_by_name[name]
        price, quantity = prices[instrument.number], left[key][1].quantity
        number += 1
        if not price:
            held = f"{account} holds {format_scaled(quantity, instrument.quantity_scale)} {name}"
            what = f"{held}, which the file does not name, and there is no mark at which it could be closed"
            plan.problems.append(
                problem(
                    Place(rows.rows[0].place.file if rows.rows else plan.source, 1),
                    what,
                    "add a row with quantity 0 and a price",
                )
            )
            continue
        shown.append(f"{account} {format_scaled(quantity, instrument.quantity_scale)} {name}")
        _add_cash(moved, key, listings, -quantity, price)
        yield (
            PositionChanged(
                source=snapshot.source,
                source_seq=number,
                event_time=snapshot.at_ns,
                account=account,
                instrument=name,
                quantity_delta=_pair(-quantity, instrument.quantity_scale),
                price=_pair(price, instrument.price_scale),
                reason="import: not in the file",
                isolated=isolated,
                position_side=side,  # type: ignore[arg-type]
            ),
            None,
        )
    plan.facts["closed"] = len(shown)
    if shown:
        more = ", ..." if len(shown) > SHOWN else ""
        what = f"{len(shown)} positions are closed at their marks, because the file does not name them"
        plan.notes.append(f"{what}: {', '.join(shown[:SHOWN])}{more}")


# ---- collateral ------------------------------------------------------------------------------------------------------


def _collateral(rows: Rows, snapshot: Snapshot, plan: Plan, moved: Moved, source: str) -> Booked:
    """Yield a movement for each balance that differs; one that the file does not name stays.

    Args:
        moved: what trades of the same import move.
        source: of the movements.
    """
    intake = snapshot.folds.intake
    directory = intake.market.directory
    ledgers = {
        (account.id, part.name, directory.assets[asset].name): amount
        for account in snapshot.accounts()
        for part in account.subaccounts()
        for asset, amount in part.ledger.items()
        if amount
    }
    for key, cash in moved.items():
        ledgers[key] = ledgers.get(key, 0) + cash
    same = 0
    for row in rows.rows:
        texts = row.texts
        name = texts["account"]
        key = (name, texts.get("isolated", ""), texts["asset"])
        before = ledgers.pop(key, 0)
        if name not in intake.accounts.entries:
            near = nearest(name, intake.accounts.entries)
            plan.problems.append(row.wrong("account", "not open in the store", near or "import the accounts first"))
            continue
        asset = directory.asset_by_name.get(key[2])
        if asset is None:
            near = nearest(key[2], directory.asset_by_name)
            plan.problems.append(row.wrong("asset", "not listed in the store", near or "list it first"))
            continue
        fine = [too_fine(row, column, asset.scale, asset.name) for column in ("amount", "loan")]
        if any(fine):
            plan.problems += [one for one in fine if one is not None]
            continue
        held = scaled(parse_decimal(row.numbers["amount"]), asset.scale)
        loan = scaled(parse_decimal(row.numbers.get("loan", "0")), asset.scale)
        assert held is not None
        assert loan is not None
        delta = held - loan - before
        if delta == 0:
            same += 1
            continue
        yield (
            CollateralMoved(
                source=source,
                source_seq=row.number,
                event_time=snapshot.at_ns,
                account=name,
                asset=asset.name,
                amount_delta=_pair(delta, asset.scale),
                reason="import",
                isolated=key[1],
            ),
            row,
        )
    ledgers = {key: amount for key, amount in ledgers.items() if amount}
    plan.facts |= {"balances_as_in_store": same, "balances_not_in_file": len(ledgers)}
    if ledgers and not rows.problems and not plan.problems:
        shown = [
            f"{account} {format_scaled(amount, directory.asset_by_name[asset].scale)} {asset}"
            for (account, _, asset), amount in sorted(ledgers.items())[:SHOWN]
        ]
        more = ", ..." if len(ledgers) > SHOWN else ""
        what = f"{len(ledgers)} balances stay as they are, because the file does not name them"
        plan.notes.append(f"{what}: {', '.join(shown)}{more}; a row with amount 0 ends one")
