"""What the intake hands on and what it stores: positions, numbers, rows by key; and what it says of rows that are not
its own."""

from __future__ import annotations

import msgspec
import pytest

from margin_stream.core.checks import Fault
from margin_stream.core.intake.admission import Admission
from margin_stream.core.intake.fold import IntakeFold, Verdict
from margin_stream.core.intake.identity import IDENTITY_WINDOW, content_hash, flagged
from margin_stream.core.sequenced import Batch, Changed, Marked, Moved, Traded
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas.columns import TickColumns, pack
from margin_stream.schemas.inputs import CollateralMoved, PositionChanged
from margin_stream.schemas.rules_versions import LATEST
from tests.days import Day, random_day
from tests.folding import readable
from tests.unit.test_core_intake import prepared, said_of
from tests.usdm_days import random_usdm_day


@pytest.mark.parametrize("lines", [random_day(3, noisy=True), random_usdm_day(3)])
def test_what_is_handed_on_carries_its_position_and_effects_their_number(lines: list[bytes]) -> None:
    intake = StoreFold(3, rules_version=LATEST).intake
    admission = Admission(intake)
    numbers = {"@intake": 0, "@market": 0}
    for n, line in enumerate(lines):
        admission.line(line)
        if n % 10 == 9:
            before = intake.routes.previous
            whole, *batches = intake.take(market_digest=True)
            assert (whole.previous, whole.last, whole.market_digest) == (before, intake.sequence, b"")
            for batch in batches:
                positions = [item.sequence for item in batch.items]
                assert all(type(position) is int and before < position <= batch.last for position in positions)
                assert positions == sorted(set(positions))
                assert (batch.previous, batch.last, batch.market_digest) == (
                    before,
                    intake.sequence,
                    intake.market.digest(),
                )
            for effect in intake.book.drain():
                numbers[effect.group] += 1
                assert (effect.number, readable(effect.data)["id"]) == (
                    numbers[effect.group],
                    f"{effect.group}/{effect.number}",
                )
                assert before < effect.sequence <= intake.sequence
    assert numbers["@market"] > 0
    batches = intake.take()
    assert {batch.market_digest for batch in batches} == {b""}


def test_activating_the_engine_in_force_moves_nothing() -> None:
    _, system = prepared()
    system.intake.take()
    assert said_of(system, "engine_activated", version=LATEST, approved_by="x") is None
    assert [batch.items for batch in system.intake.take()[1:]] == [[], []]


def test_a_change_of_an_account_hands_on_what_it_names_and_nothing_else() -> None:
    _, system = prepared()
    system.intake.take()
    for seq, fields in enumerate(({"desk": "d"}, {"contacts": ["x", "y"]}, {"profile": "binance-usdm"}, {}), start=1):
        assert said_of(system, "account_changed", seq=seq, account="A", **fields) is None
    items = [item for batch in system.intake.take()[1:] for item in batch.items]
    position = system.sequence
    assert items == [
        Changed(position - 3, "A", None, "d", None),
        Changed(position - 2, "A", None, None, ("x", "y")),
        Changed(position - 1, "A", "binance-usdm", None, None),
        Changed(position, "A", None, None, None),
    ]
    assert system.intake.accounts.entries["A"].profile == "binance-usdm"


@pytest.mark.parametrize(
    "units", [0, 1, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 2**70, -(2**95) + 1, 2**96 - 1]
)
def test_amounts_of_any_size_travel_to_the_partitions_and_back(units: int) -> None:
    _, system = prepared()
    intake = system.intake
    intake.take()
    move = CollateralMoved(source="m", source_seq=1, event_time=0, account="A", asset="USDT", amount_delta=(units, -2))
    trade = PositionChanged(
        source="m",
        source_seq=2,
        event_time=0,
        account="A",
        instrument="BTCUSDT",
        quantity_delta=(units, -4),
        price=(1, 0),
        fee=(units, -2),
    )
    assert intake.offer(move, b"1") is Verdict.ACCEPTED
    assert intake.offer(trade, b"2") is Verdict.ACCEPTED
    for batch in intake.take():
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(batch), type=Batch)
        for item in again.items:
            for value in (
                (item.amount,)
                if isinstance(item, Moved)
                else (item.quantity, item.fee)
                if isinstance(item, Traded)
                else ()
            ):
                assert (int.from_bytes(value, "big", signed=True) if isinstance(value, bytes) else value) == units


def test_columns_before_the_first_clock_are_refused_one_by_one() -> None:
    day = Day()
    day.directory()
    system = StoreFold(1, rules_version=LATEST)
    for line in day.lines:
        system.admission.line(line)

    def ticks(first: int) -> TickColumns:
        columns = {
            "index": pack("H", [0, 0]),
            "sequence": pack("q", [first, first + 1]),
            "time": pack("q", [0, 0]),
            "price": pack("q", [4, 5]),
        }
        return TickColumns(source="feed", instruments=("BTCUSDT",), exponents=(4,), **columns)

    assert system.intake.offer_columns(ticks(1)) == (0, 0, 2)
    assert system.intake.last_refusal == ("clock_required", "no clock_ticked came yet")
    assert said_of(system, "clock_ticked", source="clock", time="1970-01-01T00:00:00.000000001Z") is None
    system.intake.take()
    assert system.intake.offer_columns(ticks(3)) == (2, 0, 0)
    assert [item for item in system.intake.take()[1].items if isinstance(item, Marked)] == [
        Marked(system.sequence - 1, 1, 4_000_000),
    ]
    system.intake.book.drain()
    system.intake.take()
    assert system.intake.book.drain() == []


