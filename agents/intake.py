"""The intake: follows the journal, sends routed items, effects and refusals."""

from __future__ import annotations

from typing import Any

from margin_stream.agents.table import FoldTable
from margin_stream.agents.topics import raw_topic


def wire(app: Any, table: FoldTable) -> None:
    """Add the agent."""

    @app.agent(raw_topic(app, table.source, 1), concurrency=1, name="intake")
    async def intake(stream: Any) -> None:
        async for event in stream.noack().events():
            await table.take(event)
