"""``profiles template``: what lists instruments and activates a profile, ready to be ingested."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from margin_stream.cli.completions import profile_names
from margin_stream.cli.errors import DONE
from margin_stream.cli.output import OnStore, print_note
from margin_stream.cli.usage import UsageError


def profiles_template(
    name: Annotated[str, Parameter(completer=profile_names)],
    /,
    *,
    assets: Annotated[
        str,
        Parameter(
            help="What accounts hold, such as AAPL,MSFT,BTC; ASSET:equity, ASSET:spot or ASSET:perpetual states what it is."
        ),
    ],
    base: Annotated[str, Parameter(help="The base currency: what amounts are in.")] = "USD",
    stale_after: Annotated[
        int, Parameter(help="Seconds after which a mark is stale: longer than your prices are apart.")
    ] = 86_400,
    approved_by: Annotated[str, Parameter(help="Who approves the activation; it is part of the record.")] = "operator",
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Print inputs that list assets and activate a profile for them: edit the numbers, then ingest them.

    What the store lists already is not listed again, and the version is the next one.

    Try:
      margin-stream profiles template prime --assets AAPL,MSFT,BTC > setup.ndjson
      margin-stream profiles template prime --assets AAPL,MSFT,BTC | margin-stream ingest -
      margin-stream profiles template binance-usdm --assets BTCUSDT-PERP --base USDT
    """
    from margin_stream import profiles
    from margin_stream.importers.template import TemplateUnclear, template
    from margin_stream.journal.layout import StoreMissing
    from margin_stream.schemas.ndjson import encode_line
    from margin_stream.views.store import folds_at

    data = profiles.load(name)
    folds = None
    if not common.on_kafka:
        try:
            folds = folds_at(common.path)
        except StoreMissing:
            folds = None
    wanted = [word.strip() for word in assets.split(",") if word.strip()]
    try:
        events, notes = template(data, wanted, base, folds, stale_after_s=stale_after, approved_by=approved_by)
    except TemplateUnclear as error:
        raise UsageError(f"--assets: {error}", option="--assets") from None
    for event in events:
        sys.stdout.buffer.write(encode_line(event))
    sys.stdout.buffer.flush()
    for note in notes:
        print_note(common, note)
    return DONE
