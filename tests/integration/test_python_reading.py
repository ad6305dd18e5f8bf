"""The library as a person meets it in a notebook: reading beside a writer, values of Python's own types, errors."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import margin_stream
from margin_stream import Store, StoreView
from margin_stream.schemas.times import TimeError, moment_ns
from tests.days import Day, opened_day, random_day

LINES = random_day(11, accounts=8, steps=300)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "s", partitions=2) as opened:
        opened.ingest(LINES)
    return tmp_path / "s"


def test_a_store_is_read_beside_its_writer(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as writer:
        writer.ingest(LINES[:200])
        reader = Store.read(str(tmp_path / "s"))
        assert reader.digests() == writer.digests()
        assert reader.accounts() == writer.accounts()
        writer.ingest(LINES[200:])
        assert reader.digests() == writer.digests()
        assert reader.calls() == writer.calls()
        assert list(reader.effects()) == list(writer.effects()) != []
        assert list(reader.events()) == list(writer.events())
        assert reader.summary() == writer.summary()


def test_answers_are_those_of_the_command_line(store: Path) -> None:
    reader = Store.read(store)
    (account, *_) = [row["account"] for row in reader.accounts()]
    assert reader.state(account)["account"] == account
    calls = reader.calls()
    assert calls
    assert reader.call(calls[0]["call"])["history"]
    effects = list(reader.effects())
    middle = effects[len(effects) // 2]["sequence"]
    assert list(reader.effects(after=middle)) == [row for row in effects if row["sequence"] > middle]
    assert list(reader.effects(after=f"#{middle}")) == list(reader.effects(after=middle))
    kind = effects[0]["type"]
    assert list(reader.effects(type=kind, account=account)) == [
        row for row in effects if (row["type"], row.get("account")) == (kind, account)
    ]
    assert [row["sequence"] for row in reader.refused()] == [
        row["sequence"] for row in reader.effects(type="input_refused")
    ]
    assert all(row["detail"] for row in reader.refused())
    assert reader.replay().equal
    assert reader.verify().ok


def test_a_moment_is_named_in_every_way(store: Path) -> None:
    reader = Store.read(store)
    account = reader.accounts()[0]["account"]
    last = reader.digests().sequence
    clock = reader.summary()["clock"]
    assert clock is not None
    now = reader.state(account)
    moment = datetime.fromisoformat(clock)
    berlin = moment.astimezone(timezone(timedelta(hours=2)))
    for at in (last, f"#{last}", clock, moment, berlin, clock[:10]):
        assert reader.state(account, at=at) == now
    early = reader.state(account, at=f"#{last // 2}")
    assert early["sequence"] == last // 2
    assert reader.accounts(at=last // 2) != reader.accounts()
    for wrong in ("#x", "yesterday", datetime(2021, 5, 19)):
        with pytest.raises(TimeError):
            reader.state(account, at=wrong)


def test_mappings_take_decimals_and_aware_moments(tmp_path: Path) -> None:
    day = opened_day()
    with Store.open(tmp_path / "s") as opened:
        opened.ingest(day.lines)
        at = datetime(2021, 5, 19, 12, 30, tzinfo=UTC)
        quote = {"type": "price_ticked", "source": "mine", "source_seq": 1, "event_time": at, "instrument": "BTCUSDT"}
        counts = opened.ingest([quote | {"price": Decimal("40000.10")}, quote | {"source_seq": 2, "price": 40000.1}])
        assert (counts.accepted, counts.refused) == (1, 1)
        row = next(row for row in opened.events(type="price_ticked") if row["source"] == "mine")
        assert (row["price"], row["event_time"]) == ("40000.1", "2021-05-19T12:30:00Z")
        with pytest.raises(TypeError):
            opened.ingest([quote | {"price": object()}])
        assert opened.accounts(near=Decimal("5")) == opened.accounts(near="5")


@pytest.mark.parametrize("given", ["a line", b"a line", bytearray(b"x"), {"type": "clock_ticked"}])
def test_one_text_where_lines_are_wanted_is_a_type_error(tmp_path: Path, given: object) -> None:
    with Store.open(tmp_path / "s") as opened:
        before = opened.digests()
        with pytest.raises(TypeError, match="list of"):
            opened.ingest(given)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            opened.ingest([5])  # type: ignore[list-item]
        assert opened.digests() == before


def test_a_mistyped_path_makes_no_store(tmp_path: Path) -> None:
    for make in (lambda: Store.read(tmp_path / "typo"), lambda: Store.open(tmp_path / "typo", create=False)):
        with pytest.raises(margin_stream.StoreMissing):
            make()
        with pytest.raises(margin_stream.StoreError):
            make()
    assert list(tmp_path.iterdir()) == []


def test_every_exported_name_is_there_and_every_error_is_one() -> None:
    for name in margin_stream.__all__:
        found = getattr(margin_stream, name)
        if isinstance(found, type) and issubclass(found, BaseException):
            assert issubclass(found, margin_stream.Error)
    assert set(margin_stream.__all__) <= set(dir(margin_stream))
    with pytest.raises(AttributeError):
        _ = margin_stream.nothing
    code = (
        "import sys, margin_stream; print([m for m in ('msgspec', 'numpy', 'polars', 'rocksdict') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_store_shows_what_it_holds(store: Path) -> None:
    reader = Store.read(store)
    summary = reader.summary()
    shown = repr(reader)
    assert shown.startswith("<StoreView")
    for part in (
        repr(store.name),
        f"{summary['accounts']} accounts",
        f"{summary['calls_open']} open calls",
        summary["clock"],
    ):
        assert part in shown
    page = reader._repr_html_()
    assert page.startswith("<table>")
    assert f"<td>{summary['accounts']}</td>" in page
    with Store.open(store) as opened:
        assert repr(opened).startswith("<Store ")
        assert isinstance(opened, StoreView)


def test_a_name_with_markup_is_shown_as_text(tmp_path: Path) -> None:
    path = tmp_path / "<b>&"
    with Store.open(path) as opened:
        opened.ingest(Day().lines)
        assert "<b>" not in opened._repr_html_()


def test_an_hour_that_came_twice_is_two_moments() -> None:
    zone = ZoneInfo("America/New_York")
    first, second = (moment_ns(datetime(2024, 11, 3, 1, 30, tzinfo=zone, fold=fold)) for fold in (0, 1))
    assert second - first == 3600 * 10**9
