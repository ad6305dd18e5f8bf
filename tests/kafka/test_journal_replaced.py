"""A journal's topic that is cut or made anew: the worker names it, and folds nothing on the wrong past."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from margin_stream.kafka.client import Client
from margin_stream.simulation.broker import Broker
from tests.days import random_day
from tests.kafka.running import complaint, run, workers

LINES = random_day(41, accounts=6, steps=150)
OTHER = random_day(42, accounts=6, steps=150)
pytestmark = pytest.mark.slow


def intake(store: str) -> dict[str, Any]:
    rows = run("kafka", "status", "--store", store)[0]["shards"]
    # While a topic is gone nobody has its partition.
    return next((row for row in rows if row["kind"] == "intake"), {"failed": None})


def await_failed(store: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        row = intake(store)
        if row["failed"] or time.monotonic() > deadline:
            return row
        time.sleep(0.3)


def replace(broker: Broker, topic: str, lines: list[bytes]) -> None:
    with Client([broker.server]) as client:
        client.delete_topics([topic])
        time.sleep(2)
        client.create_topics({topic: 1}, {}, 1)
        client.send(topic, lines)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("many", [True, False])
def test_a_topic_made_anew_is_named_and_not_folded(broker: Broker, tmp_path: Path, running: bool, many: bool) -> None:
    name = f"replaced{int(running)}{int(many)}"
    store = f"kafka://{broker.server}/{name}"
    day = tmp_path / "day.ndjson"
    day.write_bytes(b"\n".join(LINES) + b"\n")
    run("kafka", "init", "--store", store, "--partitions", "1")
    others = OTHER if many else OTHER[:3]
    with workers(store, tmp_path / "w"):
        run("ingest", str(day), "--store", store)
        before = intake(store)
        assert before["failed"] is None
        if running:
            replace(broker, f"{name}.inputs", others)
            look(store, before, day)
        else:
            time.sleep(2)
    if not running:
        replace(broker, f"{name}.inputs", others)
        with workers(store, tmp_path / "w"):
            look(store, before, day)


def look(store: str, before: dict[str, Any], day: Path) -> None:
    """See that the shard stopped where it was, and that a command that sends says why it does not wait."""
    row = await_failed(store)
    assert row["failed"] is not None
    assert "cut or made anew" in row["failed"]
    assert (row["offset"], row["sequence"]) == (before["offset"], before["sequence"])
    assert row["ready"] is False
    said = complaint("ingest", str(day), "--store", store, code=4)
    assert "cut or made anew" in said
    assert "[shard_stopped]" in said
