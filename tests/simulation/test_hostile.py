"""Twenty trials with several hostile things at once, and mutants that prove that they can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from margin_stream.kafka import shards
from margin_stream.kafka.chains import Chain
from margin_stream.kafka.messages import SequencedBatch, decode_item
from tests.simulation import hostile

ROOT = Path(__file__).resolve().parents[2]


def campaign(trials: int, seed: int) -> dict[str, Any]:
    # In a process of its own: it forks, which a process with threads must not.
    command = [sys.executable, "-m", "tests.simulation.hostile", "--trials", str(trials), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=900, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_twenty_trials_lose_double_and_hide_nothing() -> None:
    row = campaign(20, 1)
    assert row["failures"] == 0, row["failed"]
    assert (row["trials"], row["lost"], row["double"], row["silent"], row["hung"]) == (20, 0, 0, 0, 0)
    assert row["kafka: foreign"] > 20
    assert sum(name.startswith("folder: ") for name in row) >= 7


@pytest.mark.slow(reason="many random runs of all shards")
def test_mutant_a_chain_that_is_not_compared_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def fresh_items(record: SequencedBatch, here: int, chain: Chain) -> tuple[list[Any], Chain]:
        items = [item for item in map(decode_item, record.items) if item.sequence > here]
        return items, chain

    monkeypatch.setattr(shards, "fresh_items", fresh_items)
    found = 0
    for seed in range(6):
        try:
            hostile.kafka_trial(Random(f"mutant {seed}"), Counter())
        except Exception:
            found += 1
    assert found >= 2


@pytest.mark.parametrize("mutant", ["lines.pop(len(lines) // 2)", "lines[3], lines[40] = lines[40], lines[3]"])
@pytest.mark.slow
def test_mutant_a_writer_that_takes_other_lines_is_caught(mutant: str) -> None:
    """The writer is given other lines than the checker: one is dropped, or two are swapped."""
    program = (
        "from tests.simulation import hostile, kills\n"
        "right = kills.ingest_and_report\n"
        "def wrong(path, lines, *rest):\n"
        "    lines = list(lines)\n"
        f"    {mutant}\n"
        "    right(path, lines, *rest)\n"
        "kills.ingest_and_report = wrong\n"
        "print(__import__('json').dumps(hostile.campaign(6, 1, 2)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=300, cwd=ROOT)
    assert json.loads(done.stdout)["failures"] > 0
