"""Each golden day notices the faults that it is there for: the folds with one thing wrong, and the days that must find
it out."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any, NamedTuple

import pytest

from margin_stream.core.accounts.fold import AccountFold
from margin_stream.core.accounts.transactions import Transactions
from margin_stream.core.calls import lifecycle
from margin_stream.core.checks import Fault
from margin_stream.core.intake import validation
from margin_stream.core.intake.fold import IntakeFold
from margin_stream.core.intake.identity import BookSource, FeedSource
from margin_stream.core.margin import valuation
from margin_stream.core.margin.valuation import Banded
from margin_stream.core.market import quote_guard
from margin_stream.core.market.market import Market
from margin_stream.core.market.quote_guard import QuoteGuard
from margin_stream.core.store_fold import StoreFold
from margin_stream.schemas import times
from margin_stream.schemas.rules_versions import LATEST
from tests.folding import fold
from tests.golden.golden_days import NAMES, GoldenDay, accounts_of, load

pytestmark = pytest.mark.plain_core


class Edit(NamedTuple):
    """A function of the folds, and what is written otherwise in it."""

    owner: Any
    name: str
    old: str
    new: str

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = inspect.unwrap(getattr(self.owner, self.name))
        source = textwrap.dedent(inspect.getsource(original))
        assert self.old in source, f"{self.name} does not say {self.old!r} any more: write the mutant anew"
        made: dict[str, Any] = {}
        exec("from __future__ import annotations\n" + source.replace(self.old, self.new), original.__globals__, made)
        monkeypatch.setattr(self.owner, self.name, made[self.name])


CLOCK, BOOK, FEED = (validation, "clock"), (BookSource, "look"), (FeedSource, "look")
JUDGE, BAND, STALE, TIMERS = (
    (QuoteGuard, "judge"),
    (quote_guard, "within_band"),
    (Market, "tick_clock"),
    (lifecycle, "run_timers"),
)

MUTANTS: dict[str, tuple[list[Edit], set[str]]] = {
    "a feed takes lower numbers": (
        [Edit(*FEED, "if number > self.highest", "if number != self.highest")],
        {"duplicates", "reordered"},
    ),
    "a book counts again what came before": (
        [Edit(*BOOK, "return Seen.DUPLICATE\n", "return Seen.NEW\n")],
        {"duplicates"},
    ),
    "another content under a number is dropped": (
        [Edit(*BOOK, "return Seen.REUSED", "return Seen.DUPLICATE")],
        {"duplicates", "reordered"},
    ),
    "a book only rises": (
        [
            Edit(
                *BOOK,
                "return Seen.NEW",
                "return Seen.NEW if not self._runs or sequence > self._runs[-1].start else Seen.DUPLICATE",
            )
        ],
        {"reordered"},
    ),
    "a refused quote leaves its number free": (
        [
            Edit(
                IntakeFold,
                "_refuse",
                "self.refused += 1",
                "self.refused += 1; self.sources.feeds.pop(identity.get('source', ''), None)",
            )
        ],
        {"duplicates"},
    ),
    "the clock goes back": ([Edit(*CLOCK, "event.time < clock_ns", "event.time < 0")], {"clock_jumps", "two_clocks"}),
    "an operator turns the clock back": (
        [Edit(*CLOCK, "event.time < clock_ns", "event.time < clock_ns and not event.confirmed_by")],
        {"clock_jumps"},
    ),
    "an equal clock is refused": (
        [Edit(*CLOCK, "event.time < clock_ns", "event.time <= clock_ns")],
        {"clock_jumps", "two_clocks"},
    ),
    "eight days are too far": ([Edit(*CLOCK, "> CLOCK_JUMP_LIMIT_NS", ">= CLOCK_JUMP_LIMIT_NS")], {"clock_jumps"}),
    "a jump needs nobody": ([Edit(*CLOCK, "not event.confirmed_by", "False")], {"clock_jumps"}),
    "quotes move the clock": (
        [
            Edit(
                IntakeFold,
                "offer",
                "self.quotes.tick(",
                "self._clock(ClockTicked(source=event.source, source_seq=0, event_time=0, time=event.event_time)) and "
                "False or self.quotes.tick(",
            )
        ],
        {"clock_stuck"},
    ),
    "timers fire at quotes": (
        [
            Edit(
                AccountFold,
                "_mark",
                "evaluator.evaluate_to_rest(account)",
                "evaluator.evaluate_to_rest(account); evaluator.run_timers(account)",
            )
        ],
        {"clock_stuck"},
    ),
    "timers fire by kind": ([Edit(*TIMERS, "min(due)", "min(due, key=lambda row: row[1])")], {"clock_stuck"}),
    "the due time itself is late": (
        [
            Edit(*TIMERS, "call.due_at_ns < case.now_ns", "call.due_at_ns <= case.now_ns"),
            Edit(lifecycle, "next_timer", "due_at_ns + 1", "due_at_ns"),
        ],
        {"clock_jumps", "daylight_saving", "outage"},
    ),
    "persistence is a nanosecond short": (
        [
            Edit(lifecycle, "_matures_at", "+ call_type.persistence_ns", "+ call_type.persistence_ns - 1"),
        ],
        {"leap_second"},
    ),
    "undecided ends persistence": (
        [Edit(lifecycle, "_watch", "if breached is GuardState.FALSE", "if breached is not GuardState.TRUE")],
        {"clock_stuck"},
    ),
    "a due time that passes undecided sells": (
        [Edit(lifecycle, "_pass_due", "is GuardState.UNDECIDED", "is None")],
        {"clock_jumps", "outage"},
    ),
    "a second version never takes effect": (
        [Edit(*STALE, "known is None or known.version < event.version", "known is None")],
        {"clock_stuck"},
    ),
    "stale at the limit": (
        [Edit(Market, "_expiry", "+ instrument.stale_after_ns", "+ instrument.stale_after_ns - 1")],
        {"outage"},
    ),
    "one limit for all": (
        [Edit(Market, "_expiry", "instrument.stale_after_ns", "self.directory.instruments[1].stale_after_ns")],
        {"outage"},
    ),
    "nothing goes stale": (
        [Edit(*STALE, "expiries and expiries[0][0]", "0 and expiries[0][0]")],
        {"clock_jumps", "daylight_saving", "outage", "dust_coin"},
    ),
    "a stale mark counts as fresh": (
        [Edit(valuation, "reads_open_marks", "return figures.unbounded or", "return figures.unbounded and")],
        {"clock_jumps", "outage", "dust_coin"},
    ),
    "an undecided level is left": (
        [Edit(lifecycle, "_holds", "found is GuardState.UNDECIDED", "False")],
        {"clock_jumps", "daylight_saving", "outage", "crash_after_gap", "dust_coin"},
    ),
    "an undecided level is entered": (
        [Edit(lifecycle, "_holds", "case.subaccount.level >= level", "True")],
        {"clock_jumps", "outage", "crash_after_gap", "dust_coin"},
    ),
    "add-on calls do not wait": (
        [Edit(lifecycle, "_add_on_from", "+ call_type.tranche_interval_ns", "")],
        {"two_clocks"},
    ),
    "dust shields its holder": ([Edit(Banded, "truth", "self._bounds(guard)", "GuardState.UNDECIDED")], {"dust_coin"}),
    "a coin without a mark counts nothing": ([Edit(valuation.Corners, "write", "0, NO_BOUND", "0, 0")], {"dust_coin"}),
    "a deposit without a mark is forgotten": (
        [Edit(Transactions, "move", "cross.pending_deposits.append", "id")],
        {"dust_coin"},
    ),
    "a single print is believed": (
        [Edit(*JUDGE, "found, accepted = Quote.DEVIATION, 0", "found, accepted = Quote.ACCEPTED, price")],
        {"wrong_print", "sources_disagree", "crash_after_gap"},
    ),
    "two prints are enough": (
        [Edit(*JUDGE, "len(refused.quotes) == instrument.reanchor_quotes", "len(refused.quotes) >= 2")],
        {"wrong_print", "sources_disagree"},
    ),
    "an accepted quote leaves the row": (
        [Edit(*JUDGE, "if number in self.refused", "if False")],
        {"wrong_print", "sources_disagree"},
    ),
    "a source agrees with itself": (
        [Edit(*JUDGE, "last[0][1] != source", "True")],
        {"wrong_print", "sources_disagree"},
    ),
    "a second source is not asked": (
        [Edit(*JUDGE, "last[0][1] != source", "False")],
        {"crash_after_gap", "sources_disagree"},
    ),
    "the edge of the band is outside": ([Edit(*BAND, "<= band_ppm * mark", "< band_ppm * mark")], {"crash_after_gap"}),
    "the band does not widen": ([Edit(*BAND, "* age_ns //", "* 0 //")], {"crash_after_gap"}),
    "a stale band is like any other": ([Edit(*BAND, "if market.stale[number]", "if False")], {"outage"}),
}


def notices(day: GoldenDay) -> bool:
    try:
        system = StoreFold(2, rules_version=LATEST)
        verdicts = [system.admission.line(line).value for line in day.lines]
        system.fold(compare_markets=True)
        return verdicts != day.verdicts() or accounts_of(system) != day.accounts or fold(day.lines)[1] != day.effects
    except Fault:
        return True


def found_out() -> set[str]:
    return {name for name in NAMES if notices(load(name))}


@pytest.mark.slow_after(6, reason="every mutant of the core folds golden days")
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_found_out(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    edits, days = MUTANTS[mutant]
    for edit in edits:
        edit.apply(monkeypatch)
    assert found_out() >= days


def test_a_leap_second_that_is_read_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: 23:59:60 is taken for the second after 23:59:59."""
    Edit(
        times,
        "parse_time",
        "seconds, fraction = match.groups()",
        "seconds, fraction = match.group(1).replace(':60', ':59'), None",
    ).apply(monkeypatch)
    monkeypatch.setattr("margin_stream.schemas.ndjson.parse_time", times.parse_time)
    monkeypatch.setattr("margin_stream.schemas.objects.parse_time", times.parse_time)
    assert "leap_second" in found_out()


def test_an_offset_that_is_passed_over_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: local time is taken for UTC."""
    monkeypatch.setattr(times, "_TIME", re.compile(times._TIME.pattern.replace(r"\+00:00", r"[+-][0-9]{2}:[0-9]{2}")))
    # Not through the cache, which others read.
    for module in ("margin_stream.schemas.ndjson", "margin_stream.schemas.objects"):
        monkeypatch.setattr(f"{module}.parse_time", inspect.unwrap(times.parse_time))
    assert "daylight_saving" in found_out()


def test_without_a_mutant_nothing_is_found() -> None:
    assert found_out() == set()


def test_every_day_has_a_mutant_that_it_must_find() -> None:
    assert set(NAMES) <= set().union(*(days for _, days in MUTANTS.values()))
