"""Seeded trials with faults; run in a process of their own. ``python -m tests.kafka.trials --trials 100`` runs more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 4])
def test_workers_and_broker_under_faults_are_exact(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kafka.trials", "--trials", "3", "--seed", str(seed)],
        capture_output=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()[-2000:]
    happened = json.loads(done.stdout.splitlines()[-1])
    assert happened["failures"] == []
    assert happened["effects"] > 100
    assert happened["restores"] > 10
