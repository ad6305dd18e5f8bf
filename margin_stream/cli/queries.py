"""Commands that read a store and write nothing: replay, verify, digest, state, accounts, calls, call, events, profiles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from margin_stream.cli.completions import event_types, profile_names
from margin_stream.cli.error_output import failure, report, report_exception
from margin_stream.cli.errors import CORRUPT, DONE, MISMATCH
from margin_stream.cli.output import Common, OnStore, Progress, parse_until, print_json, print_note, show, show_rows
from margin_stream.cli.usage import OptionsConflict, UsageError
from margin_stream.revaluation import DEFAULT, RevaluationName

if TYPE_CHECKING:
    from margin_stream.views.source import Place


@contextmanager
def place_of(common: OnStore) -> Iterator[Place]:
    """Open the store that a command names for reading, wherever it lies."""
    if common.on_kafka:
        from margin_stream.cli import on_kafka

        with on_kafka.opened(common) as reader:
            yield reader
    else:
        yield common.path


@contextmanager
def answering(common: OnStore) -> Iterator[Place]:
    """Open the store that a question goes to; where its journal is damaged, what is answered may come from checkpoints
    alone: that is reported."""
    with place_of(common) as place:
        if isinstance(place, Path):
            from margin_stream.journal.layout import Layout, read_manifest
            from margin_stream.journal.log_end import look

            layout = Layout(place)
            damage = look(layout.journal, read_manifest(layout).identity)
            if damage is not None:
                report_exception(damage, as_json=common.json)
        yield place


Account = Annotated[str | None, Parameter(help="Of this account only.")]
REVALUATION_HELP = (
    "How ticks are revalued: boxes, vectors (every holder, compiled), plain (every holder, the reference). "
    "All give the same results."
)
LevelName = Literal["HEALTHY", "WARNING", "DEFICIT", "LIQUIDATING", "BANKRUPT"]
At = Annotated[str | None, Parameter(help="As of TIME: RFC 3339, a day, or a sequence number #N.")]


def replay_store(
    *,
    until: Annotated[str | None, Parameter(help="End of the prefix: RFC 3339, a day, or a sequence number #N.")] = None,
    day: Annotated[str | None, Parameter(help="The same as --until with a day.")] = None,
    from_checkpoint: Annotated[bool, Parameter(negative="", help="Begin at the newest checkpoint.")] = False,
    revaluation: Annotated[RevaluationName, Parameter(help=REVALUATION_HELP)] = DEFAULT,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Fold the journal again, write nothing, and compare effects and digests with what was recorded.

    Try:
      margin-stream replay
      margin-stream replay --until 2021-05-19T13:00:00Z --json
      margin-stream replay --until '#1200'
    """
    import msgspec

    from margin_stream.replay.replay import replay

    if until is not None and day is not None:
        raise OptionsConflict("--until and --day: give one of them", option="--day")
    progress = Progress(common, "records")
    with place_of(common) as place:
        if from_checkpoint and common.on_kafka:
            print_note(common, "--from-checkpoint: the tables are with the workers; folded from the start")
        found = replay(
            place,
            until=parse_until(until or day),
            from_checkpoint=from_checkpoint,
            revaluation=revaluation,
            progress=lambda done, total: progress.update(done, done / total if total else None),
        )
    progress.end()
    show(common, msgspec.to_builtins(found))
    if not found.equal:
        report(
            failure("replay_differs", f"not equal: {found.first_difference}", store=common.store), as_json=common.json
        )
        return MISMATCH
    return DONE


