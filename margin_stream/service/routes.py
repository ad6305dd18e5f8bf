"""The API, route by route: who may, what is asked, what is answered. The OpenAPI document is made of this table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from margin_stream import profiles, views
from margin_stream.core.accounts.subaccount import Level
from margin_stream.core.intake.fold import Verdict
from margin_stream.errors import Error
from margin_stream.schemas.decimals import DecimalError, parse_decimal
from margin_stream.schemas.effects import EFFECT_TYPES
from margin_stream.schemas.inputs import INPUT_TYPES, name_of
from margin_stream.schemas.ndjson import LINE_LIMIT
from margin_stream.schemas.refusals import ADVICE, Refusal
from margin_stream.schemas.times import TimeError
from margin_stream.service.answers import PAGE_LIMIT, Problem, answered, busy, flag, number, page
from margin_stream.service.engine import Engine, NotTheWriter
from margin_stream.service.stream import Hub, PlaceInvalid, Row, place_of_id
from margin_stream.service.tokens import AUDIT, READ, WATCH, WRITE, Token
from margin_stream.views.accounts import SHORT
from margin_stream.views.moments import until_of
from margin_stream.views.source import EVERYTHING, Until

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


_SHORT_LEVELS = [level.name for level in Level if level >= SHORT]
TEXT: dict[str, Any] = {"type": "string"}
FLAG: dict[str, Any] = {"type": "boolean", "default": False}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": 100}
AT = Parameter("at", "A moment (RFC 3339), a day, or a sequence number #N.")
DESK = Parameter("desk", "Only of this desk.")
CURSOR = Parameter("cursor", "`next` of the page before.")
LIMIT = Parameter("limit", "Rows of a page.", COUNT)
AFTER = Parameter("after", "Only what has a higher sequence number.", {"type": "integer", "minimum": 0})
ACCOUNT = Parameter("account", "Only of this account.")


class Api:
    """The handlers, over one engine."""

    def __init__(self, engine: Engine, hub: Hub) -> None:
        self.engine = engine
        self.hub = hub
        self.clocked: Callable[[list[bytes]], list[bytes]] = lambda lines: lines
        """Puts clocks between inputs, where the service keeps the clock by their event times."""

    # ---- inputs -----------------------------------------------------------------------------------------------------

    async def send(self, request: web.Request, token: Token) -> web.StreamResponse:
        """Take inputs; answered once they are durable."""
        kind = request.content_type
        if kind not in ("application/json", "application/x-ndjson", "application/octet-stream", "text/plain"):
            raise Problem(415, "content_type_unknown", f"{kind}: send application/x-ndjson or application/json")
        lines = _lines(await request.read(), kind)
        if not lines:
            raise Problem(400, "nothing_sent", "the body has no input")
        key = request.headers.get("Idempotency-Key")
        if key is not None:
            lines = [_identified(lines, key, token)]
        try:
            acks = await self.engine.send(self.clocked(lines))
        except NotTheWriter:
            raise busy(self.engine.writer or "the store is being opened") from None
        verdicts = [
            {"sequence": ack.sequence, "verdict": ack.verdict.name.lower()}
            | ({"reason": ack.reason, "advice": ADVICE[Refusal(ack.reason)]} if ack.reason else {})
            for ack in acks
        ]
        counts = {verdict.name.lower(): sum(ack.verdict is verdict for ack in acks) for verdict in Verdict}
        return answered(request, {**counts, "last": self.engine.last_sequence(), "inputs": verdicts})

    # ---- questions --------------------------------------------------------------------------------------------------

    async def accounts(self, request: web.Request, token: Token) -> web.StreamResponse:
        """List accounts."""
        query = request.query
        near = query.get("near")
        if near is not None:
            try:
                parse_decimal(near.removesuffix("%"))
            except DecimalError as error:
                raise Problem(400, "parameter_invalid", f"near: {error}", field="near") from None
        level = query.get("level")
        if level is not None and level not in Level.__members__:
            known = ", ".join(Level.__members__)
            raise Problem(400, "parameter_invalid", f"level: one of {known}", field="level")
        among: Collection[str] | None = None
        if self._until(request) == EVERYTHING and self.engine.index is not None:
            if flag(query, "short") or level in _SHORT_LEVELS:
                among = self.engine.index.short
            elif not token.sees_all and token.accounts:
                among = dict.fromkeys(token.accounts)
        rows = await self._rows(
            request,
            views.accounts,
            among,
            short=flag(query, "short"),
            stale=flag(query, "stale"),
            level=level,
            desk=_desk_named(query, token),
            near=None if near is None else near.removesuffix("%"),
        )
        shown = [row for row in rows if token.sees(row["account"], row["desk"])]
        return answered(request, page(query, shown), etag=self._etag(request, token))

    async def account(self, request: web.Request, token: Token) -> web.StreamResponse:
        """Show an account."""
        account = request.match_info["account"]
        await self._check_seen(account, token)
        row = await self._ask(request, views.account_state, account)
        return answered(request, row, etag=self._etag(request, token))

    async def calls(self, request: web.Request, token: Token) -> web.StreamResponse:
        """List calls by due time."""
        query = request.query
        if query.get("account"):
            await self._check_seen(query["account"], token)
        among: Collection[str] | None = None
        index, one = self.engine.index, query.get("account")
        if self._until(request) == EVERYTHING and index is not None:
            waiting = flag(query, "open") or flag(query, "overdue")
            among = [one] if one else index.open if waiting else index.called
        rows = await self._rows(
            request,
            views.calls,
            among,
            account=query.get("account"),
            open_only=flag(query, "open"),
            overdue=flag(query, "overdue"),
            desk=_desk_named(query, token),
        )
        shown = [row for row in rows if token.sees(row["account"], row["desk"])]
        return answered(request, page(query, shown), etag=self._etag(request, token))

    async def call(self, request: web.Request, token: Token) -> web.StreamResponse:
        """Show a call with its history."""
        account, number_ = request.match_info["account"], request.match_info["number"]
        await self._check_seen(account, token)
        row = await self._asked(views.call_history, self.engine.path, f"{account}/call/{number_}")
        return answered(request, row, etag=self._etag(request, token))

    async def effects(self, request: web.Request, token: Token) -> web.StreamResponse:
        """List effects by sequence number."""
        seen = await self._seen(token)
        rows = await self._listed(request, views.effects, EFFECT_TYPES)
        return answered(request, [row for row in rows if seen(row)], etag=self._etag(request, token))

    async def events(self, request: web.Request, token: Token) -> web.StreamResponse:
        """List the journal's inputs by sequence number."""
        return answered(
            request, await self._listed(request, views.events, INPUT_TYPES), etag=self._etag(request, token)
        )

    async def _listed(self, request: web.Request, question: Callable[..., Any], kinds: tuple[Any, ...]) -> list[Row]:
        query = request.query
        kind, account = query.get("type"), query.get("account")
        if kind is not None and kind not in {name_of(one) for one in kinds} | {"refused"}:
            raise Problem(400, "parameter_invalid", f"type: no type {kind[:60]!r}", field="type")
        after = number(query, "after", 0)
        limit = number(query, "limit", 100, least=1, most=PAGE_LIMIT)

        def first() -> list[Row]:
            found: list[Row] = []
            for row in question(self.engine.path, account=account, kind=kind, after=after):
                # Those of one sequence number stay together, so that `after` goes on without a gap.
                if len(found) >= limit and row["sequence"] != found[-1]["sequence"]:
                    break
                found.append(row)
            return found

        return list(await self._asked(first))

    async def quarantine(self, request: web.Request, token: Token) -> web.StreamResponse:
        """List refused inputs."""
        rows = await self._asked(lambda: list(views.quarantine(self.engine.path)))
        return answered(request, page(request.query, rows), etag=self._etag(request, token))

    async def profiles(self, request: web.Request, _: Token) -> web.StreamResponse:
        """List the profiles in force."""
        folds = await self._folds()
        active = [
            {"profile": profile.name, "version": profile.version}
            for profile in sorted(folds.intake.market.profiles.values(), key=lambda one: one.name)
        ]
        shipped = [{"profile": data.name, "title": data.title} for data in map(profiles.load, profiles.names())]
        return answered(request, {"active": active, "shipped": shipped})

    async def digest(self, request: web.Request, token: Token) -> web.StreamResponse:
        """Show the digests."""
        until = self._until(request)
        if until == EVERYTHING:
            digests = (await self._folds()).digests()
        else:
            digests = await self._asked(lambda: views.folds_at(self.engine.path, until).digests())
        row = {"last": digests.sequence, "state_digest": digests.state, "effects_digest": digests.effects}
        return answered(request, row, etag=self._etag(request, token))

    async def summary(self, request: web.Request, token: Token) -> web.StreamResponse:
        """Show counts of accounts and calls, of those that the token shows."""
        folds = await self._folds()
        if token.sees_all:
            return answered(request, views.summary(folds, self._counts()), etag=self._etag(request, token))
        index = self.engine.index
        short, called = (None, None) if index is None else (list(index.short), list(index.open))
        accounts = [row for row in views.accounts(folds, among=short) if token.sees(row["account"], row["desk"])]
        calls = [
            row for row in views.calls(folds, open_only=True, among=called) if token.sees(row["account"], row["desk"])
        ]
        row = {
            "calls_open": len(calls),
            "calls_overdue": sum(bool(row["overdue"]) for row in calls),
            "accounts_short": len({row["account"] for row in accounts if row["short"]}),
        }
        return answered(request, row, etag=self._etag(request, token))

    # ---- the stream -------------------------------------------------------------------------------------------------

    async def stream(self, request: web.Request, token: Token) -> web.StreamResponse:
        """Send effects as they are decided."""
        text = request.headers.get("Last-Event-ID") or request.query.get("after")
        try:
            after = None if text is None else place_of_id(text.strip())
        except PlaceInvalid as error:
            raise Problem(400, "parameter_invalid", str(error), field="Last-Event-ID") from None
        if self.engine.store is None:
            raise busy(self.engine.writer or "the store is being opened")
        kinds = set(filter(None, request.query.get("type", "").split(",")))
        unknown = kinds - {name_of(one) for one in EFFECT_TYPES}
        if unknown:
            raise Problem(400, "parameter_invalid", f"type: no type {sorted(unknown)[0][:60]!r}", field="type")
        desk, seen = _desk_named(request.query, token), await self._seen(token)

        def wanted(row: Row) -> bool:
            return (not kinds or row["type"] in kinds) and seen(row) and (desk is None or self._desk_of(row) == desk)

        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n")
        async for event in self.hub.follow(after, wanted, self.engine.effects_after):
            await response.write(event)
        return response

    def _counts(self) -> Mapping[str, int] | None:
        return None if self.engine.index is None else self.engine.index.counts

    # ---- what they share --------------------------------------------------------------------------------------------

    def _until(self, request: web.Request) -> Until:
        try:
            return until_of(request.query.get("at"))
        except TimeError as error:
            raise Problem(400, "time_invalid", f"at: {error}", field="at") from None

    async def _folds(self) -> Any:
        try:
            return await self.engine.folds()
        except NotTheWriter:
            raise busy("the store is being opened") from None

    async def _ask(self, request: web.Request, question: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Put a question to the folds as they are, or to the folder for a past moment."""
        until = self._until(request)
        if until == EVERYTHING:
            folds = await self._folds()
            try:
                return question(folds, *args, **named)
            except Error as error:
                raise _unknown(error) from None
        return await self._asked(question, self.engine.path, *args, until=until, **named)

    async def _rows(
        self, request: web.Request, question: Callable[..., Any], among: Collection[str] | None, **named: Any
    ) -> list[Row]:
        """Return rows: of the accounts that can have any, where they are known; else every account is looked at, in a
        thread, so that others are answered meanwhile."""
        if among is None:
            return list(await self._asked(question, self.engine.path, until=self._until(request), **named))
        desk = named.get("desk")
        if desk is not None and self.engine.index is not None and not self.engine.index.has_desk(desk):
            raise Problem(404, "desk_unknown", f"no account is of the desk {desk[:60]!r}")
        known = (await self._folds()).intake.accounts.entries
        return list(await self._ask(request, question, among=[name for name in among if name in known], **named))

    async def _asked(self, question: Callable[..., Any], *args: Any, **named: Any) -> Any:
        await self._folds()
        try:
            return await self.engine.asked(question, *args, **named)
        except Error as error:
            raise _unknown(error) from None

    async def _check_seen(self, account: str, token: Token) -> None:
        """Answer as for an account that is not there where the token does not show it."""
        if token.sees_all:
            return
        if not token.sees(account, self._desk(await self._folds(), account)):
            raise Problem(404, "account_unknown", f"account {account!r} is not open")

    async def _seen(self, token: Token) -> Callable[[Row], bool]:
        """Return whether a token shows an effect: one of no account only where it shows everything."""
        await self._folds()

        def seen(row: Row) -> bool:
            if token.sees_all:
                return True
            account = row.get("account")
            return account is not None and token.sees(account, self._desk_of(row))

        return seen

    def _desk_of(self, row: Row) -> str:
        folds = self.engine.known
        account = row.get("account")
        return "" if folds is None or account is None else self._desk(folds, account)

    @staticmethod
    def _desk(folds: Any, account: str) -> str:
        entry = folds.intake.accounts.entries.get(account)
        found = None if entry is None else folds.accounts[entry.partition].account(account)
        return "" if found is None else str(found.desk)

    def _etag(self, request: web.Request, token: Token) -> str:
        """Return what names this answer: the sequence number, the question, and who asks."""
        named = f"{self.engine.last_sequence()} {request.raw_path} {token.hash}"
        return f'W/"{sha256(named.encode()).hexdigest()[:32]}"'


def _desk_named(query: Mapping[str, str], token: Token) -> str | None:
    """Return the desk of a query.

    Raises:
        Problem: 404, it is not one that the token shows: the same as for one that is not there.
    """
    desk = query.get("desk")
    if desk is not None and not token.sees_all and desk not in token.desks:
        raise Problem(404, "desk_unknown", f"no account is of the desk {desk[:60]!r}")
    return desk


def _unknown(error: Error) -> Problem:
    """Return an error of a question as a problem."""
    status = 404 if error.code.endswith("_unknown") else 503 if error.code.startswith("store_") else 400
    return Problem(
        status, error.code, str(error), **{k: v for k, v in error.where.items() if k not in ("store", "file")}
    )


def _identified(lines: list[bytes], key: str, token: Token) -> bytes:
    """Return an action without an identity of its own as an input of its actor: the key is its identity.

    Raises:
        Problem: 400, there are several, or it has an identity.
    """
    try:
        event = orjson.loads(lines[0])
    except orjson.JSONDecodeError as error:
        raise Problem(400, "not_json", f"the body is no JSON object: {error}") from None
    if len(lines) != 1 or not isinstance(event, dict) or {"source", "source_seq"} & event.keys():
        what = "Idempotency-Key goes with one object that has neither source nor source_seq"
        raise Problem(400, "parameter_invalid", what, field="Idempotency-Key")
    if not 1 <= len(key) <= 64 or not key.isascii() or not key.isprintable():
        raise Problem(
            400, "parameter_invalid", "Idempotency-Key: 1 to 64 printable characters", field="Idempotency-Key"
        )
    return orjson.dumps(event | {"source": f"api/{token.name}/{key}", "source_seq": 1})


def _lines(data: bytes, kind: str) -> list[bytes]:
    """Return the inputs of a body: lines of NDJSON, one JSON object, or an array of them."""
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if kind == "application/json" and text[:1] == b"[":
        return _elements(text)
    if kind == "application/json" and b"\n" in text:
        return [_one_line(text)]
    return [line for line in (one.strip(b"\r") for one in text.split(b"\n")) if line.strip()]


def _elements(text: bytes) -> list[bytes]:
    """Return the elements of a JSON array, each as it is written."""
    import msgspec

    try:
        return [bytes(one) for one in msgspec.json.decode(text, type=list[msgspec.Raw])]
    except msgspec.DecodeError as error:
        raise Problem(400, "not_json", f"the body is no JSON array: {error}") from None


def _one_line(text: bytes) -> bytes:
    """Return a JSON object that is laid over lines as one line."""
    import msgspec

    try:
        return bytes(msgspec.json.format(text, indent=-1))
    except msgspec.DecodeError as error:
        raise Problem(400, "not_json", f"the body is no JSON: {error}") from None


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
