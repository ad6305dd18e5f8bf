"""The read side: accounts, calls and the journal as plain mappings, from folds at hand or from a store that is read."""

from __future__ import annotations

from margin_stream.views.accounts import (
    AccountUnknown,
    CallUnknown,
    FoldUnknown,
    account_state,
    call_history,
    calls,
    facts,
    system_at,
)
from margin_stream.views.journal import NotRefused, effects, events, quarantine, quarantined

__all__ = [
    "AccountUnknown",
    "CallUnknown",
    "FoldUnknown",
    "NotRefused",
    "account_state",
    "call_history",
    "calls",
    "effects",
    "events",
    "facts",
    "quarantine",
    "quarantined",
    "system_at",
]
