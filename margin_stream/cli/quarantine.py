"""Commands about refused inputs: list, show and resubmit them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from margin_stream.cli import on_kafka
from margin_stream.cli.error_output import Failure, report
from margin_stream.cli.errors import CORRUPT, DONE
from margin_stream.cli.ingest import exit_code, summary, tell_recovery
from margin_stream.cli.output import OnStore, Progress, print_note, show, show_rows
from margin_stream.cli.queries import place_of
from margin_stream.cli.signals import Stopper
from margin_stream.schemas.refusals import ADVICE, Refusal

if TYPE_CHECKING:
    from margin_stream.views import Resubmission


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
            ("id", "reason", "source", "source_seq", "advice"),
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
    *,
    source: Annotated[str, Parameter(help="The feed whose kept inputs are sent again.")],
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Send again what a feed sent while its numbers began anew and nobody had confirmed it.

    First confirm the restart with a feed_restarted. The inputs come from the source S@N, N being the sequence number of
    that feed_restarted. What the store has newer quotes or clocks for is not sent. Safe to run again.

    Try:
      margin-stream quarantine resubmit --source binance
    """
    from margin_stream import views
    from margin_stream.host.embedded import Host
    from margin_stream.journal.layout import Layout, read_manifest
    from margin_stream.schemas.ndjson import encode_line

    def refused(reason: Refusal, detail: str) -> bool:
        text = f"{source}: refused again, {reason.value}: {detail}"
        report(Failure(reason.value, text, {"input": source}, ADVICE[reason], CORRUPT), as_json=common.json)
        return False

    with Stopper() as stopper:
        if common.on_kafka:
            with on_kafka.opened(common) as reader:
                found = views.resubmission(reader, source)
            lines = (encode_line(event).rstrip() for event in found.events)
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
                found = views.resubmission(common.path, source)
                sources = host.system.intake.sources
                known = sources.duplicates_of_refused
                counts = host.ingest(iter(found.events), stop=stopper.asked, refused=refused)
                of_refused = sources.duplicates_of_refused - known
                sent = summary(counts, of_refused, host.effects_total, host.checkpoint())
        show(common, _of(found) | sent)
    return exit_code(stopper, common, refused=False)


def _of(found: Resubmission) -> dict[str, Any]:
    return {
        "kept": found.kept,
        "sent": len(found.events),
        "older_than_the_store": found.older,
        "not_confirmed": found.unconfirmed,
    }
