"""The crash day with 1,000 accounts on a real Kafka: the bytes of the embedded host, for any partitions, cuts and
repeats."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from margin_stream.core.effect_book import EffectBook
from margin_stream.host.embedded import Host
from margin_stream.kafka import topics_admin
from margin_stream.kafka.address import parse_address
from margin_stream.kafka.client import Client
from margin_stream.kafka.producer import records_of
from margin_stream.schemas.ndjson import read_lines
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.simulation.broker import Broker
from tests.folding import DATA
from tests.integration.test_both_profiles import crash_hours
from tests.kafka.running import run, summary, workers

DAY = DATA / "binance_2021-05-19_1m"


def day(path: Path) -> None:
    """Write the recorded crash day with 1,000 accounts; where it is not here, a simulated one."""
    recorded = sorted(DAY.glob("*_1m.csv.gz"))
    words = (
        ["import", "bars", *map(str, recorded), "--accounts", "1000"]
        if recorded
        else ["simulate", "--scenario", "crash"]
    )
    with path.open("wb") as file:
        subprocess.run(
            [sys.executable, "-m", "margin_stream.cli", *words, "--seed", "1", "--quiet"], stdout=file, check=True
        )


def recut(lines: list[bytes]) -> Iterator[bytes]:
    """Yield the day in records of other sizes and forms."""
    rng = Random(7)
    place = 0
    while place < len(lines):
        count = rng.randrange(1, 3000)
        part = lines[place : place + count]
        place += count
        if rng.random() < 0.5:
            yield b"\n".join(part[:2000])
            yield from records_of(part[2000:], LATEST)
        else:
            yield from records_of(part, LATEST)


@pytest.mark.slow
def test_the_crash_day_is_the_embedded_one_on_every_partition_count(broker: Broker, tmp_path: Path) -> None:
    source = tmp_path / "day.ndjson"
    day(source)
    with source.open("rb") as file:
        lines = list(read_lines(file))
    once = list(records_of(lines, LATEST))
    cases = [
        ("one", 1, once),
        ("two", 2, once),
        ("seven", 7, once),
        ("recut", 2, list(recut(lines))),
        ("twice", 2, [*once, *once]),
    ]
    compare(broker, tmp_path, lines, cases)


@pytest.mark.slow
def test_both_profiles_are_the_embedded_ones_on_every_partition_count(broker: Broker, tmp_path: Path) -> None:
    """The three hours around the low, half of the accounts in perpetuals; where the recorded day is not here, this is
    skipped."""
    lines = crash_hours(200)
    once = list(records_of(lines, LATEST))
    compare(
        broker,
        tmp_path,
        lines,
        [("usdm-one", 1, once), ("usdm-two", 2, list(recut(lines))), ("usdm-seven", 7, [*once, *once])],
    )


def compare(broker: Broker, tmp_path: Path, lines: list[bytes], cases: list[tuple[str, int, list[bytes]]]) -> None:
    """Fold lines in a folder, and each case on Kafka; demand equal digests and effects."""
    with Host(tmp_path / "embedded") as host:
        host.ingest(lines)
        expected = host.checkpoint()
    embedded = run("events", "--effects", "--store", str(tmp_path / "embedded"))

    def one(name: str, partitions: int, records: list[bytes]) -> tuple[str, object]:
        store = f"kafka://{broker.server}/{name}"
        address = parse_address(store)
        with Client(address.servers) as client:
            topics_admin.init(client, address, partitions)
            with workers(store, tmp_path / name):
                for place in range(0, len(records), 50):
                    client.send(address.topics.inputs, records[place : place + 50])
                found = run("ingest", str(empty), "--store", store)[0]
        assert summary(found) == tuple(expected), name
        return name, run("events", "--effects", "--store", store)

    empty = tmp_path / "empty.ndjson"
    empty.touch()
    with ThreadPoolExecutor(3) as pool:
        for name, effects in pool.map(lambda case: one(*case), cases):
            assert effects == embedded, name
    assert len(embedded) > 1000
    assert EffectBook().hexdigest() != expected.effects
