"""What is mutated, and which tests are asked."""

from __future__ import annotations

from pathlib import Path

FIRST = (
    "calls.lifecycle",
    "calls.payments",
    "calls.case",
    "calls.call",
    "intake.account_index",
    "intake.admission",
    "intake.answers",
    "intake.fold",
    "intake.quotes",
    "margin.valuation",
    "accounts.postings",
    "accounts.position",
    "questions",
    "margin.models.prime",
    "margin.formula",
    "margin.models.binance_usdm",
    "margin.models.usdm_bounds",
    "margin.brackets",
    "margin.collateral",
    "margin.parameters",
    "market.quote_guard",
    "intake.identity",
    "intake.sources",
    "intake.validation",
    "market.market",
    "accounts.subaccount",
    "accounts.account",
    "accounts.coverage",
    "accounts.evaluator",
    "accounts.fold",
    "accounts.holders",
    "accounts.row",
    "accounts.rows",
    "accounts.timers",
    "accounts.transactions",
    "intake.routes",
    "digests",
    "effect_book",
    "feed_monitor",
    "fold",
    "folds",
    "market.directory",
    "margin.guards",
    "margin.ratios",
    "margin.model",
    "sequenced",
    "store_fold",
    "checks",
    "revaluation.filter",
)
"""Modules of the core in the order in which they are run; what is not named here follows."""
_ROOT = Path(__file__).resolve().parents[2] / "margin_stream" / "core"
CORE = [
    ".".join(path.relative_to(_ROOT).with_suffix("").parts)
    for path in _ROOT.rglob("*.py")
    if path.name != "__init__.py" and path.stem != "price_boxes"
]
CORE.sort(key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
JOURNAL = ("record_builder", "records", "log", "log_end", "highwater", "layout", "disk", "file_systems")
MODULES = (
    *(f"margin_stream.core.{name}" for name in CORE),
    *(f"margin_stream.journal.{name}" for name in JOURNAL),
    "margin_stream.core.revaluation.price_boxes",
)
"""Everything, in the order in which it is run."""

TESTS = (
    "tests.unit.test_core_parts",
    "tests.unit.test_boundaries",
    "tests.unit.test_calculator",
    "tests.unit.test_brackets",
    "tests.unit.test_usdm_examples",
    "tests.unit.test_core_intake",
    "tests.unit.test_core_boxes",
    "tests.unit.test_core_checkpoints",
    "tests.unit.test_core_deposits",
    "tests.unit.test_core_edges",
    "tests.unit.test_core_folds",
    "tests.unit.test_core_frozen",
    "tests.unit.test_core_identity",
    "tests.unit.test_core_lifecycle",
    "tests.unit.test_core_perpetuals",
    "tests.unit.test_core_profiles",
    "tests.unit.test_core_restored",
    "tests.unit.test_core_routed",
    "tests.unit.test_core_rows",
    "tests.unit.test_core_trades",
    "tests.unit.test_core_watched",
    "tests.unit.test_core_watching",
    "tests.unit.test_file_systems",
    "tests.unit.test_journal_disk",
    "tests.unit.test_journal_log_end",
    "tests.unit.test_journal_highwater",
    "tests.unit.test_journal_log",
    "tests.unit.test_journal_records",
    "tests.unit.test_journal_store_folder",
    "tests.golden.test_tiny_day",
    "tests.golden.test_golden_days",
    "tests.golden.test_recorded_days",
    "tests.properties.test_bounds",
    "tests.properties.test_exact",
    "tests.properties.test_oracle",
    "tests.properties.test_usdm_laws",
    "tests.properties.test_usdm_oracle",
    "tests.properties.test_feeds",
    "tests.properties.test_identity",
    "tests.properties.test_restored_folds",
    "tests.properties.test_columns",
    "tests.properties.test_model_twins",
    "tests.properties.test_guesses",
    "tests.properties.test_duplicates_and_order",
)
LEFT_OUT = (
    "test_hash_seed",  # another process
    "test_a_longer_day",
    "test_what_the_days_show",
    "test_a_few_days_hold",
)
BROAD = (
    "tests.golden.test_recorded_days",
    "tests.golden.test_tiny_day",
    "tests.properties.test_columns",
    "tests.properties.test_guesses",
    "tests.properties.test_model_twins",
    "tests.properties.test_restored_folds",
    "tests.unit.test_boundaries",
)
"""Tests that notice much for what they cost."""
QUICK_SECONDS = 0.004
SECONDS = 6.0
"""A mutant is shown to the tests that reach it, cheapest first, until so much processor time would be spent."""
