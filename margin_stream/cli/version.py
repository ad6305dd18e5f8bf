"""What ``--version`` prints; loads nothing that it does not need."""

from __future__ import annotations

from margin_stream.journal import FORMAT
from margin_stream.schemas.rules_versions import latest


def version_line() -> str:
    """Return the versions of margin-stream, of its rules and of the format of its stores."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"margin-stream {version('margin-stream')} (rules {latest()}, store format {FORMAT})"
    except PackageNotFoundError:
        return f"margin-stream (not installed; rules {latest()}, store format {FORMAT})"
