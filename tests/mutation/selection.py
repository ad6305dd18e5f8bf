"""What is mutated, and which tests are asked."""

from __future__ import annotations

CORE = (
    "calls.lifecycle",
    "calls.call",
    "intake.account_index",
    "intake.admission",
    "intake.answers",
    "intake.fold",
    "margin.valuation",
    "accounts.postings",
    "accounts.position",
    "questions",
    "margin.models.prime",
    "margin.formula",
    "margin.models.binance_usdm",
    "margin.models.usdm_bounds",
    "margin.models.brackets",
    "margin.models.collateral",
    "margin.models.parameters",
    "market.quote_guard",
    "intake.identity",
    "intake.sources",
    "intake.validation",
    "market.market",
    "accounts.subaccount",
    "accounts.account",
    "accounts.fold",
    "digests",
    "effect_book",
    "feed_monitor",
    "fold",
    "folds",
    "market.directory",
    "margin.model",
    "sequenced",
    "store_fold",
    "checks",
    "revaluation.filter",
)
JOURNAL = ("record_builder", "records", "log", "log_end", "highwater", "layout", "disk")
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
    "tests.unit.test_core_boundaries_intake",
    "tests.unit.test_core_boundaries_boxes",
    "tests.unit.test_core_boundaries_checkpoints",
    "tests.unit.test_core_boundaries_deposits",
    "tests.unit.test_core_boundaries_edges",
    "tests.unit.test_core_boundaries_folds",
    "tests.unit.test_core_boundaries_frozen",
    "tests.unit.test_core_boundaries_identity",
    "tests.unit.test_core_boundaries_lifecycle",
    "tests.unit.test_core_boundaries_perpetuals",
    "tests.unit.test_core_boundaries_profiles",
    "tests.unit.test_core_boundaries_restored",
    "tests.unit.test_core_boundaries_routed",
    "tests.unit.test_core_boundaries_rows",
    "tests.unit.test_core_boundaries_trades",
    "tests.unit.test_core_boundaries_watched",
    "tests.unit.test_core_boundaries_watching",
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
    "tests.unit.test_core_boundaries",
)
"""Tests that notice much for what they cost."""
QUICK_SECONDS = 0.004
SECONDS = 6.0
"""A mutant is shown to the tests that reach it, cheapest first, until so much processor time would be spent."""