def verify_store(
    *,
    quick: Annotated[
        bool, Parameter(negative="", help="Checksums, chains, counts and tables; do not fold the journal.")
    ] = False,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Check a store read-only: checksums, chain, gaps, order, tables against journal. Reports exactly what is damaged.

    Try:
      margin-stream verify
      margin-stream verify --quick --json
    """
    import msgspec

    if common.on_kafka:
        from margin_stream.cli import on_kafka
        from margin_stream.replay.topic_verification import verify as verify_topics

        with on_kafka.connected(common) as (client, address):
            found = verify_topics(client, address, fold=not quick)
    else:
        from margin_stream.replay.verification import verify

        found = verify(common.path, fold=not quick)
    row = msgspec.to_builtins(found)
    problems = row.pop("problems")
    show(common, row | ({"problems": problems} if common.json else {}))
    for problem in problems:
        place = problem["file"] if problem["offset"] is None else f"{problem['file']}: offset {problem['offset']}"
        where = {"store": common.store, "file": problem["file"]} | (
            {} if problem["offset"] is None else {"offset": problem["offset"]}
        )
        report(failure("damage_found", f"{place}: {problem['what']}", **where), as_json=common.json)
    return DONE if found.ok else CORRUPT


def digest(*, until: At = None, common: OnStore = OnStore()) -> int:  # noqa: B008 (frozen)
    """Print state and effects digests and counts.

    Try:
      margin-stream digest
      margin-stream digest --until 2021-05-19T13:00:00Z
    """
    from margin_stream import views

    with place_of(common) as place:
        system = views.folds_at(place, parse_until(until))
    digests = system.digests()
    show(
        common,
        {
            "last": digests.sequence,
            "accepted": system.intake.accepted,
            "refused": system.intake.refused,
            "accounts": len(system.intake.accounts),
            "state_digest": digests.state,
            "effects_digest": digests.effects,
        },
    )
    return DONE


def state(*, account: str, at: At = None, common: OnStore = OnStore()) -> int:  # noqa: B008 (frozen)
    """Show an account: facts and derived figures, per position, and how old each mark is.

    Try:
      margin-stream state --account A-000017
      margin-stream state --account A-000017 --at 2021-05-19T12:30:00Z --json
      margin-stream state --account A-000017 --at '#52000'
    """
    from margin_stream import views

    view: dict[str, Any] | None = None
    if common.on_kafka and at is None:
        from margin_stream.cli import on_kafka

        answered, view = on_kafka.ask_state(common, account)
        if answered and view is None:
            raise views.AccountUnknown(f"account {account!r} is not open", account=account)
    if view is None:
        with answering(common) as place:
            view = views.account_state(place, account, parse_until(at))
    if common.json:
        print_json(view)
        return DONE
    tables = {name: view.pop(name) for name in ("balances", "positions", "marks", "calls")}
    show(common, view)
    for title, columns in (
        ("balances", ("asset", "amount")),
        ("positions", ("instrument", "quantity", "mark", "open_cost", "unrealised", "realised", "fees", "currency")),
        ("marks", ("instrument", "mark", "marked_at", "age_s", "fresh")),
        ("calls", ("call", "amount", "unpaid", "due_at", "overdue", "outcome")),
    ):
        if tables[title]:
            print(f"\n{title}")
            show_rows(common, tables[title], columns, empty="")
    return DONE


def accounts(
    *,
    short: Annotated[bool, Parameter(negative="", help="Only those in DEFICIT or deeper.")] = False,
    stale: Annotated[
        bool, Parameter(negative="", help="Only those that a mark concerns which is missing, old or in doubt.")
    ] = False,
    level: Annotated[LevelName | None, Parameter(help="Only those at this level.")] = None,
    desk: Annotated[str | None, Parameter(help="Only those of this desk.")] = None,
    near: Annotated[
        str | None,
        Parameter(help="Not short, and less than so many percent above the level of calls or close-out: 5, 2.5%."),
    ] = None,
    at: At = None,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """List accounts: who is short, and who is near; the deepest level first, then the largest shortfall.

    Try:
      margin-stream accounts --short
      margin-stream accounts --near 5% --desk crypto
      margin-stream accounts --stale --at 2021-05-19T13:00:00Z --json
    """
    from margin_stream import views

    limit = None
    if near is not None:
        limit = near.removesuffix("%")
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", limit):
            raise UsageError(f"--near {near}: a percentage, 0 or more, such as 5 or 2.5%", option="--near")
    with answering(common) as place:
        rows = views.accounts(
            place, short=short, stale=stale, level=level, desk=desk, near=limit, until=parse_until(at)
        )
    if not common.json:
        rows = [row | {"flags": " ".join(row["flags"])} for row in rows]
    columns = (
        "account",
        "subaccount",
        "level",
        "flags",
        "equity",
        "shortfall",
        "above_trigger",
        "stale",
    )
    show_rows(common, rows, columns, empty="no accounts")
    return DONE


def calls(
    *,
    account: Account = None,
    open: Annotated[bool, Parameter(negative="", help="Only calls that are not paid in full.")] = False,
    overdue: Annotated[bool, Parameter(negative="", help="Only those past their due time.")] = False,
    desk: Annotated[str | None, Parameter(help="Only those of this desk.")] = None,
    limit: Annotated[int | None, Parameter(help="So many at most; the totals are of all.")] = None,
    at: At = None,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """List margin calls by due time.

    Try:
      margin-stream calls --open
      margin-stream calls --open --desk crypto --limit 20
      margin-stream calls --account A-000017 --at 2021-05-19T13:00:00Z --json
    """
    from margin_stream import views
    from margin_stream.cli import on_kafka

    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: 1 or more", option="--limit")
    rows = on_kafka.ask_calls(common, account, open) if common.on_kafka and at is None else None
    if rows is None:
        with answering(common) as place:
            rows = views.calls(
                place, account=account, open_only=open, overdue=overdue, desk=desk, until=parse_until(at)
            )
    else:
        rows = [row for row in rows if desk in (None, row["desk"]) and (row["overdue"] or not overdue)]
    shown = rows if limit is None else rows[:limit]
    columns = ("call", "unpaid", "currency", "due_at", "overdue", "outcome", "amount", "issued_at", "tranche", "desk")
    show_rows(common, shown, columns, empty="no calls")
    if rows:
        unpaid: dict[str, Decimal] = {}
        for row in rows:
            if row["open"]:
                unpaid[row["currency"]] = unpaid.get(row["currency"], Decimal(0)) + Decimal(row["unpaid"])
        amounts = ", ".join(f"{amount:,} {currency}" for currency, amount in sorted(unpaid.items())) or "nothing"
        open_calls = sum(row["open"] for row in rows)
        print_note(common, f"{len(rows):,} calls, {len(shown):,} shown; {open_calls:,} open, unpaid: {amounts}")
    return DONE


def facts(
    fold: Annotated[str, Parameter(name="FOLD")],
    /,
    *,
    at: At = None,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """List the rows of a fold of the whole store: ``feeds`` has what was received from each source, and when.

    Try:
      margin-stream facts feeds
      margin-stream facts feeds --at 2021-05-19T13:00:00Z --json
    """
    from margin_stream import views

    with answering(common) as place:
        rows = views.facts(place, fold, parse_until(at))
    show_rows(common, rows, list(rows[0]) if rows else (), empty="nothing yet")
    return DONE


def call(call_id: Annotated[str, Parameter(name="CALL_ID")], /, *, common: OnStore = OnStore()) -> int:  # noqa: B008 (frozen)
    """Show one call with its whole history.

    Try:
      margin-stream call A-000017/call/1
    """
    from margin_stream import views

    with answering(common) as place:
        view = views.call_history(place, call_id)
    if common.json:
        print_json(view)
        return DONE
    history = view.pop("history")
    show(common, view)
    print("\nhistory")
    show_rows(common, [_condensed(row) for row in history], ("at", "sequence", "what", "detail"), empty="")
    return DONE


def _condensed(row: dict[str, Any]) -> dict[str, Any]:
    rest = {k: v for k, v in row.items() if k not in ("type", "id", "sequence", "at", "account", "call", "currency")}
    return {
        "at": row.get("at"),
        "sequence": row["sequence"],
        "what": row["type"],
        "detail": ", ".join(f"{k} {v}" for k, v in rest.items()),
    }


def events(
    *,
    account: Account = None,
    type: Annotated[str | None, Parameter(name="--type", completer=event_types, help="Of this type only.")] = None,
    after: Annotated[int, Parameter(help="After this sequence number.")] = 0,
    effects: Annotated[bool, Parameter(negative="", help="Effects instead of inputs.")] = False,
    follow: Annotated[bool, Parameter(negative="", help="Wait for more; end with Ctrl-C.")] = False,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Read the journal (inputs), or with --effects the effects. Always NDJSON.

    Try:
      margin-stream events --account A-000017 --after 1000
      margin-stream events --effects --type margin_call_issued
      margin-stream events --effects --follow
    """
    from margin_stream import views
    from margin_stream.schemas.effects import EFFECT_TYPES
    from margin_stream.schemas.inputs import INPUT_TYPES, name_of
    from margin_stream.settings import did_you_mean

    known = sorted(name_of(kind) for kind in (EFFECT_TYPES if effects else INPUT_TYPES)) + (
        [] if effects else ["refused"]
    )
    if type is not None and type not in known:
        what = "effect" if effects else "input"
        raise UsageError(f"--type {type}: no {what} of that type{did_you_mean(type, known)}", option="--type")
    with place_of(common) as place:
        read = views.effects if effects else views.events
        found = False
        for row in read(place, account=account, kind=type, after=after, follow=follow):
            print_json(row)
            found = True
        if account is not None and not found:
            # Nothing is no answer where there is no such account.
            views.calls(place, account=account)
    return DONE


def profiles_list(*, common: Common = Common()) -> int:  # noqa: B008 (frozen)
    """List the margin profiles that are shipped.

    Try:
      margin-stream profiles list
    """
    from margin_stream import profiles

    rows = [
        {"name": data.name, "model": data.model, "title": data.title} for data in map(profiles.load, profiles.names())
    ]
    show_rows(common, rows, ("name", "model", "title"), empty="")
    return DONE


def profiles_show(
    name: Annotated[str, Parameter(name="NAME", completer=profile_names)],
    /,
    *,
    common: Common = Common(),  # noqa: B008 (frozen)
) -> int:
    """Show a margin profile, each number with its source and confidence.

    Try:
      margin-stream profiles show prime
    """
    import msgspec

    from margin_stream import profiles

    data = profiles.load(name)
    if common.json:
        print_json(msgspec.to_builtins(data))
        return DONE
    print(f"{data.name}: {data.title}\n{data.note}\n")
    show_rows(
        common,
        [msgspec.to_builtins(row) for row in data.number],
        ("name", "value", "meaning", "confidence", "source"),
        empty="",
    )
    print("\nhaircuts")
    rows = [
        {"assets": row.assets, "value": row.value, "confidence": row.confidence, "source": row.source}
        for row in data.haircut
    ]
    rows.append(
        {
            "assets": ("any other",),
            "value": data.default_haircut,
            "confidence": "illustrative",
            "source": "illustrative",
        }
    )
    show_rows(common, rows, ("assets", "value", "confidence", "source"), empty="")
    return DONE
