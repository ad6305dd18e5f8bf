"""margin_stream: an event-sourced margin-call engine.

``Store`` writes to a store and reads it, ``Store.read`` only reads; ``margin`` is the calculator. Errors are the
classes below, all of them an ``Error``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from margin_stream.native import install

install()

if TYPE_CHECKING:
    from margin_stream.calculator import margin
    from margin_stream.errors import Error
    from margin_stream.journal.layout import (
        CorruptManifest,
        MemoryShort,
        StoreError,
        StoreLocked,
        StoreMissing,
        StoreNewer,
        StoreOlder,
    )
    from margin_stream.journal.records import CorruptLog
    from margin_stream.store import Ack, Store, StoreView
    from margin_stream.views import AccountUnknown, CallUnknown, DeskUnknown, FoldUnknown, NotRefused

__all__ = [
    "AccountUnknown",
    "Ack",
    "CallUnknown",
    "CorruptLog",
    "CorruptManifest",
    "DeskUnknown",
    "Error",
    "FoldUnknown",
    "MemoryShort",
    "NotRefused",
    "Store",
    "StoreError",
    "StoreLocked",
    "StoreMissing",
    "StoreNewer",
    "StoreOlder",
    "StoreView",
    "margin",
]
_MODULES = {
    "margin_stream.calculator": ("margin",),
    "margin_stream.errors": ("Error",),
    "margin_stream.journal.layout": (
        "CorruptManifest",
        "MemoryShort",
        "StoreError",
        "StoreLocked",
        "StoreMissing",
        "StoreNewer",
        "StoreOlder",
    ),
    "margin_stream.journal.records": ("CorruptLog",),
    "margin_stream.store": ("Ack", "Store", "StoreView"),
    "margin_stream.views": ("AccountUnknown", "CallUnknown", "DeskUnknown", "FoldUnknown", "NotRefused"),
}


def __getattr__(name: str) -> Any:
    # Nothing is imported before it is asked for: `import margin_stream` costs nothing.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
