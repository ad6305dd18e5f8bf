"""The API, route by route: who may, what is asked, what is answered. The OpenAPI document is made of this table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web

from margin_stream.core.accounts.subaccount import Level
from margin_stream.schemas.ndjson import LINE_LIMIT
from margin_stream.service.answers import PAGE_LIMIT
from margin_stream.service.api import Api
from margin_stream.service.tokens import AUDIT, READ, WATCH, WRITE, Token

Handler = Callable[["Api", web.Request, Token], Awaitable[web.StreamResponse]]


class Parameter(NamedTuple):
    """A parameter of a route."""

    name: str
    meaning: str
    schema: dict[str, Any] = {"type": "string"}  # noqa: RUF012 (never changed)
    place: str = "query"


class Route(NamedTuple):
    """One route."""

    method: str
    path: str
    summary: str
    allows: str
    """What a token must allow."""
    handler: Handler
    parameters: tuple[Parameter, ...] = ()
    body: bool = False
    stream: bool = False


TEXT: dict[str, Any] = {"type": "string"}
FLAG: dict[str, Any] = {"type": "boolean", "default": False}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": 100}
AT = Parameter("at", "A moment (RFC 3339), a day, or a sequence number #N.")
DESK = Parameter("desk", "Only of this desk.")
CURSOR = Parameter("cursor", "`next` of the page before.")
LIMIT = Parameter("limit", "Rows of a page.", COUNT)
AFTER = Parameter("after", "Only what has a higher sequence number.", {"type": "integer", "minimum": 0})
ACCOUNT = Parameter("account", "Only of this account.")

ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/inputs", "Send inputs; answered when they are durable.", WRITE, Api.send, body=True),
    Route(
        "GET",
        "/v1/accounts",
        "Accounts, the deepest level first, then the largest shortfall.",
        READ,
        Api.accounts,
        (
            Parameter("short", "Only those that are short.", FLAG),
            Parameter("stale", "Only those with a mark that is missing, old or in doubt.", FLAG),
            Parameter("level", "Only at this level.", {"enum": list(Level.__members__)}),
            DESK,
            Parameter("near", "Only those less than so many percent above the level of calls."),
            AT,
            CURSOR,
            LIMIT,
        ),
    ),
    Route(
        "GET",
        "/v1/accounts/{account}",
        "An account: facts, figures, positions, marks, calls.",
        READ,
        Api.account,
        (Parameter("account", "Its id.", TEXT, "path"), AT),
    ),
    Route(
        "GET",
        "/v1/calls",
        "Margin calls by due time.",
        READ,
        Api.calls,
        (
            Parameter("open", "Only open ones.", FLAG),
            Parameter("overdue", "Only those past their due time.", FLAG),
            ACCOUNT,
            DESK,
            AT,
            CURSOR,
            LIMIT,
        ),
    ),
    Route(
        "GET",
        "/v1/calls/{account}/call/{number}",
        "A call with everything that happened to it.",
        READ,
        Api.call,
        (Parameter("account", "Its account.", TEXT, "path"), Parameter("number", "Its number.", TEXT, "path")),
    ),
    Route(
        "GET",
        "/v1/effects",
        "What was decided, by sequence number.",
        READ,
        Api.effects,
        (ACCOUNT, Parameter("type", "Only of this type."), AFTER, LIMIT),
    ),
    Route(
        "GET",
        "/v1/events",
        "The journal's inputs, by sequence number.",
        AUDIT,
        Api.events,
        (ACCOUNT, Parameter("type", "Only of this type."), AFTER, LIMIT),
    ),
    Route("GET", "/v1/quarantine", "Refused inputs.", AUDIT, Api.quarantine, (CURSOR, LIMIT)),
    Route("GET", "/v1/profiles", "Margin profiles in force, and those that are shipped.", READ, Api.profiles),
    Route("GET", "/v1/digest", "The digests of state and effects.", AUDIT, Api.digest, (AT,)),
    Route("GET", "/v1/summary", "How many accounts are short, how many calls are open.", READ, Api.summary),
    Route(
        "GET",
        "/v1/stream",
        "Effects as server-sent events; Last-Event-ID goes on where a client was.",
        READ,
        Api.stream,
        (
            Parameter("type", "Only of these types, separated by commas."),
            DESK,
            Parameter("after", "Begin behind this sequence number, where there is no Last-Event-ID."),
            Parameter("Last-Event-ID", "The id of the last event that was seen.", TEXT, "header"),
        ),
        stream=True,
    ),
)
"""Beside these: /livez and /readyz without a token, /metrics, /v1/openapi.json."""

ALLOWS_METRICS = WATCH
BODY_LIMIT = 8 * LINE_LIMIT
