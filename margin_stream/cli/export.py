"""``export``: a journal copied from one store to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from margin_stream.cli import on_kafka
from margin_stream.cli.errors import DONE
from margin_stream.cli.output import Common, OnStore, Progress, show
from margin_stream.cli.queries import place_of


def export(
    to: Annotated[str, Parameter(name="TO")],
    /,
    *,
    partitions: Annotated[int | None, Parameter(help="Of a new folder; by default as many as the store has.")] = None,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Copy the store's journal into another store: a new folder, or a new store of `kafka init`.

    Try:
      margin-stream export ./copy --store kafka://localhost:9092/demo
      margin-stream export kafka://localhost:9092/demo --store ./margin-store
    """
    return copy_journal(common, common.store, to, partitions)


def copy_journal(common: Common, source: str, to: str, partitions: int | None) -> int:
    """Copy a journal from one store to another, and report what it holds then."""
    from margin_stream.kafka.copies import to_folder, to_topic
    from margin_stream.views.source import source_of

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
        {
            "from": source,
            "to": to,
            "last": digests.sequence,
            "state_digest": digests.state,
            "effects_digest": digests.effects,
        },
    )
    return DONE
