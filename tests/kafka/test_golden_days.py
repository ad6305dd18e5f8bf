"""The golden days on a real broker: workers fold them to the digests and the effects on paper, in one partition and in
seven."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from margin_stream.kafka import topics_admin
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.client import Client
from margin_stream.kafka.producer import DigestReader, await_folded
from margin_stream.kafka.reader import KafkaReader
from margin_stream.replay.topic_verification import verify
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.simulation.broker import Broker
from tests.golden.golden_days import FOLDER, NAMES, load
from tests.golden.test_golden_days_on_hosts import in_order, records
from tests.kafka.running import workers

AT_ONCE = 4
"""Stores that are worked on at the same time; a worker takes seconds to start, and most of that it waits."""


@pytest.mark.slow
def test_every_golden_day_says_on_a_broker_what_it_says_on_paper(broker: Broker, tmp_path: Path) -> None:
    recorded = {name: tuple(row) for name, row in json.loads((FOLDER / f"digests.v{LATEST}.json").read_text()).items()}
    cases = [(name, partitions) for name in NAMES for partitions in (1, 7)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [
            pool.submit(one, broker, tmp_path, name, partitions, recorded[name]) for name, partitions in cases
        ]:
            done.result()


def one(broker: Broker, folder: Path, name: str, partitions: int, recorded: tuple[int, str, str]) -> None:
    """Fold a day with a worker, as records of any size and form, all of it sent twice."""
    day = load(name)
    rng = Random(f"{name} {partitions}")
    store = f"kafka://{broker.server}/golden-{name}-{partitions}"
    address = parse_address(store)
    with Client(address.servers) as client:
        manifest = topics_admin.init(client, address, partitions)
        for _ in range(2):
            client.send(address.topics.inputs, records(day.lines, rng))
        with workers(store, folder / f"{name}-{partitions}"):
            deadline = time.monotonic() + 120
            last = client.end(address.topics.inputs) - 1
            said = await_folded(DigestReader(client, address, manifest), last, lambda: time.monotonic() < deadline)
        assert said is not None, (folder / f"{name}-{partitions}" / "w0.log").read_text()[-2000:]
        assert tuple(said.digests) == recorded, (name, partitions)
        reader = KafkaReader(client, address)
        effects = [data for log in range(partitions + 1) for data in reader.effects(log)]
        assert in_order(effects) == day.effects, (name, partitions)
        assert verify(client, address).problems == [], (name, partitions)
