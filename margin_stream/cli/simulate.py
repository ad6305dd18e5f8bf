"""``simulate``: an input day made from a seed; and what every command does that makes inputs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from margin_stream.cli.completions import profile_names, scenario_names
from margin_stream.cli.error_output import failure, report
from margin_stream.cli.errors import DONE
from margin_stream.cli.output import Common, Progress, print_note
from margin_stream.cli.usage import UsageError
from margin_stream.simulation import DEFAULT_PROFILES

if TYPE_CHECKING:
    from margin_stream.importers.market import Pair
    from margin_stream.schemas.inputs import AnyInput
    from margin_stream.simulation.perpetual_books import Tables


def simulate_day(
    *,
    scenario: Annotated[str, Parameter(completer=scenario_names, help="crash, walk or quiet.")] = "crash",
    accounts: Annotated[int, Parameter(help="How many accounts.")] = 1000,
    seed: int = 1,
    profile: Annotated[
        tuple[str, ...],
        Parameter(
            completer=profile_names,
            negative="",
            help="The margin profile of the accounts; given more than once, accounts take them in turn. "
            "binance-usdm lists a perpetual beside each pair, with synthetic leverage brackets.",
        ),
    ] = DEFAULT_PROFILES,
    brackets: Annotated[
        Path | None,
        Parameter(help="Leverage brackets of a venue (JSON, gz too) instead of the synthetic ones; lists perpetuals."),
    ] = None,
    common: Common = Common(),  # noqa: B008 (frozen)
) -> int:
    """Print a simulated input day as NDJSON; equal arguments give equal bytes.

    Perpetuals are funded every eight hours, traded, and closed where liquidation is due.
    Without --brackets their leverage brackets are synthetic: sound, made from the seed, of no venue.

    Try:
      margin-stream simulate --scenario crash --accounts 1000 --seed 1 > day.ndjson
      margin-stream simulate --accounts 200 --profile prime --profile binance-usdm > both.ndjson
      margin-stream simulate --scenario quiet --accounts 50 | margin-stream ingest
    """
    from margin_stream.simulation.scenarios import SCENARIOS, pairs, simulate

    _check("--scenario", (scenario,), sorted(SCENARIOS))
    check_accounts(accounts, profile)
    tables = None if brackets is None else tables_for(common, pairs(), brackets)[0]
    print_inputs(common, simulate(scenario, accounts, seed, profile, tables), None)
    return DONE


def check_accounts(accounts: int, profiles: tuple[str, ...]) -> None:
    from margin_stream.profiles import names

    if not 0 <= accounts <= 1_000_000:
        raise UsageError(f"--accounts {accounts}: from 0 to 1,000,000", option="--accounts")
    _check("--profile", profiles, names())


def _check(option: str, given: tuple[str, ...], known: list[str]) -> None:
    from margin_stream.settings import did_you_mean

    for word in given:
        if word not in known:
            raise UsageError(
                f"{option} {word!r}: there are {', '.join(known)}{did_you_mean(word, known)}", option=option
            )


def print_inputs(common: Common, events: Iterable[AnyInput], expected: float | None) -> int:
    """Print inputs; return how many there were.

    Args:
        expected: about how many there will be, where that is known.
    """
    from margin_stream.schemas.ndjson import encode_line

    progress, count = Progress(common, "inputs"), 0
    for count, event in enumerate(events, start=1):
        sys.stdout.buffer.write(encode_line(event))
        if count % 4096 == 0:
            progress.update(count, expected and min(count / expected, 1.0))
    progress.end()
    sys.stdout.buffer.flush()
    return count


def tables_for(common: Common, listed: Mapping[str, Pair], path: Path) -> tuple[Tables, int]:
    """Return the tables of the listed pairs, and how many of them are unsound; report what is wrong, and which pairs
    have
    none.

    Raises:
        ImportFault: the file holds no tables.
    """
    from margin_stream.importers.brackets import read_brackets
    from margin_stream.importers.market import base_currency_of

    found = read_brackets(path)
    base = base_currency_of(listed)
    wanted = {(pair.name, pair.currency) for pair in listed.values() if pair.currency == base}
    for key in sorted(wanted & set(found.notes)):
        for text in found.notes[key]:
            print_note(common, f"{path}: {text}")
    faulty = sorted(found.faults)
    for key in faulty:
        if key in wanted:
            for text in found.faults[key]:
                report(failure("brackets_unsound", f"{path}: {text}", file=str(path)), as_json=common.json)
            print_note(common, f"{key[0]} is not listed as a perpetual: its table is named above, not repaired")
    others = [name for name, currency in faulty if (name, currency) not in wanted]
    if others:
        print_note(common, f"{path}: {len(others)} other tables do not fit: {', '.join(others)}")
    lacking = sorted(
        name
        for name, currency in wanted
        if (name, currency) not in found.sound and (name, currency) not in found.faults
    )
    if lacking:
        print_note(common, f"{path}: no table for {', '.join(lacking)}: not listed as perpetuals")
    return {name: found.sound[name, currency] for name, currency in sorted(wanted & set(found.sound))}, len(
        wanted & set(faulty)
    )
