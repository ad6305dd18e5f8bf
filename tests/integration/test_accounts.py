"""``accounts``: who is short, and who is near."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from margin_stream import Store, views
from margin_stream.cli.main import run
from tests.days import Day
from tests.usdm_days import random_usdm_day


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store at BTCUSDT 40,000: V is 36,000 and what is owed decides."""
    day = Day().opened()
    for name, owed in (("safe", "10000"), ("near", "28000"), ("short", "29000"), ("deep", "37000"), ("out", "40000")):
        day.account(name)
        day.money(name, "1", asset="BTC")
        day.money(name, f"-{owed}")
    day.account("none")
    with Store.open(tmp_path / "s", partitions=3) as opened:
        opened.ingest(day.lines)
    return tmp_path / "s"


def listed(capsys: pytest.CaptureFixture[str], store: Path, *words: str) -> list[dict[str, Any]]:
    assert run(["accounts", *words, "--store", str(store), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("words", "accounts"),
    [
        ("", ["out", "deep", "short", "near", "safe", "none"]),
        ("--short", ["out", "deep", "short"]),
        ("--level DEFICIT", ["short"]),
        ("--near 5", ["near"]),
        ("--near 2.85%", []),
        ("--near 300%", ["near", "safe"]),
        ("--stale", []),
    ],
)
def test_those_that_are_short_come_first(
    store: Path, words: str, accounts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [row["account"] for row in listed(capsys, store, *words.split())] == accounts


def test_a_row_has_the_figures(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = listed(capsys, store, "--level", "DEFICIT")
    # 36,000 - 29,000; 0.25 x 29,000; 1.40 x 29,000 - 36,000; 36,000 / 36,250 - 1.
    assert row == {
        "account": "short",
        "subaccount": "",
        "desk": "",
        "profile": "prime",
        "level": "DEFICIT",
        "short": True,
        "flags": [],
        "stale": False,
        "currency": "USDT",
        "equity": "7000.00",
        "requirement": "7250.00",
        "shortfall": "4600.00",
        "above_trigger": "-0.69",
        "open_calls": 0,
    }


def test_a_live_store_a_folder_and_the_past_give_the_same(tmp_path: Path) -> None:
    lines = random_usdm_day(5, accounts=9, steps=120)
    with Store.open(tmp_path / "s", partitions=4) as opened:
        opened.ingest(lines)
        rows = opened.accounts()
        assert rows == views.accounts(opened.path) == opened.accounts(at=len(lines))
        for row in rows:
            state = opened.state(row["account"])
            part = next((s for s in state["subaccounts"] if s["subaccount"] == row["subaccount"]), state)
            assert (row["level"], row["flags"], row["equity"]) == (part["level"], part["flags"], part.get("equity"))
            if row["above_trigger"] is not None:
                assert isinstance(Fraction(row["above_trigger"]), Fraction)
        assert len({(row["account"], row["subaccount"]) for row in rows}) == len(rows) > 9


@pytest.mark.parametrize("near", ["x", "-1", "1e3", "5 %"])
def test_a_percentage_is_one(store: Path, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["accounts", f"--near={near}", "--store", str(store)]) == 2
    assert "a percentage" in capsys.readouterr().err
