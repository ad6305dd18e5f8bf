"""Upcasters: pure functions that turn an event as an older version wrote it into the newest one.

An upcaster takes and returns the event's fields as a mapping; ``UPCASTERS`` names, for each older tag, the function and
the tag that it leads to. They are followed until the newest version is reached, so each one bridges a single step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Upcaster = Callable[[Mapping[str, Any]], dict[str, Any]]


def account_opened_v1_to_v2(event: Mapping[str, Any]) -> dict[str, Any]:
    """One ``contact`` became a list of ``contacts``; an empty contact is none."""
    fields = {name: value for name, value in event.items() if name != "contact"}
    contact = event.get("contact", "")
    if contact:
        fields["contacts"] = [contact]
    return fields


UPCASTERS: dict[str, tuple[Upcaster, str]] = {
    "account_opened.v1": (account_opened_v1_to_v2, "account_opened.v2"),
}


def upcast(tag: str, event: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the newest tag and fields of an event, following upcasters one step at a time."""
    while (step := UPCASTERS.get(tag)) is not None:
        function, tag = step
        event = function(event)
    return tag, event
