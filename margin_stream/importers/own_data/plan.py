"""What an import sends, and what is wrong with it: the same rules that will decide are asked first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from margin_stream.core.intake.fold import Verdict
from margin_stream.core.store_fold import StoreFold
from margin_stream.importers.own_data.forms import Row
from margin_stream.importers.own_data.problems import Place, Problem, problem
from margin_stream.schemas.inputs import AnyInput, ClockTicked
from margin_stream.schemas.refusals import ADVICE, Refusal

COLUMN_OF = {"quantity_delta": "quantity", "amount_delta": "amount", "time": "time", "event_time": "time"}
"""Field of an input -> the column that it comes from, where their names differ."""


@dataclass(slots=True)
class Plan:
    """The inputs of an import, in the order in which they are sent."""

    source: str
    events: list[AnyInput] = field(default_factory=list)
    rows: dict[tuple[str, int], Row] = field(default_factory=dict)
    """Source and number of an event -> the row that it comes from."""
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What was understood, for the summary."""

    def add(self, event: AnyInput, row: Row | None = None) -> None:
        """Send an event, which comes from a row."""
        self.events.append(event)
        if row is not None:
            self.rows[event.source, event.source_seq] = row

    def rehearse(self, folds: StoreFold) -> None:
        """Admit the events to folds that are a copy of the store's; what they refuse becomes a problem of its row.

        Args:
            folds: changed by this, and good for nothing afterwards.
        """
        for event in self.events:
            if folds.admission.event(event) is Verdict.REFUSED:
                assert folds.intake.last_refusal is not None
                self.problems.append(self._refused(event, *folds.intake.last_refusal))

    def _refused(self, event: AnyInput, reason: Refusal, detail: str) -> Problem:
        name, colon, what = detail.partition(": ")
        row = self.rows.get((event.source, event.source_seq))
        if row is None:
            where = "--at" if isinstance(event, ClockTicked) else type(event).__name__
            return problem(Place(self.source, 0), f"{where}: {reason.value}: {detail}", ADVICE[reason])
        column = COLUMN_OF.get(name, name)
        if not colon or " " in column or "," in column:
            column, what = "", detail
        value = row.texts.get(column) if column else None
        return problem(row.place, what, ADVICE[reason], column=column, value=value)
