"""The golden days: lines, and what the rules say of them, worked out by hand (docs/golden-days.md).

Beside each ``<name>.ndjson`` stands ``<name>.expected.json``: the line numbers of the duplicates, every effect with all
of its fields, and how every account ends. Nothing in it was copied from the engine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.views.account import describe_account

FOLDER = Path(__file__).parent / "days"
NAMES = sorted(path.name.removesuffix(".ndjson") for path in FOLDER.glob("*.ndjson"))


class GoldenDay(NamedTuple):
    """A day and what is expected of it."""

    name: str
    lines: list[bytes]
    duplicates: frozenset[int]
    """Indices of the lines that are duplicates."""
    effects: list[dict[str, Any]]
    accounts: dict[str, Any]

    def verdicts(self) -> list[str]:
        """Return what becomes of each line. A position is a count of lines that are no duplicates; refused is what an
        effect says is."""
        refused = {effect["sequence"] for effect in self.effects if effect["type"] == "input_refused"}
        found, position = [], 0
        for n in range(len(self.lines)):
            if n in self.duplicates:
                found.append("duplicate")
                continue
            position += 1
            found.append("refused" if position in refused else "accepted")
        return found

    def positions(self) -> int:
        return len(self.lines) - len(self.duplicates)


def load(name: str) -> GoldenDay:
    expected = json.loads((FOLDER / f"{name}.expected.json").read_text())
    lines = (FOLDER / f"{name}.ndjson").read_bytes().splitlines()
    return GoldenDay(
        name, lines, frozenset(n - 1 for n in expected["duplicates"]), expected["effects"], expected["accounts"]
    )


def accounts_of(system: StoreFold) -> dict[str, Any]:
    """Return how accounts stand, as the golden files write it."""
    found = {}
    for part in system.accounts:
        for holder in part.accounts():
            view = describe_account(part, holder)
            found[holder.id] = {
                "level": view["level"],
                "balances": {row["asset"]: row["amount"] for row in view["balances"]},
                "positions": {
                    row["instrument"]: {name: row[name] for name in ("quantity", "open_cost", "realised", "fees")}
                    for row in view["positions"]
                },
                "calls": [
                    {name: row[name] for name in ("call", "amount", "unpaid", "outcome", "deadline")}
                    for row in view["calls"]
                ],
            }
    return found


def digests(rules_version: int = LATEST) -> dict[str, list[Any]]:
    """Return position and digests of every day, as ``days/digests.v<version>.json`` records them for a rules
    version."""
    found = {}
    for name in NAMES:
        system = StoreFold(1, rules_version=rules_version)
        for line in load(name).lines:
            system.admission.line(line)
        system.fold()
        found[name] = list(system.digests())
    return found


if __name__ == "__main__":
    rows = digests(int(sys.argv[1]) if len(sys.argv) > 1 else LATEST)
    print("{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()) + "\n}")
