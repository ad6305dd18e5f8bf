"""The accounts: follow their routed items, send effects."""

from __future__ import annotations

from typing import Any

from margin_stream.agents.table import FoldTable
from margin_stream.agents.topics import raw_topic


def wire(app: Any, table: FoldTable) -> None:
    """Add the agent."""

    @app.agent(raw_topic(app, table.source, table.partitions), concurrency=1, name="accounts")
    async def accounts(stream: Any) -> None:
        async for event in stream.noack().events():
            await table.take(event)
