"""Commands that make or take inputs: simulate, import, ingest."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from margin_stream.cli import on_kafka
from margin_stream.cli.completions import profile_names, scenario_names
from margin_stream.cli.error_output import Failure, diagnose, failure, report
from margin_stream.cli.errors import CORRUPT, DONE, INTERRUPTED, MISMATCH, TERMINATED
from margin_stream.cli.output import Common, OnStore, Progress, say, show
from margin_stream.cli.reading import ENGINE_HELP, place_of
from margin_stream.cli.usage import InputFileMissing, OptionsConflict, UsageError
from margin_stream.engine import DEFAULT, EngineName
from margin_stream.files import STDIN, opened
from margin_stream.simulation import DEFAULT_PROFILES
from schemas.records import LINE
from schemas.refusals import ADVICE, Refusal, RefusedInput

if TYPE_CHECKING:
    from margin_stream.core.system import Digests
    from margin_stream.host.embedded import Host
    from margin_stream.importers.market import Pair, RowLeftOut
    from margin_stream.simulation.perpetual_books import Tables
    from schemas.inputs import AnyInput

SHOWN_LIMIT = 10


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
        Path | None, Parameter(help="Leverage brackets of a venue (JSON, gz too) instead of the synthetic ones; lists perpetuals.")
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
    _check_accounts(accounts, profile)
    tables = None if brackets is None else tables_for(common, pairs(), brackets)[0]
    _print(common, simulate(scenario, accounts, seed, profile, tables), None)
    return DONE


def _check_accounts(accounts: int, profiles: tuple[str, ...]) -> None:
    from margin_stream.profiles import names

    if not 0 <= accounts <= 1_000_000:
        raise UsageError(f"--accounts {accounts}: from 0 to 1,000,000", option="--accounts")
    _check("--profile", profiles, names())


def _check(option: str, given: tuple[str, ...], known: list[str]) -> None:
    from margin_stream.settings import did_you_mean

    for word in given:
        if word not in known:
            raise UsageError(f"{option} {word!r}: there are {', '.join(known)}{did_you_mean(word, known)}", option=option)


def _print(common: Common, events: Iterable[AnyInput], expected: float | None) -> int:
    """Print inputs; return how many there were.

    Args:
        expected: about how many there will be, where that is known.
    """
    from schemas.ndjson import encode_line

    progress, count = Progress(common, "inputs"), 0
    for count, event in enumerate(events, start=1):
        sys.stdout.buffer.write(encode_line(event))
        if count % 4096 == 0:
            progress.update(count, expected and min(count / expected, 1.0))
    progress.end()
    sys.stdout.buffer.flush()
    return count


def import_market(
    form: Annotated[Literal["bars", "binance-klines", "segments"], Parameter(name="FORMAT")],
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
        Path | None, Parameter(help="Leverage brackets (JSON, gz too): lists perpetuals beside the pairs and activates binance-usdm.")
    ] = None,
    cover_low: Annotated[str, Parameter(help="Least V / D that an account starts with.")] = "1.45",
    cover_high: Annotated[str, Parameter(help="Greatest V / D that an account starts with.")] = "3",
    zone: Annotated[str | None, Parameter(help="Time zone of local times, such as America/New_York.")] = None,
    label: Annotated[
        Literal["open", "close"] | None, Parameter(help="What a bar's time names; by default open for ts_ms, close for datetime.")
    ] = None,
    strict: Annotated[bool, Parameter(negative="", help="Stop with exit 4 if a row had to be left out.")] = False,
    into: Annotated[
        str | None, Parameter(help="With segments: copy the journal into this store, bit for bit, instead of printing its inputs.")
    ] = None,
    common: Common = Common(),  # noqa: B008 (frozen)
) -> int:
    """Turn market data files into inputs (NDJSON).

    Try:
      margin-stream import bars usdt.csv.gz btc.csv.gz --accounts 1000 > day.ndjson
      zcat usdt.csv.gz | margin-stream import bars - > day.ndjson
      margin-stream import bars us.csv.gz --zone America/New_York --accounts 200 --cover-low 2
      margin-stream import bars usdt.csv.gz --accounts 1000 --profile prime --profile binance-usdm --brackets tiers.json.gz
      margin-stream import binance-klines BTCUSDT-1m-2021-05-19.zip
      margin-stream import segments ./margin-store --into kafka://localhost:9092/demo
    """
    from margin_stream.importers.day import Accounts, day_events
    from margin_stream.importers.files import read_market
    from margin_stream.simulation.perpetual_books import USDM

    if not paths:
        raise OptionsConflict("import: name at least one file")
    if form == "segments":
        return _import_segments(common, paths, into)
    if form == "binance-klines" and STDIN in paths:
        raise OptionsConflict("import binance-klines -: its files are named after their symbol, and standard input has no name", file=STDIN)
    if into is not None:
        raise OptionsConflict(
            "--into goes with the format segments; pipe other formats into `margin-stream ingest`",
            option="--into",
        )
    _check_accounts(accounts, profile)
    if accounts and USDM in profile and brackets is None:
        raise OptionsConflict(f"--profile {USDM}: needs --brackets FILE, the venue's leverage brackets", option="--brackets")
    low, high = _thousandths("--cover-low", cover_low), _thousandths("--cover-high", cover_high)
    if not 1000 <= low <= high:
        raise UsageError("--cover-low, --cover-high: at least 1, and low not above high", option="--cover-low")
    complaints: list[RowLeftOut] = []
    market = read_market(form, paths, zone=zone, label=label, complain=complaints.append)
    for complaint in complaints[:SHOWN_LIMIT]:
        report(diagnose(complaint), as_json=common.json)
    if complaints:
        say(common, f"{len(complaints)} rows were left out")
        if strict:
            return CORRUPT
    tables, unsound = (None, 0) if brackets is None else tables_for(common, market.pairs, brackets)
    if strict and unsound:
        return CORRUPT
    wanted = Accounts(accounts, seed, profile, low, high) if accounts else None
    count = _print(common, day_events(market, wanted, tables), 4.1 * len(market.bars))
    say(common, f"{len(market.bars):,} bars of {len(market.pairs)} instruments, {count:,} inputs, source {market.source}")
    return DONE


def tables_for(common: Common, listed: Mapping[str, Pair], path: Path) -> tuple[Tables, int]:
    """Return the tables of the listed pairs, and how many of them are unsound; say what is wrong, and which pairs have none.

    Raises:
        ImportFault: the file holds no tables.
    """
    from margin_stream.importers.brackets import read_brackets
    from margin_stream.importers.market import base_currency_of

    found = read_brackets(path)
    base = base_currency_of(listed)
    wanted = {(pair.name, pair.currency) for pair in listed.values() if pair.currency == base}
    faulty = sorted(found.faults)
    for key in faulty:
        if key in wanted:
            for text in found.faults[key]:
                report(failure("brackets_unsound", f"{path}: {text}", file=str(path)), as_json=common.json)
            say(common, f"{key[0]} is not listed as a perpetual: its table is named above, not repaired")
    others = [name for name, currency in faulty if (name, currency) not in wanted]
    if others:
        say(common, f"{path}: {len(others)} other tables do not fit: {', '.join(others)}")
    lacking = sorted(name for name, currency in wanted if (name, currency) not in found.sound and (name, currency) not in found.faults)
    if lacking:
        say(common, f"{path}: no table for {', '.join(lacking)}: not listed as perpetuals")
    return {name: found.sound[name, currency] for name, currency in sorted(wanted & set(found.sound))}, len(wanted & set(faulty))


def _import_segments(common: Common, paths: tuple[Path, ...], into: str | None) -> int:
    from replay.reader import singles_of, source_of
    from schemas.ndjson import encode_line

    if len(paths) != 1:
        raise OptionsConflict("import segments: name one store's folder")
    if into is not None:
        return copy_journal(common, str(paths[0]), into, None)
    write = sys.stdout.buffer.write
    left_out = 0
    source = source_of(paths[0])
    for record in source.items():
        for item in record.items:
            for single in singles_of(item, source.rules_version):
                if isinstance(single, bytes):
                    if single[:1] == LINE:
                        write(single[1:] + b"\n")
                    else:
                        left_out += 1
                else:
                    write(encode_line(single))  # type: ignore[arg-type]
    sys.stdout.buffer.flush()
    if left_out:
        report(failure("items_not_printable", f"{left_out} refused msgpack items cannot be printed as lines"), as_json=common.json)
    return DONE


def export(
    to: Annotated[str, Parameter(name="TO")],
    /,
    *,
    partitions: Annotated[int | None, Parameter(help="Of a new folder; by default as many as the store has.")] = None,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Copy the store's journal into another store: a new folder, or a store on Kafka that `kafka init` has just made.

    Try:
      margin-stream export ./copy --store kafka://localhost:9092/demo
      margin-stream export kafka://localhost:9092/demo --store ./margin-store
    """
    return copy_journal(common, common.store, to, partitions)


