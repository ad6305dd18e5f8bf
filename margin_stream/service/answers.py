"""What the API answers: JSON, pages of rows, errors as RFC 9457 has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

COMPRESSED_FROM = 1024
PAGE, PAGE_LIMIT = 100, 1000
_TITLES = {
    400: "Bad request",
    401: "A token is needed",
    403: "The token does not allow this",
    404: "Not found",
    409: "Conflict",
    413: "Too large",
    415: "Not of a type that is read",
    422: "Not valid",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available now",
}


class Problem(Exception):
    """A request that is not answered as asked."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.more = more
        self.headers: dict[str, str] = {}

    def response(self) -> web.Response:
        """Return it as ``application/problem+json``."""
        body = {
            "type": f"urn:margin-stream:{self.code}",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.more,
        }
        return web.Response(
            body=orjson.dumps(body, default=str),
            status=self.status,
            content_type="application/problem+json",
            headers=self.headers,
        )


def busy(detail: str, *, seconds: int = 1) -> Problem:
    """Return the problem of a service that cannot answer now, but soon."""
    found = Problem(503, "not_available", detail)
    found.headers["Retry-After"] = str(seconds)
    return found


def answered(request: web.Request, body: Any, *, etag: str | None = None, status: int = 200) -> web.StreamResponse:
    """Return JSON, compressed where that helps; nothing where the caller has it already."""
    if etag is not None and etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers={"ETag": etag})
    data = orjson.dumps(body, default=str)
    response = web.Response(body=data, content_type="application/json", status=status)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Authorization, Accept-Encoding"
    if etag is not None:
        response.headers["ETag"] = etag
    if len(data) >= COMPRESSED_FROM:
        response.enable_compression()
    return response


def number(query: Mapping[str, str], name: str, default: int, *, least: int = 0, most: int = 2**62) -> int:
    """Return a number of a query.

    Raises:
        Problem: 400, it is none.
    """
    text = query.get(name)
    if text is None:
        return default
    plain = text.removeprefix("#") if name in ("after", "cursor") else text
    if not plain.isascii() or not plain.isdigit() or not least <= int(plain[:20]) <= most:
        raise Problem(
            400, "parameter_invalid", f"{name}: a number from {least} to {most}, not {text[:40]!r}", field=name
        )
    return int(plain)


def flag(query: Mapping[str, str], name: str) -> bool:
    """Return a yes or no of a query.

    Raises:
        Problem: 400, it is neither.
    """
    text = query.get(name, "false").lower()
    if text not in ("true", "false", "1", "0", ""):
        raise Problem(400, "parameter_invalid", f"{name}: true or false, not {text[:40]!r}", field=name)
    return text in ("true", "1", "")


def page(query: Mapping[str, str], rows: Sequence[Any]) -> dict[str, Any]:
    """Return a page of rows: ``items``, how many there are in all, and the cursor of the next page."""
    start = number(query, "cursor", 0)
    limit = number(query, "limit", PAGE, least=1, most=PAGE_LIMIT)
    end = start + limit
    return {"items": rows[start:end], "total": len(rows), "next": str(end) if end < len(rows) else None}
