"""``python -m tests.forms``: fold many days in the form of the core that runs; print the digests and the effects'
hashes as JSON.

Run in both forms, the outputs must be the same. ``--mutant`` rounds one thing the other way, so that they are not.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from random import Random

import msgspec

from margin_stream.native import form
from margin_stream.revaluation.vectors import VectorFilter
from tests.days import random_day
from tests.folding import fold
from tests.golden import golden_days
from tests.usdm_days import random_usdm_day
from tests.usdm_edges import changing_day, edge_day

SEEDS = range(12)


def main(arguments: list[str]) -> int:
    """Fold, and print."""
    if "--mutant" in arguments:
        from margin_stream.core.accounts import postings

        truly = postings.notional
        postings.notional = lambda product, shift: -truly(-product, shift)  # type: ignore[attr-defined]
    days = {f"golden {name}": golden_days.load(name).lines for name in golden_days.NAMES}
    for seed in SEEDS:
        days[f"spot {seed}"] = random_day(seed, noisy=seed % 2 == 1)
        days[f"perpetuals {seed}"] = random_usdm_day(seed)
        days[f"edges {seed}"] = edge_day(seed)
        days[f"both {seed}"] = changing_day(seed)
    found: dict[str, list[str]] = {}
    for place, (name, lines) in enumerate(days.items()):
        ways = [
            fold(lines),
            fold(lines, 7, cuts=Random(place)),
            fold(lines, boxes=False),
            fold(lines, 2, price_filter=VectorFilter),
        ]
        found[name] = [sha256(msgspec.json.encode([digests, effects])).hexdigest() for digests, effects in ways]
    print(json.dumps({"compiled": form().compiled, "days": found}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
