"""Reading the journal item by item: events with their sequence numbers, and the inputs that were refused."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from margin_stream.core.intake.admission import line_of
from margin_stream.core.store_fold import StoreFold
from margin_stream.errors import Error
from margin_stream.schemas.binary import JournalItem
from margin_stream.schemas.columns import TickColumns, ticks_of
from margin_stream.schemas.effects import AnyEffect, EffectPlace, decode_effect, place_of
from margin_stream.schemas.inputs import Input, PriceTicked, name_of
from margin_stream.schemas.ndjson import to_mapping
from margin_stream.schemas.records import readable
from margin_stream.schemas.refusals import ADVICE, Refusal
from margin_stream.views.effect import describe_effect
from margin_stream.views.source import EVERYTHING, Items, Part, Place, Source, Until, fold_prefix, source_of

POLL_S = 0.2


class NotRefused(Error, code="refused_input_unknown"):
    """No refused input has that id."""


def numbered_items(
    reader: Source, records: Iterable[Items], sequence: int = 0, numbering: StoreFold | None = None
) -> Iterator[tuple[int, int, JournalItem]]:
    """Yield (sequence number, record, item); ticks in columns come one by one, an input that came again not at all.

    A journal without repeats counts its own sequence numbers; one with them is numbered by an intake fold.

    Args:
        records: of the reader.
        sequence: the last sequence number before them.
        numbering: the intake fold as it was before them; goes on with it.
    """
    if not reader.repeats:
        for record in records:
            for item in record.items:
                # Raw items are those that were refused.
                for one in ticks_of(item) if isinstance(item, TickColumns) else (item,):
                    sequence += 1
                    yield sequence, record.number, one
        return
    intake = numbering or StoreFold(1, rules_version=reader.rules_version)
    for record in records:
        for item in record.items:
            for event, single in intake.admission.singles(item):
                counts = intake.admission.item(single)
                if counts.accepted and event is not None:
                    yield intake.sequence, record.number, event
                elif counts.refused:
                    yield intake.sequence, record.number, line_of(single) if isinstance(single, PriceTicked) else single
        intake.intake.take()
        intake.intake.book.drain()


def describe_item(sequence: int, item: JournalItem) -> dict[str, Any]:
    """Return an item of the journal as a mapping."""
    if isinstance(item, Input):
        return {"sequence": sequence, **to_mapping(item)}
    assert isinstance(item, bytes)
    return {"sequence": sequence, "type": "refused", **readable(item)}


def events(
    place: Place, *, account: str | None = None, kind: str | None = None, after: int = 0, follow: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the journal's items, perhaps of one account or one type, and perhaps wait for more."""
    reader = source_of(place)
    numbering = StoreFold(1, rules_version=reader.rules_version)
    parts = reader.parts(after, account)
    while True:
        for part in parts:
            sequence, record = part.sequence, part.record
            for here, at_record, item in numbered_items(reader, part.items, sequence, numbering):
                sequence, record = here, at_record
                of_account = account is None or getattr(item, "account", None) == account
                of_kind = kind is None or (name_of(type(item)) if isinstance(item, Input) else "refused") == kind
                if sequence > after and of_account and of_kind:
                    yield describe_item(sequence, item)
        if not follow:
            return
        record = max(record, reader.last_record) if reader.repeats else record
        time.sleep(POLL_S)
        reader = reader.again()
        parts = iter([Part(sequence, record, reader.items(record))])


def effects(
    place: Place, *, account: str | None = None, kind: str | None = None, after: int = 0, follow: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield effects by sequence number, recomputed as far as they are not recorded yet; perhaps wait for more."""
    reader = source_of(place)

    def wanted(effect: AnyEffect) -> dict[str, Any] | None:
        here = place_of(effect)
        if here.sequence <= after or account not in (None, here.group):
            return None
        described = describe_effect(effect)
        return described if kind in (None, described["type"]) else None

    system, behind = reader.from_checkpoint() or (StoreFold(reader.partitions, rules_version=reader.rules_version), 0)
    upto = [folds.sequence for folds in system.sets]
    if not behind and reader.recorded and reader.recorded[-1].journal_record == reader.last_record:
        upto, behind = [reader.recorded_sequence] * len(upto), reader.last_record
    # What is recorded behind a checkpoint may lack its end: it is recomputed.
    recorded = (
        effect
        for log, last in enumerate(upto)
        for effect in map(decode_effect, reader.effects(log, after))
        if effect.sequence <= last
    )
    folded = fold_prefix(system, reader.items(behind), EVERYTHING)
    recomputed = (decode_effect(effect.data) for parts in folded for part in parts for effect in part)
    rows: dict[EffectPlace, dict[str, Any]] = {}
    for effect in chain(recorded, recomputed):
        described = wanted(effect)
        if described is not None:
            rows[place_of(effect)] = described
    for here in sorted(rows):
        yield rows[here]
    while follow:
        time.sleep(POLL_S)
        last = reader.last_record
        reader = reader.again()
        for parts in fold_prefix(system, reader.items(last), EVERYTHING):
            for effect in sorted((decode_effect(one.data) for part in parts for one in part), key=place_of):
                described = wanted(effect)
                if described is not None:
                    yield described


def quarantine(place: Place) -> Iterator[dict[str, Any]]:
    """Yield the refused inputs: id, reason, what is wrong, what to do, and the raw bytes.

    What is wrong is not recorded: the intake is folded once more from the last kept checkpoint before the first of
    them.
    """
    refused = {row["sequence"]: row for row in effects(place, kind="input_refused")}
    if not refused:
        return
    reader = source_of(place)
    kept = reader.from_checkpoint(Until(sequence=min(refused) - 1), "")
    folds, behind = kept or (StoreFold(reader.partitions, only="", rules_version=reader.rules_version), 0)
    intake = folds.intake
    for record in reader.items(behind):
        for item in record.items:
            for _, single in folds.admission.singles(item):
                if folds.admission.item(single).refused and intake.sequence in refused:
                    assert intake.last_refusal is not None
                    raw = line_of(single) if isinstance(single, PriceTicked) else single
                    yield _refusal(refused.pop(intake.sequence), intake.last_refusal[1], raw)
        if not refused:
            return
        intake.take()
        intake.book.drain()


def _refusal(effect: dict[str, Any], detail: str, item: JournalItem) -> dict[str, Any]:
    reason = Refusal(effect["reason"])
    view: dict[str, Any] = {
        "id": f"#{effect['sequence']}",
        "sequence": effect["sequence"],
        "at": effect.get("at"),
        "reason": reason.value,
        "detail": detail,
        **{name: effect[name] for name in ("source", "source_seq", "digest") if name in effect},
        "advice": ADVICE[reason],
    }
    return view | (readable(item) if isinstance(item, bytes) else {"event": to_mapping(item)})  # type: ignore[arg-type]


def quarantined(place: Place, identifier: str) -> dict[str, Any]:
    """Return one refused input, found by sequence number, ``source#seq`` or SHA-256.

    Raises:
        NotRefused: there is none.
    """
    wanted = identifier.removeprefix("#")
    for row in quarantine(place):
        names = {str(row["sequence"]), row.get("digest", ""), f"{row.get('source')}#{row.get('source_seq')}"}
        if wanted in names or identifier in names or (len(wanted) >= 8 and row.get("digest", "").startswith(wanted)):
            return row
    raise NotRefused(f"no refused input {identifier!r}", input=identifier)
