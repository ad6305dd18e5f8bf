"""Collateral: balances that differ are moved; what the files do not name stays."""

from __future__ import annotations

from margin_stream.importers.own_data.directory import nearest, too_fine
from margin_stream.importers.own_data.forms import Rows
from margin_stream.importers.own_data.plan import Plan
from margin_stream.importers.own_data.snapshot import SHOWN, Booked, Moved, Snapshot, pair_of_units
from margin_stream.schemas.decimals import format_scaled, parse_decimal, scaled
from margin_stream.schemas.inputs import (
    CollateralMoved,
)


def collateral_movements(rows: Rows, snapshot: Snapshot, plan: Plan, moved: Moved, source: str) -> Booked:
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
                amount_delta=pair_of_units(delta, asset.scale),
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
