"""An import from beginning to end: read, compare, rehearse, send; or the compensation of one."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from margin_stream.core.accounts.account import Account
from margin_stream.core.accounts.position import SIDES, position_key
from margin_stream.core.intake.admission import Counts
from margin_stream.core.market.directory import Directory
from margin_stream.core.store_fold import StoreFold
from margin_stream.errors import Error
from margin_stream.host.embedded import Host
from margin_stream.importers.market import STALE_AFTER_S
from margin_stream.importers.own_data import price_list, snapshots
from margin_stream.importers.own_data.cells import Reading
from margin_stream.importers.own_data.directory import Listings
from margin_stream.importers.own_data.forms import Kind, Rows, add_rows, doubled, plain
from margin_stream.importers.own_data.plan import Plan
from margin_stream.importers.own_data.problems import FileWrong
from margin_stream.importers.own_data.sheets import read_sheets
from margin_stream.importers.own_data.snapshot import Snapshot
from margin_stream.importers.own_data.unfinished import ImportUnfinished, Pending, PendingImport
from margin_stream.schemas.decimals import DecimalPair, packed, whole
from margin_stream.schemas.inputs import AccountChanged, AccountOpened, AnyInput, CollateralMoved, PositionChanged
from margin_stream.schemas.times import format_time
from margin_stream.views.source import Until, source_of
from margin_stream.views.store import folds_at


class NothingToUndo(Error, code="nothing_to_undo"):
    """No such import, or it was compensated already, or it is of a kind that cannot be."""


class MomentMissing(Error, code="moment_missing"):
    """A snapshot needs a moment: the store has no clock, or a later one."""


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """What is to be imported, and how it is read."""

    kind: Kind
    paths: tuple[Path, ...]
    collateral: tuple[Path, ...] = ()
    """Beside positions: the balances of the same moment."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Their column -> ours."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Our column -> what a row has that states none."""
    reading: Reading = field(default_factory=Reading)
    sheet: str | None = None
    at_ns: int | None = None
    """The moment of a snapshot; the store's clock if left out."""
    confirmed_by: str = ""
    price_scale: int | None = None
    quantity_scale: int | None = None
    stale_after_s: int = STALE_AFTER_S


@dataclass(slots=True)
class Booked:
    """What came of an import."""

    plan: Plan
    counts: Counts | None = None
    """None where nothing was sent."""


class Read(NamedTuple):
    """What was read of the files."""

    digest: str
    """Of all that decides what they mean."""
    rows: Rows
    collateral: Rows | None