def copy_journal(common: Common, source: str, to: str, partitions: int | None) -> int:
    """Copy a journal from one store to another, and say what there is now."""
    from margin_stream.kafka.copying import to_folder, to_topic
    from replay.reader import source_of

    progress = Progress(common, "records")

    def tell(done: int, total: int) -> None:
        progress.update(done, done / total if total else None)

    with place_of(OnStore(store=source)) as place:
        found = source_of(place)
        if OnStore(store=to).on_kafka:
            with on_kafka.connected(OnStore(store=to)) as (client, address):
                count = to_topic(found, client, address, tell)
            progress.end()
            show(common, {"from": source, "to": to, "records": count})
            return DONE
        digests = to_folder(found, Path(to), partitions or found.partitions, tell)
    progress.end()
    show(
        common,
        {"from": source, "to": to, "last": digests.position, "state_digest": digests.state, "effects_digest": digests.effects},
    )
    return DONE


def _thousandths(option: str, text: str) -> int:
    from schemas.decimals import DecimalError, parse_decimal, scaled

    try:
        amount = scaled(parse_decimal(text), 3)
    except DecimalError as error:
        raise UsageError(f"{option}: {error}", option=option) from None
    if amount is None:
        raise UsageError(f"{option} {text}: at most three decimal places", option=option)
    return amount


