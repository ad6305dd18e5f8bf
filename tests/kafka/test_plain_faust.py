"""The same faults on Faust the plain way must be found wrong: else the trials prove nothing."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from margin_stream.kafka.client import Client
from margin_stream.simulation.broker import Broker


def start(broker: Broker, name: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "tests.kafka.plain_counter",
        "--server",
        broker.server,
        "--name",
        name,
        "--data",
        str(folder),
    ]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def counted(broker: Broker, name: str, folder: Path, kills: int, rng: Random) -> tuple[dict[str, int], dict[str, int]]:
    """Return what the counter says and what is true, after kill -9 while events came."""
    folder.mkdir()
    truth: Counter[str] = Counter()
    with Client([broker.server]) as client:
        client.create_topics({f"{name}-in": 1, f"{name}-out": 1}, {}, 1)
        worker = start(broker, name, folder)
        try:
            for _ in range(kills + 1):
                until = time.monotonic() + rng.uniform(4, 6)
                while time.monotonic() < until:
                    accounts = [f"A-{rng.randrange(20)}" for _ in range(20)]
                    truth.update(accounts)
                    client.send(f"{name}-in", [account.encode() for account in accounts])
                    time.sleep(0.02)
                if kills:
                    kills -= 1
                    worker.kill()
                    worker.wait()
                    worker = start(broker, name, folder)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                client.send(f"{name}-in", [b"?"])
                time.sleep(1)
                last = client.last(f"{name}-out")
                if last is not None:
                    return json.loads(last.value)["counts"], dict(truth)
            raise AssertionError(f"the counter does not answer: {(folder / 'log').read_text()[-1500:]}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            worker.wait()


@pytest.mark.slow
def test_faust_the_plain_way_is_wrong_after_kills(broker: Broker, tmp_path: Path) -> None:
    found, truth = counted(broker, "plain", tmp_path / "plain", 3, Random(1))
    assert found != truth


@pytest.mark.slow
def test_faust_the_plain_way_is_right_without(broker: Broker, tmp_path: Path) -> None:
    """So that the one above is not wrong for another reason."""
    found, truth = counted(broker, "calm", tmp_path / "calm", 0, Random(1))
    assert found == truth
