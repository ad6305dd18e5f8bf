"""A correction of a refused input: a new event, with an identity of its own, that names what it corrects."""

from __future__ import annotations

from typing import Any

import orjson

from margin_stream.errors import Error
from margin_stream.views.journal import quarantine, quarantined
from margin_stream.views.source import Place
from margin_stream.views.store import folds_at


class CorrectionUnusable(Error, code="correction_unusable"):
    """A file holds no correction."""


class CorrectedAlready(Error, code="corrected_already"):
    """The refused input has a correction that was accepted."""


def correction(place: Place, identifier: str, line: bytes, *, file: str = "") -> bytes:
    """Return a correction as a line to be ingested: from the source ``correction@N``, N being the sequence number of
    what was refused, so that one that is sent again is a duplicate.

    Args:
        place: the store.
        identifier: of the refused input: ``#N``, ``source#seq`` or its SHA-256.
        line: the event as it should have been; of its ``source`` and ``source_seq`` nothing counts.
        file: where it came from, for errors.

    Raises:
        NotRefused: no input of that id was refused.
        CorrectionUnusable: the line is no JSON object, or corrects another input.
        CorrectedAlready: another correction was accepted.
    """
    refused = quarantined(place, identifier)
    name = refused.get("digest") or f"{refused['source']}#{refused['source_seq']}"
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise CorrectionUnusable(f"{file}: no JSON: {error}", file=file) from None
    if not isinstance(event, dict):
        raise CorrectionUnusable(f"{file}: no JSON object", file=file)
    if event.get("corrects", name) != name:
        raise CorrectionUnusable(f"{file}: it corrects {event['corrects']!r}, not {name!r}", file=file)
    source = f"correction@{refused['sequence']}"
    number = _last_of(place, source)
    again = any(row.get("source") == source and row.get("source_seq") == number for row in quarantine(place))
    if number and not again:
        raise CorrectedAlready(f"{name} was corrected already, by {source}#{number}", input=name)
    return orjson.dumps(event | {"source": source, "source_seq": number + 1, "corrects": name})


def _last_of(place: Place, source: str) -> int:
    """Return the highest number that a source used; 0 for none."""
    feeds: Any = next(fold for fold in folds_at(place).sets[0].folds if fold.name == "feeds")
    return next((int(row["highest"]) for row in feeds.facts() if row["source"] == source), 0)