def test_duplicates_too_old_to_be_compared_are_counted() -> None:
    _, system = prepared()
    system.intake.sources.window = 16
    for seq in range(1, 41):
        assert (
            said_of(system, "collateral_moved", source="b", seq=seq, account="A", asset="USDT", amount_delta="1")
            is None
        )
    event = CollateralMoved(source="b", source_seq=1, event_time=0, account="A", asset="USDT", amount_delta=(5, 0))
    for n in range(1, 4):
        assert system.intake.offer(event, b"whatever") is Verdict.DUPLICATE
        assert system.intake.sources.not_compared == n
    fresh = CollateralMoved(source="b", source_seq=40, event_time=0, account="A", asset="USDT", amount_delta=(5, 0))
    assert system.intake.offer(fresh, b"whatever") is Verdict.REFUSED
    assert system.intake.sources.not_compared == 3


# ---- rows
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
#
# ---------------------------------------------------------------------------------------------------------------------


def rows_of(system: StoreFold) -> dict[bytes, bytes]:
    return dict(system.intake.rows())


def test_rows_are_kept_by_account_book_and_hash() -> None:
    day, system = prepared()
    assert (
        said_of(
            system,
            "profile_activated",
            profile="p",
            model="prime",
            version=1,
            effective_from="2020-01-01T00:00:00Z",
            approved_by="r",
            parameters=day.parameters,
        )
        is None
    )
    assert said_of(system, "account_opened", seq=2, account="B", base_currency="USDT", profile="p") is None
    assert said_of(system, "collateral_moved", seq=3000, account="B", asset="USDT", amount_delta="1") is None
    assert said_of(system, "collateral_moved", seq=3000, account="B", asset="USDT", amount_delta="2") is not None
    system.admission.line(b"nonsense")
    rows = rows_of(system)
    undecodable = b"undecodable/" + next(iter(system.intake.sources.undecodable))
    book = system.intake.sources.books["more"]
    assert list(rows)[-1] == b"meta"
    assert {key: value for key, value in rows.items() if key not in (b"meta", b"identity/book\0" + bytes(8))} == {
        b"account/A": bytes(4) + b"prime",
        b"account/U": bytes(4) + b"binance-usdm",
        b"account/B": bytes(4) + b"p",
        undecodable: b"",
        b"identity/more\0" + (0).to_bytes(8, "big"): book.block(0),
        b"identity/more\0" + (2).to_bytes(8, "big"): book.block(2),
    }
    again = restored(rows, system.sequence, 5000)
    again.book = system.intake.book
    assert again.digest() == system.intake.digest()
    assert again.accounts.entries == system.intake.accounts.entries
    assert again.sources.is_known_undecodable(b"nonsense")
    assert again.sources.undecodable == system.intake.sources.undecodable
    assert again.sources.books["more"].others == book.others
    assert (again.sources.window, {found.window for found in again.sources.books.values()}) == (5000, {5000})
    assert {name: found.name for name, found in {**again.sources.books, **again.sources.feeds}.items()} == {
        name: name for name in ("book", "more", "feed")
    }
    assert {
        name: found.name for name, found in {**system.intake.sources.books, **system.intake.sources.feeds}.items()
    } == {name: name for name in ("book", "more", "feed")}
    system.intake.mark_stored()
    assert list(rows_of(system)) == [b"meta"]
    # What was refused under a taken number is known again, and refused once only.
    event = CollateralMoved(
        source="more", source_seq=3000, event_time=0, account="B", asset="USDT", amount_delta=(9, 0)
    )
    for intake in (again, system.intake):
        assert intake.offer(event, b"nine") is Verdict.REFUSED
        assert intake.offer(event, b"nine") is Verdict.DUPLICATE
    assert again.facts()[:-1] == system.intake.facts()[:-1]
    assert again.sources.books["more"].others[3000].popitem()[0] == flagged(content_hash(b"nine"))


def restored(rows: dict[bytes, bytes], position: int = 0, window: int = IDENTITY_WINDOW) -> IntakeFold:
    intake = IntakeFold(2, rules_version=LATEST, window=window)
    intake.restore(position, sorted(rows.items()))
    return intake


def test_rows_that_are_not_the_intakes_are_an_error_with_its_reason() -> None:
    _, system = prepared()
    rows = rows_of(system)
    key = b"identity/book\0" + bytes(8)
    held = len(rows[key]) // 16
    with pytest.raises(ValueError) as caught:
        restored({**rows, key: rows[key][:-16]}, system.sequence)
    assert str(caught.value) == f"identities of book: {held - 1} rows, {held} expected"
    with pytest.raises(ValueError) as caught:
        restored({name: value for name, value in rows.items() if name != key}, system.sequence)
    assert str(caught.value) == f"identities of book: 0 rows, {held} expected"
    with pytest.raises(Fault, match="the intake stands where its marker states"):
        restored(rows, system.sequence + 1)
    with pytest.raises(msgspec.DecodeError):
        restored({name: value for name, value in rows.items() if name != b"meta"}, system.sequence)
    assert restored({**rows, b"account/A": bytes(4) + b"p"}, system.sequence).accounts.entries["A"].profile == "p"
