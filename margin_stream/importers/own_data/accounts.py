"""Accounts: new ones are opened, others changed where they differ."""

from __future__ import annotations

import re
from typing import Any

from margin_stream.importers.own_data.directory import nearest
from margin_stream.importers.own_data.forms import Rows
from margin_stream.importers.own_data.plan import Plan
from margin_stream.importers.own_data.snapshot import Booked, Snapshot
from margin_stream.schemas.inputs import (
    AccountChanged,
    AccountOpened,
)

_CONTACTS = re.compile(r"[;\s]+")


def account_changes(rows: Rows, snapshot: Snapshot, plan: Plan) -> Booked:
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
