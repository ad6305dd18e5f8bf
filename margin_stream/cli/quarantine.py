"""Commands about refused inputs: list, show and resubmit them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from margin_stream.cli import on_kafka
from margin_stream.cli.error_output import Failure, report
from margin_stream.cli.errors import CORRUPT, DONE
from margin_stream.cli.ingest import exit_code, summary, tell_recovery
from margin_stream.cli.output import OnStore, Progress, print_note, show, show_rows
from margin_stream.cli.queries import place_of
from margin_stream.cli.signals import Stopper
from margin_stream.cli.usage import InputFileMissing, OptionsConflict
from margin_stream.files import STDIN, content
from margin_stream.schemas.ndjson import LINE_LIMIT
from margin_stream.schemas.refusals import ADVICE, Refusal

if TYPE_CHECKING:
    from margin_stream.views import Resubmission
    from margin_stream.views.source import Place


def quarantine_list(*, common: OnStore = OnStore()) -> int:  # noqa: B008 (frozen)
    """List refused inputs with their reasons.

    Try:
      margin-stream quarantine list
    """
    from margin_stream import views

    with place_of(common) as place:
        show_rows(
            common,
            views.quarantine(place),
            ("id", "reason", "source", "source_seq", "detail"),
            empty="nothing was refused",
        )
    return DONE


def quarantine_show(
    identifier: Annotated[str, Parameter(name="ID", allow_leading_hyphen=True)],
    /,
    *,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Show one refused input: reason, what is wrong with it, what to do, raw bytes.

    ID is #N, source#seq or the SHA-256.

    Try:
      margin-stream quarantine show '#17'
    """
    from margin_stream import views

    with place_of(common) as place:
        show(common, views.quarantined(place, identifier))
    return DONE


def quarantine_resubmit(
    identifier: Annotated[str | None, Parameter(name="ID", allow_leading_hyphen=True)] = None,
    /,
    *,
    with_: Annotated[
        Path | None, Parameter(name="--with", help="A file with the corrected event, one JSON object; - is stdin.")
    ] = None,
    source: Annotated[str | None, Parameter(help="The feed whose kept inputs are sent again.")] = None,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Send the correction of a refused input, or again what a feed sent while its numbers began anew.

    A correction is a new event: it comes from the source correction@N, N being the sequence number of what was refused,
    and names it in `corrects`. What is refused (ID as of `quarantine show`) stays as it came.

    --source: first confirm the restart with a feed_restarted. The inputs come from the source S@N, N being the sequence
    number of that feed_restarted. What the store has newer quotes or clocks for is not sent. Both are safe to run again.

    Try:
      margin-stream quarantine resubmit '#17' --with corrected.json
      margin-stream quarantine resubmit --source binance
    """
    from margin_stream import views

    if (identifier is None) is (source is None) or (identifier is None) is not (with_ is None):
        raise OptionsConflict("quarantine resubmit: ID --with FILE, or --source S", option="--with")
    if source is not None:
        code, sent = _send(common, source, lambda place: _again(views.resubmission(place, source)))
    else:
        assert identifier is not None
        assert with_ is not None
        if with_ != STDIN and not with_.is_file():
            raise InputFileMissing(f"{with_}: no such file", file=with_)
        line = content(with_, LINE_LIMIT)
        code, sent = _send(
            common, identifier, lambda place: ([views.correction(place, identifier, line, file=str(with_))], {})
        )
        if sent["refused"]:
            code = CORRUPT
    show(common, sent)
    return code


Found = tuple[list[bytes], dict[str, Any]]
"""Lines to be sent, and what is shown of them."""


def _send(common: OnStore, name: str, find: Callable[[Place], Found]) -> tuple[int, dict[str, Any]]:
    """Find inputs in a store and send them to it; return the exit code and what is shown."""
    from margin_stream.host.embedded import Host
    from margin_stream.journal.layout import Layout, read_manifest

    def refused(reason: Refusal, detail: str) -> bool:
        text = f"{name}: refused again, {reason.value}: {detail}"
        report(Failure(reason.value, text, {"input": name}, ADVICE[reason], CORRUPT), as_json=common.json)
        return False

    with Stopper() as stopper:
        if common.on_kafka:
            with on_kafka.opened(common) as reader:
                lines, shown = find(reader)
            progress = Progress(common, "inputs")
            done = on_kafka.ingest(
                common,
                lines,
                refused=lambda error: refused(error.refusal, error.detail),
                wait=True,
                stop=stopper.asked,
                progress=lambda: progress.update(0, None),
            )
            progress.end()
            assert done is not None
            print_note(common, f"folded by {done.by}")
            sent = summary(done.counts, done.of_refused, done.effects, done.digests)
        else:
            read_manifest(Layout(common.path))  # A store that is not there is not made.
            with Host(common.path) as host:
                tell_recovery(common, host)
                # No other writer: what is newest cannot change until the inputs are sent.
                lines, shown = find(common.path)
                sources = host.system.intake.sources
                known = sources.duplicates_of_refused
                counts = host.ingest(iter(lines), stop=stopper.asked, refused=refused)
                of_refused = sources.duplicates_of_refused - known
                sent = summary(counts, of_refused, host.effects_total, host.checkpoint())
    return exit_code(stopper, common, refused=False), shown | sent


def _again(found: Resubmission) -> Found:
    """Return what a feed sent, as lines."""
    from margin_stream.schemas.ndjson import encode_line

    return [encode_line(event).rstrip() for event in found.events], _of(found)


def _of(found: Resubmission) -> dict[str, Any]:
    return {
        "kept": found.kept,
        "sent": len(found.events),
        "older_than_the_store": found.older,
        "not_confirmed": found.unconfirmed,
    }
