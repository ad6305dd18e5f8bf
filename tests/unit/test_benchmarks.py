"""The benchmarks still run: a small round of the one that reaches into the core."""

from __future__ import annotations

import pytest

from tests.benchmarks import engine


@pytest.mark.slow(reason="compiles the loops over holders")
def test_the_benchmark_of_the_core_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TICKS", 600)
    for model in ("prime", "binance-usdm"):
        row = engine.bench(model, 30, quiescent=False)
        assert row["vectors"]["median"] > 0
