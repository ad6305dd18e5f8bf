"""A small input with very many effects: they are recorded while they are made, not when all are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from margin_stream.core.effect_book import Emitted
from margin_stream.core.fold import SPILL_EFFECTS
from margin_stream.host.embedded import Host
from margin_stream.views.source import StoreReader
from tests.days import Day, opened_day

ACCOUNTS, TICKS = 40, 700


def crossing_day() -> list[bytes]:
    """Return a day on which every account crosses a level at each tick, within one group of the writer."""
    day = opened_day()
    _fill(day)
    return day.lines


def _fill(day: Day) -> None:
    for n in range(ACCOUNTS):
        day.book("account_opened", account=f"c{n}", base_currency="USDT", profile="prime")
        day.money(f"c{n}", "1.00000000", "BTC")
        # Warned where the collateral is below 1.40 times the loan: 0.90 * 40,000 = 1.40 * 25,714.28.
        day.money(f"c{n}", "-25714.28")
    for n in range(TICKS):
        day.tick("BTCUSDT", "39999.00" if n % 2 else "40001.00")


def test_effects_are_recorded_while_they_are_made(tmp_path: Path) -> None:
    lines = crossing_day()
    seen: list[int] = []
    host = Host(tmp_path / "s", group_items=10 * len(lines))
    host.on_effects = lambda effects: seen.append(len(effects))
    host.ingest(lines)
    total = host.effects_total
    assert total > 2 * SPILL_EFFECTS
    assert max(seen) < SPILL_EFFECTS + ACCOUNTS
    before = host.system.digests()
    # As a crash leaves it: no checkpoint, and every effect recorded already.
    host.abandon()
    again = Host(tmp_path / "s")
    assert again.system.digests() == before
    again.close()
    small = Host(tmp_path / "small", group_items=50)
    small.ingest(lines)
    assert small.close() == before
    assert recorded(tmp_path / "s") == recorded(tmp_path / "small")
    assert len(recorded(tmp_path / "s")) == total


def recorded(store: Path) -> list[bytes]:
    reader = StoreReader(store)
    return [data for log in range(reader.partitions + 1) for data in reader.effects(log)]


class Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("after", [0, 1])
def test_a_crash_between_two_parts_loses_and_doubles_nothing(after: int, tmp_path: Path) -> None:
    lines = crossing_day()
    whole = Host(tmp_path / "whole", group_items=10 * len(lines))
    whole.ingest(lines)
    digests, total = whole.close(), whole.effects_total

    host = Host(tmp_path / "s", group_items=10 * len(lines))
    parts = 0

    def cut(_: list[Emitted]) -> None:
        nonlocal parts
        parts += 1
        if parts > after:
            raise Cut

    host.on_effects = cut
    with pytest.raises(Cut):
        host.ingest(lines)
    host.abandon()
    again = Host(tmp_path / "s")
    assert again.ingest(lines).duplicate > len(lines) - 10
    assert again.close() == digests
    assert len(recorded(tmp_path / "s")) == total
