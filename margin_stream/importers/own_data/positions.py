"""Positions: what differs is traded, what the files do not name is closed."""

from __future__ import annotations

from margin_stream.core.accounts.position import SIDES, Position, notional, split_key
from margin_stream.core.accounts.subaccount import Subaccount
from margin_stream.importers.own_data.directory import Listings, nearest, too_fine
from margin_stream.importers.own_data.forms import Row, Rows
from margin_stream.importers.own_data.plan import Plan
from margin_stream.importers.own_data.problems import Place, problem
from margin_stream.importers.own_data.snapshot import SHOWN, Booked, Moved, Snapshot, pair_of_units
from margin_stream.schemas.decimals import format_scaled, parse_decimal, scaled
from margin_stream.schemas.inputs import (
    PositionChanged,
)


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


def position_trades(rows: Rows, snapshot: Snapshot, plan: Plan, listings: Listings, moved: Moved) -> Booked:
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
                quantity_delta=pair_of_units(delta, quantity_scale),
                price=pair_of_units(price, price_scale),
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
                quantity_delta=pair_of_units(-quantity, instrument.quantity_scale),
                price=pair_of_units(price, instrument.price_scale),
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
