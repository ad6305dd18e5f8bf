"""The HTTP server: who calls is known before anything is answered; it stops cleanly."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from margin_stream.journal.layout import StoreError
from margin_stream.service.answers import Problem, answered
from margin_stream.service.api import Api
from margin_stream.service.measures import Measures
from margin_stream.service.openapi import document
from margin_stream.service.routes import ALLOWS_METRICS, BODY_LIMIT, ROUTES, Route
from margin_stream.service.tokens import Token, Tokens, TokensDamaged

OPEN = ("/livez", "/readyz")
"""What answers without a token: whether it lives, nothing of what it holds."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Server": "margin_stream",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gate:
    """How many requests of a kind are under way at most; more are turned away at once, and come again."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0

    def __enter__(self) -> None:
        if self._inside >= self._limit:
            problem = Problem(429, "too_many_requests", f"more than {self._limit} requests of this kind are under way")
            problem.headers["Retry-After"] = "1"
            raise problem
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._inside -= 1


INPUTS, READS, STREAMS = 256, 64, 1200


class Server:
    """Routes, tokens and measures over one engine."""

    def __init__(self, api: Api, tokens: Tokens, version: str) -> None:
        self._api = api
        self._tokens = tokens
        self._version = version
        self.measures = Measures(api.engine, api.hub)
        self._gates = {"send": Gate(INPUTS), "read": Gate(READS), "stream": Gate(STREAMS)}

    def app(self) -> web.Application:
        """Return the application."""
        found = web.Application(client_max_size=BODY_LIMIT, middlewares=[self._guarded])
        found.router.add_get("/livez", self._livez)
        found.router.add_get("/readyz", self._readyz)
        found.router.add_get("/metrics", self._metrics)
        found.router.add_get("/v1/openapi.json", self._openapi)
        for route in ROUTES:
            found.router.add_route(route.method, route.path, partial(self._route, route))
        return found

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handle) -> web.StreamResponse:
        """Answer every error as a problem, and count."""
        started = time.perf_counter()
        resource = request.match_info.route.resource
        name = resource.canonical if resource is not None else "none"
        try:
            if name not in OPEN:
                request["token"] = self._token(request)
            response = await handler(request)
        except Problem as problem:
            response = problem.response()
        except web.HTTPRequestEntityTooLarge:
            response = Problem(413, "too_large", f"a body has at most {BODY_LIMIT >> 20} MiB; send batches").response()
        except web.HTTPException as error:
            code = "not_found" if error.status == 404 else "method_not_allowed" if error.status == 405 else "http"
            response = Problem(error.status, code, error.reason).response()
            response.headers.update({k: v for k, v in error.headers.items() if k == "Allow"})
        except StoreError as error:
            response = Problem(503, error.code, str(error)).response()
        if not response.prepared:
            response.headers.update(HEADERS)
        self.measures.requests.labels(name, str(response.status)).inc()
        self.measures.seconds.labels(name).observe(time.perf_counter() - started)
        return response

    def _token(self, request: web.Request) -> Token:
        """Return the caller's token.

        Raises:
            Problem: 401, there is none, or none that is valid.
        """
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        try:
            token = self._tokens.of(text.strip()) if kind.lower() == "bearer" and text else None
        except TokensDamaged as error:
            raise Problem(503, error.code, "the file of tokens cannot be read") from None
        if token is None:
            problem = Problem(
                401, "token_needed", "send Authorization: Bearer TOKEN; `margin-stream token create` makes one"
            )
            problem.headers["WWW-Authenticate"] = 'Bearer realm="margin_stream"'
            raise problem
        return token

    async def _route(self, route: Route, request: web.Request) -> web.StreamResponse:
        token: Token = request["token"]
        if not token.may(route.allows):
            raise Problem(403, "token_not_enough", f"a token of role {token.role} does not allow `{route.allows}`")
        known = {parameter.name for parameter in route.parameters}
        unknown = sorted(set(request.query) - known)
        if unknown:
            there = ", ".join(sorted(known)) or "none"
            raise Problem(400, "parameter_unknown", f"{unknown[0][:60]}: no such parameter; there are: {there}")
        with self._gates["stream" if route.stream else "send" if route.body else "read"]:
            return await route.handler(self._api, request, token)

    async def _livez(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"alive": True})

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        engine = self._api.engine
        row = {"ready": engine.ready, "writer": engine.store is not None, "opening": engine.opening}
        if engine.failed is not None:
            row["failed"] = True
        return web.json_response(row, status=200 if engine.ready else 503)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        token: Token = request["token"]
        if not token.may(ALLOWS_METRICS):
            raise Problem(403, "token_not_enough", f"a token of role {token.role} does not allow `{ALLOWS_METRICS}`")
        data = generate_latest(self.measures.registry)
        return web.Response(body=data, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        return answered(request, document(ROUTES, self._version))


async def serve(
    server: Server,
    host: str,
    port: int,
    stop: asyncio.Event,
    listening: Callable[[int], None],
    *,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve until told to stop: no new request is taken, those under way are answered, streams end.

    Args:
        host, port: where; port 0 for any.
        stop: set where it is to end.
        listening: told the port.
        tls: certificate and key, where it is to be encrypted.

    Raises:
        OSError: the address cannot be had.
    """
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=2, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
        assert runner.addresses
        listening(runner.addresses[0][1])
        await stop.wait()
    finally:
        await runner.cleanup()
