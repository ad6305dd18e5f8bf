"""``import accounts``, ``positions``, ``collateral``, ``prices``: a broker's own files into a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from margin_stream.cli.error_output import diagnose, failure, report
from margin_stream.cli.errors import CORRUPT, DONE
from margin_stream.cli.ingest import exit_code, summary, tell_recovery
from margin_stream.cli.output import OnStore, Progress, print_note, show
from margin_stream.cli.signals import Stopper
from margin_stream.cli.usage import InputFileMissing, OptionsConflict, UsageError
from margin_stream.files import STDIN

if TYPE_CHECKING:
    from margin_stream.importers.own_data.cells import Reading
    from margin_stream.importers.own_data.forms import Kind
    from margin_stream.importers.own_data.imports import Booked, Read

SHOWN_LIMIT = 10

Files = Annotated[
    tuple[Path, ...],
    Parameter(
        name="FILE", show_default=False, consume_multiple=True, help="CSV, TSV, xlsx or Parquet; plain, gz or zip."
    ),
]
At = Annotated[
    str | None,
    Parameter(help="The moment of the file, such as 2024-03-01T14:30:00Z; the store's clock if left out."),
]
Zone = Annotated[str | None, Parameter(help="Time zone of times without an offset, such as America/New_York.")]
Undo = Annotated[
    bool,
    Parameter(negative="", help="Take back what an import of the files (or the last one) booked, by new events."),
]
NegativeIsLoan = Annotated[bool, Parameter(negative="", help="A negative amount is what the account owes.")]
KindName = Annotated[
    Literal["equity", "spot", "perpetual"] | None, Parameter(help="What instruments are that the store does not list.")
]
Quote = Annotated[str | None, Parameter(help="The currency that they are quoted in.")]
PriceScale = Annotated[int | None, Parameter(help="Decimal places of their prices.")]
QuantityScale = Annotated[int | None, Parameter(help="Decimal places of their quantities.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Table:
    """How every file of rows is read."""

    map: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            help="THEIRS=OURS: the file's column THEIRS is our column OURS; once for each.",
        ),
    ] = ()
    decimal_comma: Annotated[bool, Parameter(negative="", help="Numbers are written 1.234,50.")] = False
    sheet: Annotated[str | None, Parameter(help="The sheet of a workbook; the first one if left out.")] = None
    check: Annotated[
        bool, Parameter(negative="", help="Read everything, write nothing, and list every problem by row.")
    ] = False


def import_accounts(
    files: Files = (),
    /,
    *,
    profile: Annotated[str, Parameter(help="Of accounts whose row names none.")] = "prime",
    undo: Undo = False,
    table: Table = Table(),
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Open accounts from your own files, and change those that differ.

    Columns: account; profile, base_currency, desk, contacts may be left out. An account that the file does not name
    stays as it is. The profile must be active: `margin-stream profiles template` prints what activates it.

    Try:
      margin-stream import accounts accounts.csv
      margin-stream import accounts clients.xlsx --map 'Client ID=account' --map Book=desk
      margin-stream import accounts accounts.csv --check
    """
    return _import(common, table, "accounts", files, undo=undo, constants={"profile": profile})


