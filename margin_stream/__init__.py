"""margin_stream: an event-sourced margin-call engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from margin_stream.native import install

install()

if TYPE_CHECKING:
    from margin_stream.calculator import margin
    from margin_stream.store import Ack, Store

__all__ = ["Ack", "Store", "margin"]


def __getattr__(name: str) -> Any:
    # Nothing is imported before it is asked for: `import margin_stream` costs nothing.
    if name == "margin":
        from margin_stream.calculator import margin as calculate

        return calculate
    if name in __all__:
        from margin_stream import store

        return getattr(store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
