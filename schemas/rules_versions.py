"""Rules versions: from which one on an input, a field or a value is known.

A journal is folded as the rules version in force read it, for ever: what an older version refused as unknown stays
refused in its journals, though a later version knows it. ``engine_activated`` moves a store to a later version from its
sequence number on; a new store starts with the latest. Until 1.0 there is one version, and a store of an earlier build is
refused by its format (docs/versioning.md); the tables below stay empty.
"""

from __future__ import annotations

from typing import Final

LATEST: Final = 1
"""Of this build."""

TYPES_SINCE: Final[dict[str, int]] = {}
"""Input name -> version, where it is not the first."""
FIELDS_SINCE: Final[dict[str, dict[str, int]]] = {}
"""Input name -> field -> version."""
WORDS_SINCE: Final[dict[tuple[str, str], dict[str, int]]] = {}
"""(Input name, field) -> value -> version."""

REGISTERED: Final[list[int]] = [LATEST]
"""Versions that are known; a test registers one that this build does not have."""


def latest() -> int:
    """Return the latest version that is known."""
    return REGISTERED[-1]
