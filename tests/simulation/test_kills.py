"""Fifty killed ingests, and mutants that prove that the checker can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from margin_stream.core import digests
from margin_stream.core.accounts import position, rows
from margin_stream.core.accounts.position import Position
from margin_stream.core.accounts.transactions import Transactions
from margin_stream.core.intake.sources import Sources
from margin_stream.host.embedded import Host
from margin_stream.journal import log as logs
from margin_stream.journal import records
from margin_stream.journal.log import LogWriter
from tests.days import random_day
from tests.faults import ForgetfulDisk
from tests.folding import fold

LINES = random_day(11, accounts=8, steps=250)
REFERENCE = fold(LINES)


@pytest.mark.slow
def test_fifty_killed_ingests_equal_an_uninterrupted_one() -> None:
    # In a process of its own: it forks, which a process with threads must not.
    command = [sys.executable, "-m", "tests.simulation.kills", "--trials", "50", "--seed", "1", "--workers", "2"]
    done = subprocess.run(
        command, capture_output=True, check=False, timeout=900, cwd=Path(__file__).resolve().parents[2]
    )
    row = json.loads(done.stdout)
    assert row["failures"] == 0, row["failed"]
    assert row["kills"] > 60


def changed() -> bool:
    """What the digest tests would see: partitions and reference differ, or the digests differ from before."""
    return fold(LINES, 1) != REFERENCE or fold(LINES, 7) != REFERENCE


def test_mutant_one_item_dropped_is_caught() -> None:
    assert fold(LINES[:100] + LINES[101:])[0] != REFERENCE[0]


def test_mutant_two_items_swapped_are_caught() -> None:
    place = next(
        n for n in range(60, len(LINES) - 1) if b"price_ticked" in LINES[n] and b"price_ticked" in LINES[n + 1]
    )
    swapped = [*LINES[:place], LINES[place + 1], LINES[place], *LINES[place + 2 :]]
    assert fold(swapped)[0] != REFERENCE[0]


@pytest.mark.plain_core
def test_mutant_an_item_applied_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    move = Transactions.move
    monkeypatch.setattr(Transactions, "move", lambda self, item: (move(self, item), move(self, item))[0])
    assert changed()


@pytest.mark.plain_core
def test_mutant_routing_off_by_one_slot_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(rows, "slot_of", lambda group: (digests.slot_of(group) + 1) % 4096)
    assert changed()


@pytest.mark.plain_core
def test_mutant_rounding_the_other_way_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(position, "notional", lambda product, shift: -positions_notional(-product, shift))
    positions_notional = records_free_notional
    assert changed()
    assert Position().trade(3, 1005, -1) == -301


def records_free_notional(product: int, shift: int) -> int:
    return product * 10**shift if shift >= 0 else product // 10**-shift


@pytest.mark.plain_core
def test_mutant_boxes_that_are_too_wide_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from margin_stream.core.revaluation.price_boxes import Boxes

    box = Boxes.box

    def lying(
        self: Boxes, directions: dict[int, int], against: int, favourable: int, lowest: list[int], highest: list[int]
    ) -> Any:
        sides = box(self, directions, against, favourable, lowest, highest)
        return [
            (number, max(0, below - 400) if below >= 0 else -1, above + 400 if above >= 0 else -1)
            for number, below, above in sides
        ]

    monkeypatch.setattr(Boxes, "box", lying)
    assert any(
        fold(random_day(seed, steps=250))[1] != fold(random_day(seed, steps=250), boxes=False)[1] for seed in range(8)
    )


def test_mutant_acknowledging_before_the_sync_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogWriter, "make_durable", lambda self, cut: setattr(self, "durable", cut))
    disk = ForgetfulDisk()
    host = Host(tmp_path / "s", disk=disk, group_items=10)
    host.ingest(LINES[:80])
    acknowledged = host.system.sequence
    host.abandon()
    disk.cut_power(tmp_path / "s")
    monkeypatch.undo()
    again = Host(tmp_path / "s")
    assert again.system.sequence < acknowledged
    again.abandon()


def test_mutant_accepting_a_record_without_its_checksum_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Host(tmp_path / "s", group_items=20) as host:
        host.ingest(LINES)
    segment = tmp_path / "s" / "journal" / records.segment_name(1)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(records.CorruptLog):
        list(logs.read(tmp_path / "s" / "journal", host.manifest.identity))
    monkeypatch.setattr(records.zlib, "crc32", lambda *_: 0)
    with pytest.raises(records.CorruptLog):
        # Even then the chain differs, or every record does not match: nothing is believed.
        list(logs.read(tmp_path / "s" / "journal", host.manifest.identity))


@pytest.mark.plain_core
def test_mutant_forgetting_identities_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from margin_stream.core.intake.identity import Seen

    monkeypatch.setattr(Sources, "book", lambda self, source, sequence, event_time_ns, canonical: Seen.NEW)
    assert fold([*LINES, *LINES[50:60]])[0] != REFERENCE[0]
