"""``import``: market data files become inputs, and a store's segments another store."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from margin_stream.cli.completions import MARKET_FORMATS, OWN_DATA, market_formats, profile_names
from margin_stream.cli.error_output import diagnose, failure, report
from margin_stream.cli.errors import CORRUPT, DONE
from margin_stream.cli.export import copy_journal
from margin_stream.cli.output import Common, print_note
from margin_stream.cli.simulate import check_accounts, print_inputs, tables_for
from margin_stream.cli.usage import OptionsConflict, UsageError
from margin_stream.files import STDIN

if TYPE_CHECKING:
    from margin_stream.importers.market import RowLeftOut

SHOWN_LIMIT = 10


def import_market(
    form: Annotated[
        str, Parameter(name="FORMAT", completer=market_formats, help=f"One of {', '.join(MARKET_FORMATS)}.")
    ],
    paths: Annotated[tuple[Path, ...], Parameter(name="PATH", consume_multiple=True)],
    /,
    *,
    accounts: Annotated[int, Parameter(help="Also seed so many accounts with positions and collateral that fit.")] = 0,
    seed: int = 1,
    profile: Annotated[
        tuple[str, ...],
        Parameter(
            completer=profile_names,
            negative="",
            help="The margin profile of the accounts; given more than once, accounts take them in turn.",
        ),
    ] = ("prime",),
    brackets: Annotated[
        Path | None,
        Parameter(
            help="Leverage brackets (JSON, gz too): lists perpetuals beside the pairs and activates binance-usdm."
        ),
    ] = None,
    funding: Annotated[
        tuple[Path, ...],
        Parameter(negative="", help="With --brackets: Binance's funding rates; without, seeded accounts pay 0.01 %."),
    ] = (),
    cover_low: Annotated[str, Parameter(help="Least V / D that an account starts with.")] = "1.45",
    cover_high: Annotated[str, Parameter(help="Greatest V / D that an account starts with.")] = "3",
    zone: Annotated[str | None, Parameter(help="Time zone of local times, such as America/New_York.")] = None,
    label: Annotated[
        Literal["open", "close"] | None,
        Parameter(help="What a bar's time names; by default open for ts_ms, close for datetime."),
    ] = None,
    interval: Annotated[
        str | None,
        Parameter(help="How long a bar is, such as 1s, 1m, 1h, 1d; by default as the bars lie or their file is named."),
    ] = None,
    kind: Annotated[
        Literal["spot", "equity"] | None, Parameter(help="What a symbol is of which that cannot be told.")
    ] = None,
    quote: Annotated[str | None, Parameter(help="The currency in which such a symbol is quoted.")] = None,
    symbol: Annotated[
        str | None, Parameter(help="The symbol of files that do not state theirs, such as AAPL or BTC/USDT.")
    ] = None,
    strict: Annotated[bool, Parameter(negative="", help="Stop with exit 4 if a row had to be left out.")] = False,
    into: Annotated[
        str | None,
        Parameter(help="With segments: copy the journal into this store, bit for bit, instead of printing its inputs."),
    ] = None,
    common: Common = Common(),  # noqa: B008 (frozen)
) -> int:
    """Your own files into the store (accounts, positions, collateral, prices), or market files as inputs (NDJSON).

    Try:
      margin-stream import accounts accounts.csv
      margin-stream import positions positions.csv --collateral balances.csv --at 2024-03-04T14:30:00Z
      margin-stream import prices monday.csv --zone America/New_York
      margin-stream import bars usdt.csv.gz btc.csv.gz --accounts 1000 > day.ndjson
      zcat usdt.csv.gz | margin-stream import bars - > day.ndjson
      margin-stream import bars us.csv.gz --zone America/New_York --accounts 200 --cover-low 2
      margin-stream import bars usdt.csv.gz --accounts 9 --profile prime --profile binance-usdm --brackets tiers.json
      margin-stream import binance-klines BTCUSDT-1m-2021-05-19.zip
      margin-stream import yahoo AAPL.csv MSFT.csv --zone America/New_York
      margin-stream import ccxt BTC_USDT-5m.json --brackets tiers.json --funding BTCUSDT-fundingRate-2021-05.zip
      margin-stream import segments ./margin-store --into kafka://localhost:9092/demo
    """
    from margin_stream.importers.binance import read_funding
    from margin_stream.importers.files import read_market
    from margin_stream.settings import did_you_mean
    from margin_stream.simulation.day import Accounts, day_events
    from margin_stream.simulation.perpetual_books import USDM

    if form not in MARKET_FORMATS:
        known = [*OWN_DATA, *MARKET_FORMATS]
        text = f"import {form}: no such format{did_you_mean(form, known)}; your own files: {', '.join(OWN_DATA)}"
        raise UsageError(f"{text}; market files: {', '.join(MARKET_FORMATS)}", option="FORMAT")
    if not paths:
        raise OptionsConflict("import: name at least one file")
    if form == "segments":
        return _import_segments(common, paths, into)
    if form.startswith("binance") and STDIN in paths:
        raise OptionsConflict(
            f"import {form} -: its files are named after their symbol, and standard input has no name",
            file=STDIN,
        )
    if into is not None:
        raise OptionsConflict(
            "--into goes with the format segments; pipe other formats into `margin-stream ingest`",
            option="--into",
        )
    if funding and brackets is None:
        raise OptionsConflict("--funding goes with --brackets FILE, which lists the perpetuals", option="--funding")
    check_accounts(accounts, profile)
    if accounts and USDM in profile and brackets is None:
        raise OptionsConflict(
            f"--profile {USDM}: needs --brackets FILE, the venue's leverage brackets", option="--brackets"
        )
    low, high = _thousandths("--cover-low", cover_low), _thousandths("--cover-high", cover_high)
    if not 1000 <= low <= high:
        raise UsageError("--cover-low, --cover-high: at least 1, and low not above high", option="--cover-low")
    complaints: list[RowLeftOut] = []
    try:
        market = read_market(
            form,
            paths,
            zone=zone,
            label=label,
            complain=complaints.append,
            interval_s=None if interval is None else _seconds(interval),
            kind=kind,
            quote=quote,
            symbol=symbol,
        )
        rates = read_funding(funding, complaints.append)
    finally:
        for complaint in complaints[:SHOWN_LIMIT]:
            report(diagnose(complaint), as_json=common.json)
    if complaints:
        print_note(common, f"{len(complaints)} rows were left out")
        if strict:
            return CORRUPT
    tables, unsound = (None, 0) if brackets is None else tables_for(common, market.pairs, brackets)
    idle = sorted({rate.symbol for rate in rates} - set(tables or ()))
    if idle:
        print_note(common, f"--funding: no perpetual of {', '.join(idle)}: these rates are not used")
    if strict and unsound:
        return CORRUPT
    wanted = Accounts(accounts, seed, profile, low, high) if accounts else None
    count = print_inputs(common, day_events(market, wanted, tables, rates), 4.1 * len(market.bars))
    print_note(
        common,
        f"{len(market.bars):,} bars of {len(market.pairs)} instruments, {count:,} inputs, source {market.source}",
    )
    return DONE


def _import_segments(common: Common, paths: tuple[Path, ...], into: str | None) -> int:
    from margin_stream.schemas.ndjson import encode_line
    from margin_stream.schemas.records import line_form
    from margin_stream.views.journal import numbered_items
    from margin_stream.views.source import source_of

    if len(paths) != 1:
        raise OptionsConflict("import segments: name one store's folder")
    if into is not None:
        return copy_journal(common, str(paths[0]), into, None)
    write = sys.stdout.buffer.write
    left_out = 0
    reader = source_of(paths[0])
    for _, _, item in numbered_items(reader, reader.items()):
        line = line_form(item) if isinstance(item, bytes) else encode_line(item)[:-1]  # type: ignore[arg-type]
        if line is None:
            left_out += 1
        else:
            write(line + b"\n")
    sys.stdout.buffer.flush()
    if left_out:
        report(
            failure("items_not_printable", f"{left_out} refused msgpack items cannot be printed as lines"),
            as_json=common.json,
        )
    return DONE


def _seconds(text: str) -> int:
    from margin_stream.importers.market import LENGTHS_S

    found = re.fullmatch(r"(\d{1,5})([smhdw])", text)
    length = (
        int(found.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}[found.group(2)] if found else 0
    )
    if length not in LENGTHS_S:
        raise UsageError(f"--interval {text}: such as 1s, 15s, 1m, 5m, 1h, 4h, 1d", option="--interval")
    return length


def _thousandths(option: str, text: str) -> int:
    from margin_stream.schemas.decimals import DecimalError, parse_decimal, scaled

    try:
        amount = scaled(parse_decimal(text), 3)
    except DecimalError as error:
        raise UsageError(f"{option}: {error}", option=option) from None
    if amount is None:
        raise UsageError(f"{option} {text}: at most three decimal places", option=option)
    return amount
