"""``python -m tests.simulation.media WHAT --trials N --seed S``: campaigns against the embedded host's files.

WHAT is ``flips`` (one bit of any file), ``shapes`` (pages, segments, files of another time or store, missing ones),
``torn`` (records torn at every byte), ``calls`` (a crash, a power cut and a refusal at every call to the disk of a
workload), ``libfiu`` (failing calls to the system of the whole process), ``limits`` (few files, little memory),
``bits`` (every bit of a store, one at a time; trials 1 to 251 are all of them), ``stops`` (SIGSTOP of writers and
readers, for at most ``--longest`` seconds), ``memory`` (an ingest with too few addresses or pages). ``kills`` are in
``tests.simulation.kills``. Every failure prints the command that repeats it; the last line is a JSON object of counts.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from typing import NamedTuple

from tests.simulation import bits, damage, guarding, io_calls, machine, memory, stops, torn


class Campaign(NamedTuple):
    """How the trials of one kind run."""

    trial: guarding.Trial
    trials: int
    batch: int
    limit_s: float


CAMPAIGNS = {
    "flips": Campaign(damage.flip_trial, 100_000, damage.SEEDS_A_STORE, 120),
    "shapes": Campaign(damage.shape_trial, 1_000, damage.SEEDS_A_STORE, 120),
    "torn": Campaign(torn.trial, 20, 1, 1800),
    "calls": Campaign(io_calls.trial, 20, 1, 1800),
    "libfiu": Campaign(machine.calls_trial, 1_000, 1, 300),
    "limits": Campaign(machine.limits_trial, 1_000, 1, 300),
    "bits": Campaign(bits.trial, bits.CLASSES, 26, 300),
    "stops": Campaign(stops.trial, 300, 1, 400),
    "memory": Campaign(memory.trial, 300, 10, 400),
}


def run(what: str, trials: int, seed: int, workers: int, longest: float | None = None) -> dict[str, object]:
    """Run a campaign and return counts and failures."""
    campaign, also = CAMPAIGNS[what], ""
    if longest is not None:
        campaign = campaign._replace(trial=functools.partial(stops.trial, longest=longest))
        also = f"--longest {longest} "
    started = time.monotonic()
    outcome = guarding.run(
        campaign.trial,
        range(seed, seed + trials),
        command=f"python -m tests.simulation.media {what} --trials 1 {also}--seed ",
        workers=workers,
        batch=campaign.batch,
        limit_s=campaign.limit_s,
    )
    return {
        "campaign": what,
        **dict(sorted(outcome.counts.items())),
        "failures": len(outcome.failures),
        "first_seed": seed,
        "failed": outcome.failures[:5],
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=sorted(CAMPAIGNS))
    parser.add_argument("--trials", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--longest", type=float, default=None, help="stops: seconds of the longest")
    words = parser.parse_args()
    if words.longest is not None and words.what != "stops":
        parser.error("--longest goes with stops")
    trials = words.trials if words.trials is not None else CAMPAIGNS[words.what].trials
    row = run(words.what, trials, words.seed, words.workers or 1, words.longest)
    print(json.dumps(row))
    sys.exit(1 if row["failures"] else 0)


if __name__ == "__main__":
    main()
