"""An effect as a mapping."""

from __future__ import annotations

from typing import Any

import msgspec

from margin_stream.schemas.effects import Effect
from margin_stream.views.moments import with_moments


def describe_effect(effect: Effect) -> dict[str, Any]:
    """Return an effect as a mapping, moments as text."""
    fields: dict[str, Any] = msgspec.to_builtins(effect)
    fields["type"] = str(fields["type"]).rpartition(".v")[0]
    return with_moments(fields)
