"""The tiny day worked out by hand in docs/tiny-day.md, from the rules alone, equal to the last unit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.folding import fold, of_groups
from tests.golden.golden_days import accounts_of

HERE = Path(__file__).parent
LINES = (HERE / "tiny_day.ndjson").read_bytes().splitlines()


def test_every_effect_is_the_one_on_paper() -> None:
    expected = json.loads((HERE / "tiny_day.effects.json").read_text())
    _, effects = fold(LINES)
    assert of_groups(effects) == [effect for effect in expected if not effect["id"].startswith("@intake")]
    refused = [effect for effect in effects if effect["type"] == "input_refused"]
    wanted = [effect for effect in expected if effect["type"] == "input_refused"]
    assert [{k: row[k] for k in ("id", "sequence", "at_ns", "reason")} for row in refused] == [
        {k: row[k] for k in ("id", "sequence", "at_ns", "reason")} for row in wanted
    ]


@pytest.mark.parametrize("partitions", [1, 2, 7, 16])
def test_every_account_ends_as_on_paper(partitions: int) -> None:
    expected = json.loads((HERE / "tiny_day.state.json").read_text())
    for account in expected.values():
        # The paper also lists what came to nothing.
        account["balances"] = {asset: amount for asset, amount in account["balances"].items() if amount.strip("0.")}
    system = StoreFold(partitions, rules_version=LATEST)
    for line in LINES:
        system.admission.line(line)
    system.fold()
    assert accounts_of(system) == expected