def read(files: OwnFiles) -> Read:
    """Read the files.

    Raises:
        FileWrong: a file cannot be read, or has not the columns of its kind.
    """
    reading = files.reading
    said = [
        files.kind,
        sorted(files.names.items()),
        sorted(files.constants.items()),
        [reading.decimal_comma, reading.date_format, str(reading.zone), reading.time_of_day, reading.negative_is_loan],
        [files.sheet, files.at_ns, files.price_scale, files.quantity_scale, files.stale_after_s, len(files.paths)],
    ]
    digest = sha256(msgspec.json.encode(said))
    found = []
    for kind, paths in ((files.kind, files.paths), ("collateral", files.collateral)):
        rows = Rows(kind)
        for path in paths:
            data, sheets = read_sheets(path, sheet=files.sheet)
            digest.update(sha256(data).digest())
            for sheet in sheets:
                add_rows(rows, sheet, files.names, reading, files.constants)
        doubled(rows)
        found.append(rows)
    if files.kind == "positions" and files.paths and not found[0].rows and not found[0].problems:
        text = f"{files.paths[0]}: no position in it, which would close every one; write rows with quantity 0 for that"
        raise FileWrong(text, file=files.paths[0])
    # A title that no file has is a slip, and would leave a column unread.
    titles = {plain(title) for rows in found for title in rows.titles}
    for theirs in files.names if files.paths else ():
        if plain(theirs) not in titles:
            near = get_close_matches(plain(theirs), titles, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise FileWrong(f"--map {theirs}: no file has a column {theirs!r}{hint}", file=files.paths[0])
    return Read(digest.hexdigest()[:16], found[0], found[1] if files.collateral else None)


def plan_of(files: OwnFiles, given: Read, folds: StoreFold, sequence: int) -> Plan:
    """Return what the files book into a store, rehearsed: what is wrong with them is in its problems.

    Args:
        files, given: see ``read``.
        folds: of the store at the sequence number; they are used up.
        sequence: N.

    Raises:
        MomentMissing: a snapshot has no moment.
    """
    rows = given.rows
    source = f"{files.kind}@{given.digest}" + ("" if files.kind == "prices" else f"#{sequence}")
    market = folds.intake.market
    listings = Listings(
        market.directory,
        rows,
        f"{source}/listings",
        price_scale=files.price_scale,
        quantity_scale=files.quantity_scale,
        stale_after_s=files.stale_after_s,
    )
    if files.kind == "prices":
        plan = price_list.plan_of(rows, folds, source, listings, now_ns=time.time_ns(), confirmed_by=files.confirmed_by)
    else:
        at_ns = files.at_ns if files.at_ns is not None else market.clock_ns
        if files.kind != "accounts" and at_ns == 0:
            raise MomentMissing("the store has no clock yet: --at names the moment of the snapshot", option="--at")
        if at_ns < market.clock_ns:
            what = f"--at {format_time(at_ns)}: before the store's clock, {format_time(market.clock_ns)}"
            raise MomentMissing(what, option="--at")
        plan = snapshots.plan_of(rows, Snapshot(folds, source, at_ns), listings, given.collateral)
        plan.facts["at"] = format_time(at_ns) if at_ns else None
    for one in filter(None, (given.collateral, rows)):
        plan.problems[:0] = one.problems
        plan.notes[:0] = one.notes
    plan.rehearse(folds)
    return plan


def book(
    files: OwnFiles,
    given: Read,
    host: Host,
    *,
    progress: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Booked:
    """Book files into a store that is open for writing; where anything is wrong with them, nothing is sent.

    Raises:
        ImportUnfinished: another import was cut off.
    """
    path = host.layout.root
    pending = PendingImport(path)
    began = pending.read()
    if began is not None and (began.kind, began.digest) != (files.kind, given.digest):
        raise ImportUnfinished(_unfinished(began), store=path)
    sequence = host.system.sequence if began is None else began.sequence
    folds = folds_at(path) if began is None else folds_at(path, Until(sequence=sequence))
    plan = plan_of(files, given, folds, sequence)
    if plan.problems or not plan.events:
        return Booked(plan)
    if files.kind != "prices":
        pending.write(
            Pending(files.kind, given.digest, sequence, [*map(str, files.paths)], [*map(str, files.collateral)])
        )
    counts = host.ingest(plan.events, progress=progress, stop=stop)
    if stop is None or not stop():
        host.checkpoint()
        if files.kind != "prices":
            pending.done()
    return Booked(plan, counts)


def _unfinished(began: Pending) -> str:
    """Return what was cut off, and how it is ended."""
    collateral = f", with --collateral {shlex.join(began.collateral)}" if began.collateral else ""
    of = f"import {began.kind} of {shlex.join(began.files)}{collateral}"
    return f"an {of} was cut off; run that command again, with the same options, before another import"


# ---- undo ------------------------------------------------------------------------------------------------------------


def undo(kind: Kind, digest: str | None, host: Host) -> Booked:
    """Compensate an import: each of its events is followed by one that takes it back.

    Args:
        kind: of files.
        digest: of the files; None for the last import of the kind.
        host: the store, open for writing.

    Raises:
        NothingToUndo: there is no such import, or prices are to be undone.
    """
    source, sequence = _last(kind, digest, host)
    path = host.layout.root
    began = PendingImport(path).read()
    # Of an import that was cut off, what was sent is taken back, and it is at its end.
    own = began is not None and source == f"{began.kind}@{began.digest}#{began.sequence}"
    if began is not None and not own:
        raise ImportUnfinished(_unfinished(began), store=path)
    plan = Plan(f"{source}/undo")
    before = {
        account.id: account for part in folds_at(path, Until(sequence=sequence)).accounts for account in part.accounts()
    }
    directory = host.system.intake.market.directory
    identity = {"source": plan.source, "event_time": host.system.intake.market.clock_ns}
    stay = []
    for record in source_of(path).items():
        for event in record.items:
            if not isinstance(event, PositionChanged | CollateralMoved | AccountChanged | AccountOpened):
                continue
            if event.source not in (source, f"{source}/collateral"):
                continue
            if isinstance(event, AccountOpened):
                stay.append(event.account)
            else:
                # The movements of collateral are numbered by their own file's rows.
                sent_as = plan.source + event.source.removeprefix(source)
                plan.add(
                    _compensation(
                        event, before, directory, {**identity, "source": sent_as, "source_seq": event.source_seq}
                    )
                )
    if stay:
        plan.notes.append(f"{len(stay)} accounts stay open: an account is never closed ({', '.join(stay[:5])})")
    plan.facts |= {"undone": source, "differences": len(plan.events)}
    folds = folds_at(path)
    plan.rehearse(folds)
    if plan.problems:
        return Booked(plan)
    counts = host.ingest(plan.events)
    host.checkpoint()
    if own:
        PendingImport(path).done()
    return Booked(plan, counts)


def _last(kind: Kind, digest: str | None, host: Host) -> tuple[str, int]:
    """Return the last import that is not undone, and its N."""
    if kind == "prices":
        text = "prices are not undone: they decided levels and calls; a wrong mark is corrected by mark_confirmed"
        raise NothingToUndo(text, store=host.layout.root)
    books = host.system.intake.sources.books
    prefix = f"{kind}@" if digest is None else f"{kind}@{digest}#"
    found = [
        (int(name.rpartition("#")[2]), name)
        for name in books
        if name.startswith(prefix)
        and "/" not in name
        and name.rpartition("#")[2].isdigit()
        and f"{name}/undo" not in books
    ]
    if not found:
        of = "" if digest is None else " of these files, read in this way,"
        raise NothingToUndo(f"no import of {kind}{of} that is not undone", store=host.layout.root)
    sequence, source = max(found)
    return source, sequence


def _leverage_before(event: PositionChanged, account: Account | None, directory: Directory) -> int:
    """Return the leverage that a position had before an import chose another; 0 where it had none."""
    key = position_key(directory.instrument_by_name[event.instrument].number, SIDES.index(event.position_side))
    parts = () if account is None else account.subaccounts()
    found = next((part.positions.get(key) for part in parts if part.name == event.isolated), None)
    return 0 if found is None else found.leverage or 0


def _negated(pair: DecimalPair) -> DecimalPair:
    return packed(-whole(pair[0])), pair[1]


def _compensation(
    event: PositionChanged | CollateralMoved | AccountChanged,
    before: Mapping[str, Any],
    directory: Directory,
    identity: dict[str, Any],
) -> AnyInput:
    """Return what takes an event back."""
    if isinstance(event, PositionChanged):
        leverage = _leverage_before(event, before.get(event.account), directory) if event.leverage else 0
        return PositionChanged(
            **identity,
            account=event.account,
            instrument=event.instrument,
            quantity_delta=_negated(event.quantity_delta),
            price=event.price,
            reason="import undone",
            isolated=event.isolated,
            position_side=event.position_side,
            leverage=leverage,
        )
    if isinstance(event, CollateralMoved):
        return CollateralMoved(
            **identity,
            account=event.account,
            asset=event.asset,
            amount_delta=_negated(event.amount_delta),
            reason="import undone",
            isolated=event.isolated,
        )
    account = before[event.account]
    return AccountChanged(
        **identity,
        account=event.account,
        profile=None if event.profile is None else account.profile,
        desk=None if event.desk is None else account.desk,
        contacts=None if event.contacts is None else tuple(account.contacts),
    )
