"""The alerts: counts what went out to the desks, by type. Alerts may come twice, with the same id."""

from __future__ import annotations

from typing import Any

from margin_stream.agents.metrics import count_alert
from margin_stream.agents.topics import raw_topic


def wire(app: Any) -> None:
    """Add the agent."""

    @app.agent(raw_topic(app, app.address.topics.alerts, 1), concurrency=1, name="alerts")
    async def alerts(stream: Any) -> None:
        async for alert in stream:
            count_alert(alert)
