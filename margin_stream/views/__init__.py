"""The read side: accounts, calls and the journal as plain mappings, from folds at hand or from a store that is read."""

from __future__ import annotations

from margin_stream.views.clock import StandingClock, newest_input_ns, standing_clock
from margin_stream.views.correction import CorrectedAlready, CorrectionUnusable, correction
from margin_stream.views.journal import NotRefused, effects, events, quarantine, quarantined
from margin_stream.views.resubmission import RestartNotConfirmed, Resubmission, resubmission
from margin_stream.views.store import (
    AccountUnknown,
    CallUnknown,
    DeskUnknown,
    FoldUnknown,
    View,
    account_state,
    accounts,
    call_history,
    calls,
    facts,
    folds_at,
    summary,
)

__all__ = [
    "AccountUnknown",
    "CallUnknown",
    "CorrectedAlready",
    "CorrectionUnusable",
    "DeskUnknown",
    "FoldUnknown",
    "NotRefused",
    "RestartNotConfirmed",
    "Resubmission",
    "StandingClock",
    "View",
    "account_state",
    "accounts",
    "call_history",
    "calls",
    "correction",
    "effects",
    "events",
    "facts",
    "folds_at",
    "newest_input_ns",
    "quarantine",
    "quarantined",
    "resubmission",
    "standing_clock",
    "summary",
]
