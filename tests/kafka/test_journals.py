"""One contract over the journals in memory, in segment files and on a topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from margin_stream.kafka.address import MESSAGE_LIMIT, parse_address
from margin_stream.kafka.client import Client
from margin_stream.kafka.copies import to_topic
from margin_stream.kafka.topics_admin import FOR_EVER
from margin_stream.schemas.records import LINE, raw_items
from margin_stream.schemas.rules_versions import LATEST
from margin_stream.simulation.broker import Broker
from margin_stream.views.source import Items
from tests.journals import Journal, MemoryJournal, SegmentJournal, TopicJournal
from tests.kafka.simulated import Log, Topical

Opener = Callable[[], Journal]
STORE = bytes(range(16))


@pytest.fixture(params=["memory", "segments", pytest.param("topic", marks=pytest.mark.slow)])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Return what opens the same journal, again and again."""
    if request.param == "memory":
        memory = MemoryJournal()
        yield lambda: memory
    elif request.param == "segments":
        yield lambda: SegmentJournal(tmp_path / "journal", STORE)
    else:
        broker: Broker = request.getfixturevalue("broker")
        topic = f"journal-{tmp_path.name}"
        with Client([broker.server]) as client:
            client.create_topics({topic: 1}, {topic: FOR_EVER}, 1)
            yield lambda: TopicJournal(client, topic)


@pytest.mark.slow(reason="very many lines")
def test_a_record_of_very_many_short_lines_is_copied_in_several() -> None:
    """Each line has a head of its own in the copy, so the whole would be more than the broker takes."""
    lines = [LINE + b"%d" % (n % 10) for n in range(MESSAGE_LIMIT // 2)]
    log = Log()
    log.values["t.inputs", 0] = []
    source = SimpleNamespace(items=lambda: [Items(1, lines)], last_record=1, rules_version=LATEST)
    count = to_topic(source, Topical(log, 1, "t"), parse_address("kafka://h:1/t"))  # type: ignore[arg-type]
    values = log.values["t.inputs", 0]
    assert count == len(values) > 1
    assert max(len(value or b"") for value in values) < MESSAGE_LIMIT
    assert [item for value in values for item in raw_items(value)] == lines


def test_an_empty_journal_has_nothing(opener: Opener) -> None:
    journal = opener()
    assert journal.end() == 0
    assert list(journal.records()) == []
    journal.close()


def test_records_come_back_as_they_were_numbered_from_one(opener: Opener) -> None:
    rng = Random(1)
    values = [rng.randbytes(rng.randrange(1, 4000)) for _ in range(300)]
    journal = opener()
    done = 0
    while done < len(values):
        count = rng.randrange(1, 40)
        assert journal.append(values[done : done + count]) == min(done + count, len(values))
        done += count
    assert list(journal.records()) == list(enumerate(values, start=1))
    journal.close()


@pytest.mark.parametrize("after", [0, 1, 7, 19, 20])
def test_reading_begins_behind_any_record(opener: Opener, after: int) -> None:
    journal = opener()
    values = [bytes([n]) for n in range(20)]
    journal.append(values)
    assert list(journal.records(after)) == list(enumerate(values, start=1))[after:]
    journal.close()


def test_what_was_appended_is_there_when_opened_again(opener: Opener) -> None:
    journal = opener()
    journal.append([b"one", b"two"])
    journal.close()
    again = opener()
    assert again.end() == 2
    assert again.append([b"three"]) == 3
    assert [value for _, value in again.records()] == [b"one", b"two", b"three"]
    again.close()


def test_a_reader_ends_where_the_journal_ended(opener: Opener) -> None:
    journal = opener()
    journal.append([b"one"])
    reading = journal.records()
    assert next(reading) == (1, b"one")
    assert journal.end() == 1
    journal.append([b"two"])
    assert [value for _, value in journal.records(1)] == [b"two"]
    journal.close()


def test_a_record_of_a_mebibyte(opener: Opener) -> None:
    value = Random(2).randbytes((1 << 20) + 100)
    journal = opener()
    journal.append([b"small", value, b"small"])
    assert list(journal.records(1)) == [(2, value), (3, b"small")]
    journal.close()