class _Inputs:
    """The lines of the named files, one after the other; knows where it is."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._files = files
        self.file = ""
        self.line = 0
        self.bytes = 0
        self.total = sum(path.stat().st_size for path in files if path != STDIN)

    def __iter__(self) -> Iterator[bytes]:
        from schemas.ndjson import read_lines

        for path in self._files:
            self.file, self.line = "stdin" if path == STDIN else str(path), 0
            with opened(path) as stream:
                for line in read_lines(stream):
                    self.line += 1
                    self.bytes += len(line) + 1
                    yield line


class Stopper:
    """Turns SIGINT and SIGTERM into a clean stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopper:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code after a clean stop."""
        return INTERRUPTED if self.signal == signal.SIGINT else TERMINATED


def summary(counts: Any, effects: int, digests: Digests) -> dict[str, Any]:
    """Return what ``ingest`` prints."""
    return {
        "accepted": counts.accepted,
        "duplicate": counts.duplicate,
        "refused": counts.refused,
        "effects": effects,
        "last": digests.position,
        "state_digest": digests.state,
        "effects_digest": digests.effects,
    }


def ingest(
    files: Annotated[
        tuple[Path, ...], Parameter(name="FILE", show_default=False, help="Inputs, one a line; - (the default) is standard input.")
    ] = (STDIN,),
    /,
    *,
    partitions: Annotated[int | None, Parameter(help="Logical partitions; counts only when the store is made.")] = None,
    strict: Annotated[bool, Parameter(negative="", help="Stop at the first refused input with exit 4.")] = False,
    no_wait: Annotated[bool, Parameter(negative="", help="On Kafka: return once the broker has the inputs.")] = False,
    engine: Annotated[EngineName, Parameter(help=ENGINE_HELP)] = DEFAULT,
    verify: Annotated[
        bool, Parameter(negative="", help="A second process replays the journal meanwhile and compares; exit 3 where it differs.")
    ] = False,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Append inputs to the store's journal and fold them. Safe to run again on the same file after any crash.

    Try:
      margin-stream ingest day.ndjson
      margin-stream simulate --accounts 50 | margin-stream ingest --store ./s --partitions 4
      margin-stream ingest more.ndjson --strict --json
      margin-stream ingest day.ndjson --engine vectors --verify
      margin-stream ingest day.ndjson --store kafka://localhost:9092/demo
    """
    import msgspec

    from margin_stream.cli.background_replay import Beside
    from margin_stream.host.embedded import Host
    from margin_stream.journal.layout import PARTITIONS_LIMIT, PartitionsOutOfRange

    for path in files:
        if path != STDIN and not path.is_file():
            raise InputFileMissing(f"{path}: no such file", file=path)
    if partitions is not None and not 1 <= partitions <= PARTITIONS_LIMIT:
        raise PartitionsOutOfRange(f"--partitions: from 1 to {PARTITIONS_LIMIT}, not {partitions}", option="--partitions")
    inputs = _Inputs(files)
    shown = 0

    def refused(reason: Refusal, detail: str) -> bool:
        nonlocal shown
        shown += 1
        if shown <= SHOWN_LIMIT or strict:
            place = {"file": inputs.file, "line": inputs.line}
            text = f"{inputs.file}:{inputs.line}: refused, {reason.value}: {detail}"
            report(Failure(reason.value, text, place, ADVICE[reason], CORRUPT), as_json=common.json)
        return strict

    if common.on_kafka:
        if verify:
            raise OptionsConflict(
                "--verify goes with a store in a folder; on Kafka run `margin-stream replay` when the workers are done",
                option="--verify",
            )
        return _ingest_on_kafka(common, inputs, refused, strict=strict, wait=not no_wait)
    with contextlib.ExitStack() as stack:
        stopper = stack.enter_context(Stopper())
        host = stack.enter_context(Host(common.path, partitions=partitions, engine=engine))
        tell_recovery(common, host)
        beside = Beside(host.layout.root, engine) if verify else None
        if beside is not None:
            stack.callback(beside.abandon)
        progress = Progress(common, "inputs")
        counts = host.ingest(
            inputs,
            progress=lambda done: progress.update(done, inputs.bytes / inputs.total if inputs.total else None),
            stop=stopper.asked,
            refused=refused,
        )
        digests = host.checkpoint()
        progress.end()
        effects = host.effects_total
        found = beside.finish() if beside is not None else None
    if shown > SHOWN_LIMIT and not strict:
        report(failure("inputs_refused", f"{shown} inputs were refused", store=common.store), as_json=common.json)
    verified: dict[str, Any] = {}
    if found is not None:
        same = f"equal: {found.effects:,} effects and the digests, replayed from nothing"
        verified["verified"] = msgspec.to_builtins(found) if common.json else same if found.equal else "NOT equal"
    show(common, summary(counts, effects, digests) | verified)
    if found is not None and not found.equal:
        report(failure("replay_differs", str(found.first_difference), store=common.store), as_json=common.json)
        return MISMATCH
    if stopper.asked():
        say(common, "stopped by a signal; run the same command again for the rest")
        return stopper.exit_code
    return CORRUPT if strict and shown else DONE