def import_positions(
    files: Files = (),
    /,
    *,
    collateral: Annotated[
        tuple[Path, ...],
        Parameter(
            negative="",
            show_default=False,
            help="A file of balances of the same moment, booked together with the positions.",
        ),
    ] = (),
    at: At = None,
    zone: Zone = None,
    negative_is_loan: NegativeIsLoan = False,
    kind: KindName = None,
    quote: Quote = None,
    price_scale: PriceScale = None,
    quantity_scale: QuantityScale = None,
    undo: Undo = False,
    table: Table = Table(),
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Book positions from your own files: what differs from the store is traded, what the files do not name is closed.

    The files together are all positions of the store at one moment. Columns: account, instrument, quantity; side,
    price, kind, currency, leverage, isolated, position_side may be left out. A difference is booked at the column
    price, else at the last mark, and moves cash as a trade does; --collateral books the balances of that moment too.

    Try:
      margin-stream import positions positions.csv --collateral balances.csv --at 2024-03-01T14:30:00Z
      margin-stream import positions depot.xlsx --map Stk=quantity --map ISIN=instrument --decimal-comma
      margin-stream import positions positions.csv --undo
    """
    constants = {"kind": kind, "currency": quote}
    return _import(
        common,
        table,
        "positions",
        files,
        undo=undo,
        at=at,
        zone=zone,
        constants=constants,
        price_scale=price_scale,
        quantity_scale=quantity_scale,
        collateral=collateral,
        negative_is_loan=negative_is_loan,
    )


def import_collateral(
    files: Files = (),
    /,
    *,
    at: At = None,
    zone: Zone = None,
    negative_is_loan: NegativeIsLoan = False,
    undo: Undo = False,
    table: Table = Table(),
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Book balances of money and assets from your own files: what differs from the store is moved.

    Columns: account, asset, amount; loan (what is owed) and isolated may be left out. A balance that the files do not
    name stays as it is, and is named.

    Try:
      margin-stream import collateral balances.csv
      margin-stream import collateral cash.csv --map Saldo=amount --decimal-comma --negative-is-loan
    """
    return _import(common, table, "collateral", files, undo=undo, at=at, zone=zone, negative_is_loan=negative_is_loan)


def import_prices(
    files: Files = (),
    /,
    *,
    zone: Zone = None,
    date_format: Annotated[str | None, Parameter(help="Of the times, such as '%d.%m.%Y %H:%M'.")] = None,
    time_of_day: Annotated[str | None, Parameter(help="Of days without a time, such as 16:00.")] = None,
    kind: KindName = None,
    quote: Quote = None,
    price_scale: PriceScale = None,
    confirmed_by: Annotated[
        str, Parameter(help="Who confirms that time moves by more than eight days between two rows.")
    ] = "",
    undo: Undo = False,
    table: Table = Table(),
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Quote prices from your own files; each time in them moves the store's clock.

    Columns: time, instrument, price; bid, ask, kind, currency may be left out. A time is ISO 8601, in the
    --date-format, or a count of seconds, milliseconds, microseconds or nanoseconds since 1970. Safe to run again.

    Try:
      margin-stream import prices monday.csv --zone America/New_York
      margin-stream import prices kurse.csv --decimal-comma --date-format '%d.%m.%Y %H:%M' --zone Europe/Berlin
      margin-stream import prices closes.parquet --time-of-day 16:00 --zone America/New_York --kind equity --quote USD
    """
    constants = {"kind": kind, "currency": quote}
    return _import(
        common,
        table,
        "prices",
        files,
        undo=undo,
        zone=zone,
        date_format=date_format,
        time_of_day=time_of_day,
        constants=constants,
        price_scale=price_scale,
        confirmed_by=confirmed_by,
    )


def _import(
    common: OnStore,
    table: Table,
    kind: Kind,
    paths: tuple[Path, ...],
    *,
    undo: bool,
    constants: dict[str, str | None] | dict[str, str] | None = None,
    at: str | None = None,
    **options: Any,
) -> int:
    from margin_stream.host.embedded import Host
    from margin_stream.importers.own_data import imports
    from margin_stream.importers.own_data.cells import moment_ns
    from margin_stream.importers.own_data.problems import WrongCell
    from margin_stream.journal.layout import Layout, StoreMissing, read_manifest

    path = common.path
    if not paths and not undo:
        raise OptionsConflict(f"import {kind}: name at least one file")
    collateral: tuple[Path, ...] = options.get("collateral", ())
    for file in paths + collateral:
        if file != STDIN and not file.is_file():
            raise InputFileMissing(f"{file}: no such file", file=file)
    if undo and table.check:
        raise OptionsConflict("--undo, --check: one of them", option="--undo")
    reading = _reading(table, options)
    try:
        at_ns = None if at is None else moment_ns(at, reading)
    except WrongCell as error:
        raise UsageError(f"--at {at}: {error}; {error.expected}", option="--at") from None
    files = imports.OwnFiles(
        kind,
        paths,
        collateral,
        names=_names(kind, table.map),
        constants={name: value for name, value in (constants or {}).items() if value},
        reading=reading,
        sheet=table.sheet,
        at_ns=at_ns,
        **{name: value for name, value in options.items() if name in ("price_scale", "quantity_scale", "confirmed_by")},
    )
    given = imports.read(files)
    try:
        read_manifest(Layout(path))  # A store that is not there is not made.
    except StoreMissing:
        if not table.check:
            raise
        return _check_without_store(common, given)
    if table.check:
        from margin_stream.views.store import folds_at

        folds = folds_at(path)
        found = imports.Booked(imports.plan_of(files, given, folds, folds.sequence))
        return _shown(common, given, found, {}, check=True)
    with Stopper() as stopper, Host(path) as host:
        tell_recovery(common, host)
        if undo:
            found = imports.undo(kind, given.digest if paths else None, host)
        else:
            progress = Progress(common, "inputs")
            found = imports.book(
                files, given, host, stop=stopper.asked, progress=lambda done: progress.update(done, None)
            )
            progress.end()
        after = _after(common, host, found)
    code = _shown(common, given, found, after, check=False)
    return code or exit_code(stopper, common, refused=False)


def _after(common: OnStore, host: Any, found: Booked) -> dict[str, Any]:
    """Return what ``ingest`` prints, where something was sent."""
    from margin_stream import views

    if found.plan.problems:
        return {}
    counts = found.counts
    if counts is None:
        return {} if common.json else views.summary(host.system)
    sent = summary(counts, 0, host.effects_total, host.checkpoint())
    if common.json:
        return sent
    people = ("accepted", "duplicate", "refused", "effects", "last")
    return {name: sent[name] for name in people} | views.summary(host.system)


def _reading(table: Table, options: dict[str, Any]) -> Reading:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from margin_stream.importers.market import ZoneUnknown
    from margin_stream.importers.own_data.cells import Reading

    zone = options.get("zone")
    try:
        clock = ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ZoneUnknown(f"--zone: {zone!r} is no time zone{_near_zone(zone)}", option="--zone") from None
    time_of_day = options.get("time_of_day")
    if time_of_day is not None:
        from datetime import time

        try:
            time.fromisoformat(time_of_day)
        except ValueError:
            raise UsageError(f"--time-of-day {time_of_day}: such as 16:00", option="--time-of-day") from None
    return Reading(
        decimal_comma=table.decimal_comma,
        date_format=options.get("date_format"),
        zone=clock,
        time_of_day=time_of_day,
        negative_is_loan=options.get("negative_is_loan", False),
    )


def _near_zone(zone: str | None) -> str:
    from zoneinfo import available_timezones

    from margin_stream.settings import did_you_mean

    return did_you_mean(zone or "", sorted(available_timezones()))


def _names(kind: Kind, pairs: tuple[str, ...]) -> dict[str, str]:
    """Return their column -> ours."""
    from margin_stream.importers.own_data.forms import COLUMNS
    from margin_stream.settings import did_you_mean

    known = (
        [column.name for name in (kind, "collateral") for column in COLUMNS[name]]
        if kind == "positions"
        else [column.name for column in COLUMNS[kind]]
    )
    names = {}
    for pair in pairs:
        theirs, equals, ours = pair.rpartition("=")
        if not equals or not theirs.strip():
            raise UsageError(f"--map {pair}: write THEIRS=OURS, such as --map 'Qty Held=quantity'", option="--map")
        if ours not in known:
            what = f"--map {pair}: no column {ours!r}{did_you_mean(ours, known)}; there are {', '.join(known)}"
            raise UsageError(what, option="--map")
        names[theirs] = ours
    return names


def _check_without_store(common: OnStore, given: Read) -> int:
    """Show what is wrong with the cells; nothing can be compared."""
    from margin_stream.importers.own_data.imports import Booked
    from margin_stream.importers.own_data.plan import Plan

    print_note(common, f"no store at {common.store}: accounts, instruments and scales are not checked")
    parts = [part for part in given[1:] if part is not None]
    plan = Plan(given.rows.kind, problems=[one for part in parts for one in part.problems])
    plan.notes += [note for part in parts for note in part.notes]
    return _shown(common, given, Booked(plan), {}, check=True)


def _shown(common: OnStore, given: Read, found: Booked, after: dict[str, Any], *, check: bool) -> int:
    """Show what was understood, what is wrong, and what came of it."""
    plan = found.plan
    problems = sorted(plan.problems, key=lambda one: (str(one.where.get("file", "")), int(one.where.get("row", 0))))
    for one in problems if check else problems[:SHOWN_LIMIT]:
        report(diagnose(one), as_json=common.json)
    parts = [part for part in given[1:] if part is not None]
    for note in [note for part in parts for note in part.files] + plan.notes:
        print_note(common, note)
    row = {"source": plan.source, "rows": sum(len(part.rows) for part in parts), **plan.facts}
    if problems:
        row = {"rows": row["rows"], "problems": len(problems)}
        if not check:
            text = f"{len(problems)} problems: nothing was written; --check lists all of them"
            report(failure("import_refused", text, store=common.store), as_json=common.json)
    elif check:
        row["problems"] = 0
        print_note(common, "nothing was written")
    elif found.counts is None:
        print_note(common, "nothing differs from the store: nothing was written")
    show(common, row | after)
    return CORRUPT if problems else DONE
