"""The effects: follow what the shards decided, check that nothing is missing, send alerts."""

from __future__ import annotations

from typing import Any

from margin_stream.agents.table import FoldTable
from margin_stream.agents.topics import raw_topic


def wire(app: Any, table: FoldTable) -> None:
    """Add the agent."""

    @app.agent(raw_topic(app, table.source, table.partitions), concurrency=1, name="effects")
    async def effects(stream: Any) -> None:
        async for event in stream.noack().events():
            await table.take(event)
