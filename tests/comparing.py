"""Comparing the engine with the oracle of perpetuals: effects, refusals, final facts."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.effects import InputRefused, decode_effect
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.views.account import describe_account
from tests.oracle.usdm_oracle import Oracle, run_beside, said_by

Said = tuple[list[dict[str, Any]], list[tuple[int, str]], dict[str, dict[str, Any]]]
"""Effects, refusals as (position, reason), facts by account and subaccount."""


def engine_says(lines: list[bytes]) -> Said:
    """Return effects without intake, refusals as (position, reason), and facts as the oracle writes them."""
    system = StoreFold(1, rules_version=LATEST)
    for line in lines:
        system.admission.line(line)
    decoded = [
        decode_effect(row[3])
        for row in sorted((row for part in system.fold() for row in part), key=lambda row: row[:3])
    ]
    effects: list[dict[str, Any]] = []
    refusals = []
    for effect in decoded:
        if isinstance(effect, InputRefused):
            refusals.append((effect.sequence, effect.reason))
        elif not effect.id.startswith("@intake/"):
            fields = json.loads(msgspec.json.encode(effect))
            fields["type"] = fields["type"].rpartition(".v")[0]
            effects.append(fields)
    fold = system.accounts[0]
    return effects, refusals, {account.id: facts_of(describe_account(fold, account)) for account in fold.accounts()}


def facts_of(view: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"": _subaccount(view)}
    for subaccount in view["subaccounts"]:
        facts[subaccount["subaccount"]] = _subaccount(subaccount)
    facts["calls"] = [(call["call"], call["amount"], call["paid"], call["open"]) for call in view["calls"]]
    return facts


def _subaccount(view: dict[str, Any]) -> dict[str, Any]:
    positions = {}
    for row in view["positions"]:
        leverage = row.get("leverage") or 0
        numbers = (row["quantity"], row["open_cost"], row["realised"], row["fees"])
        if any(set(text) - set("-0.") for text in numbers) or leverage:
            positions[f"{row['instrument']} {row.get('position_side', 'both')}"] = (*numbers, leverage)
    facts = {
        "level": view["level"],
        "liquidating": "LIQUIDATING" in view["flags"],
        "balances": {
            row["asset"]: row["amount"]
            for row in sorted(view["balances"], key=lambda row: row["asset"])
            if set(row["amount"]) - set("0.")
        },
        "positions": dict(sorted(positions.items())),
        "demand": view["liquidation_due"],
    }
    # What the oracle calls value and debit: what counts, and what it must cover.
    lends = "loan" in view
    for name, ours in (
        ("value", "collateral_value" if lends else "equity"),
        ("debit", "loan" if lends else "requirement"),
        ("initial", "initial"),
    ):
        if ours in view:
            facts[name] = view[ours]
    return facts


def oracle_says(oracle: Oracle) -> Said:
    """Return what the oracle found, in the same form."""
    return said_by(oracle), oracle.refusals, oracle.facts()


def differences(lines: list[bytes]) -> tuple[list[str], Oracle, int]:
    """Return where engine and oracle differ, the oracle, and at how many items a window of rounding was answered
    sharply."""
    ours = engine_says(lines)
    oracle, sharp = run_beside(lines, ours[0], lambda count: engine_says(lines[:count])[2])
    theirs = oracle_says(oracle)
    found = []
    for what, mine, other in zip(("effect", "refusal"), ours[:2], theirs[:2], strict=True):
        place = next(
            (n for n, pair in enumerate(zip(mine, other, strict=False)) if pair[0] != pair[1]),
            min(len(mine), len(other)),
        )
        if mine != other:
            found.append(
                f"{what} {place}: the engine says {mine[place : place + 1]}, the oracle {other[place : place + 1]}"
            )
    for account in sorted(ours[2].keys() | theirs[2].keys()):
        here, yours = ours[2].get(account, {}), theirs[2].get(account, {})
        for subaccount in sorted(here.keys() | yours.keys()):
            if here.get(subaccount) != yours.get(subaccount):
                found.append(
                    f"{account} {subaccount!r}: the engine has {here.get(subaccount)}, the oracle "
                    f"{yours.get(subaccount)}"
                )
    return found, oracle, sharp
