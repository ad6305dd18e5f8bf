"""Faults: what must hold whatever the input. Checked in production too."""

from __future__ import annotations

from margin_stream.errors import Error


class Fault(Error, code="fault"):
    """An invariant does not hold: our bug, or a corrupt journal. The part that meets it stops; nothing is guessed."""


class Mismatch(Fault, code="recovery_differs"):
    """What was recomputed differs from what was recorded."""


def check(condition: bool, invariant: str, **numbers: object) -> None:
    """Raise Fault, with the numbers as its fields, unless the invariant (worded positively) holds."""
    if not condition:
        raise Fault(
            f"not so: {invariant}" + (f" ({', '.join(f'{k}={v}' for k, v in numbers.items())})" if numbers else ""),
            **numbers,
        )