def _ingest_on_kafka(common: OnStore, inputs: _Inputs, refused: Callable[[Refusal, str], bool], *, strict: bool, wait: bool) -> int:
    """Send the inputs to the topic; what can be decoded is judged by the workers, so ``--strict`` stops early only for what cannot."""
    progress = Progress(common, "inputs")
    undecodable = False

    def not_decoded(error: RefusedInput) -> bool:
        nonlocal undecodable
        undecodable = True
        return refused(error.refusal, error.detail)

    with Stopper() as stopper:
        found = on_kafka.ingest(
            common,
            inputs,
            refused=not_decoded,
            wait=wait,
            stop=stopper.asked,
            progress=lambda: progress.update(inputs.line, inputs.bytes / inputs.total if inputs.total else None),
        )
        progress.end()
    if found is None:
        say(common, f"the broker has {inputs.line:,} inputs; the workers fold them")
    else:
        say(common, f"folded by {found.by}")
        show(common, summary(found.counts, found.effects, found.digests))
    if stopper.asked():
        say(common, "stopped by a signal; run the same command again for the rest")
        return stopper.exit_code
    return CORRUPT if strict and (undecodable or (found is not None and found.counts.refused)) else DONE


def tell_recovery(common: Common, host: Host) -> None:
    """Say what opening the store took."""
    recovery = host.recovery
    for note in recovery.notes:
        say(common, note)
    if recovery.cut_bytes:
        say(common, f"a torn tail of {recovery.cut_bytes} bytes was cut; nothing in it was acknowledged")
    if recovery.folded:
        say(common, f"recovered: {recovery.folded:,} items folded behind position {recovery.from_position:,}")
