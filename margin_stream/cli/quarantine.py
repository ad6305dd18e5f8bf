"""Commands about refused inputs: list and show them."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from margin_stream.cli.errors import DONE
from margin_stream.cli.output import OnStore, show, show_rows
from margin_stream.cli.queries import place_of


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
