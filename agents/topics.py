"""Topics of bytes."""

from __future__ import annotations

from typing import Any


def raw_topic(app: Any, name: str, partitions: int) -> Any:
    """Return a topic of bytes as they are: nothing that anyone sends can fail to decode."""
    return app.topic(
        name,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        partitions=partitions,
        allow_empty=True,
    )
