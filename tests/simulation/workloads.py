"""Seeded workloads: the inputs of a day, and how a store takes them in."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

from margin_stream.core.store_fold import Digests
from margin_stream.host.embedded import Host
from margin_stream.journal.disk import Disk
from tests.days import random_day
from tests.folding import fold


class Workload(NamedTuple):
    """A day and the cuts in which it is stored."""

    seed: int
    lines: list[bytes]
    partitions: int
    group: int
    checkpoint: int
    segment_limit: int

    def open(self, path: Path, disk: Disk | None = None) -> Host:
        return Host(
            path,
            partitions=self.partitions,
            group_items=self.group,
            checkpoint_items=self.checkpoint,
            segment_limit=self.segment_limit,
            disk=disk,
        )

    def reference(self) -> Digests:
        """What an uninterrupted fold, without a store, comes to."""
        return fold(self.lines)[0]


def workload(seed: int, steps: int = 150) -> Workload:
    """Return a workload with noise: refusals, duplicates, late items."""
    rng = Random(f"workload {seed}")
    return Workload(
        seed,
        random_day(rng.randrange(10**6), accounts=rng.randint(3, 9), steps=steps, noisy=True),
        partitions=rng.choice((1, 2, 3)),
        group=rng.choice((5, 15, 40)),
        checkpoint=rng.choice((40, 90, 10_000)),
        segment_limit=rng.choice((1500, 5000, 1 << 26)),
    )
