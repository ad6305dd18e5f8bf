"""The handlers of the API: what is asked of the engine, and what of it a token shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from typing import Any

from aiohttp import web

from margin_stream import profiles, views
from margin_stream.core.accounts.subaccount import Level
from margin_stream.core.intake.fold import Verdict
from margin_stream.errors import Error
from margin_stream.schemas.decimals import DecimalError, parse_decimal
from margin_stream.schemas.effects import EFFECT_TYPES
from margin_stream.schemas.inputs import INPUT_TYPES, name_of
from margin_stream.schemas.refusals import ADVICE, Refusal
from margin_stream.schemas.times import TimeError
from margin_stream.service.answers import PAGE_LIMIT, Problem, answered, busy, flag, number, page
from margin_stream.service.bodies import identified, lines_of
from margin_stream.service.engine import Engine, NotTheWriter
from margin_stream.service.stream import Hub, PlaceInvalid, Row, place_of_id
from margin_stream.service.tokens import Token
from margin_stream.views.accounts import SHORT
from margin_stream.views.moments import until_of
from margin_stream.views.source import EVERYTHING, Until

_SHORT_LEVELS = [level.name for level in Level if level >= SHORT]


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
        lines = lines_of(await request.read(), kind)
        if not lines:
            raise Problem(400, "nothing_sent", "the body has no input")
        key = request.headers.get("Idempotency-Key")
        if key is not None:
            lines = [identified(lines, key, token)]
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
