"""Random days as a store of today would have journalled them, and the digests that they must have in every later build.

Nobody worked these out by hand: they say nothing about right and wrong, only that a journal replays to what it said
when it was written. A change here needs a decision record (before 1.0 a new store format, then a new rules version). ``python -m
tests.golden.recorded_days`` prints ``recorded_days.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from margin_stream.core.store_fold import Digests, StoreFold
from margin_stream.schemas.rules_versions import LATEST
from tests.days import random_day
from tests.usdm_days import random_usdm_day

FILE = Path(__file__).parent / "recorded_days.json"
PRIME_SEEDS = range(8)
USDM_SEEDS = range(100, 112)


def days() -> dict[str, tuple[int, list[bytes]]]:
    """Return rules version and lines of each day, by name."""
    found = {f"prime {seed}": (LATEST, prime_day(seed)) for seed in PRIME_SEEDS}
    return found | {f"usdm {seed}": (LATEST, random_usdm_day(seed)) for seed in USDM_SEEDS}


def prime_day(seed: int) -> list[bytes]:
    return random_day(seed, noisy=True)


def folded(rules_version: int, lines: list[bytes], name: str) -> Digests:
    """Fold a day in two partitions, cut at random."""
    rng = Random(name)
    system = StoreFold(2, rules_version=rules_version)
    for line in lines:
        system.admission.line(line)
        if rng.randrange(20) == 0:
            system.fold(compare_markets=True)
    system.fold(compare_markets=True)
    return system.digests()


if __name__ == "__main__":
    rows = {name: folded(rules_version, lines, name) for name, (rules_version, lines) in days().items()}
    print("{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()) + "\n}")
