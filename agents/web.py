"""What a worker answers over HTTP: is it alive, is it ready, how far is it; and of the accounts that it has, their
state and calls."""

from __future__ import annotations

from typing import Any

import mode
import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from margin_stream.agents.metrics import registry, shard_row
from margin_stream.core.digests import partition_of, slot_of
from margin_stream.kafka.shards import AccountsShard
from margin_stream.views.account import account_in
from margin_stream.views.call import calls_in


def _json(row: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(row), content_type="application/json", status=status)


class Web(mode.Service):
    """The HTTP server of a worker."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        super().__init__()
        self._app = app
        self._host, self._port = host, port
        self._registry = registry(app)
        self._runner: web.AppRunner | None = None

    async def on_start(self) -> None:
        """Listen."""
        server = web.Application()
        server.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/shards", self._shards),
                web.get("/accounts/{account}", self._account),
                web.get("/calls", self._calls),
            ]
        )
        self._runner = web.AppRunner(server, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def on_stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return _json({"alive": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        app = self._app
        rows = [shard_row(app, follower) for follower in app.followers()]
        view = {
            "ready": app.ready,
            "shards": len(rows),
            "restored": sum(row["ready"] for row in rows),
            "changelog_records_left": app.changelog_left,
            "records_behind": sum(row["lag"] or 0 for row in rows),
            "failed": [row["failed"] for row in rows if row["failed"]],
        }
        return _json(view, 200 if app.ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _shards(self, _: web.Request) -> web.Response:
        return _json([shard_row(self._app, follower) for follower in self._app.followers()])

    def _partitions(self) -> dict[int, AccountsShard]:
        return {
            follower.partition: follower.shard
            for follower in self._app.followers()
            if isinstance(follower.shard, AccountsShard) and follower.loaded
        }

    async def _account(self, request: web.Request) -> web.Response:
        account = request.match_info["account"]
        number = partition_of(slot_of(account), self._app.manifest.partitions)
        shard = self._partitions().get(number)
        if shard is None:
            return _json({"error": "elsewhere", "partition": number}, 421)
        found = account_in(shard.accounts, account, shard.sequence)
        return _json({"error": "unknown", "sequence": shard.sequence}, 404) if found is None else _json(found)

    async def _calls(self, request: web.Request) -> web.Response:
        account = request.query.get("account") or None
        open_only = request.query.get("open") == "1"
        partitions = self._partitions()
        rows = [
            row
            for shard in partitions.values()
            for row in calls_in(shard.accounts, account=account, open_only=open_only)
        ]
        return _json({"partitions": sorted(partitions), "calls": rows})
