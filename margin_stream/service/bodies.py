"""Bodies of requests: one input or many, in every form that is read."""

from __future__ import annotations

import orjson

from margin_stream.service.answers import Problem
from margin_stream.service.tokens import Token


def identified(lines: list[bytes], key: str, token: Token) -> bytes:
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


def lines_of(data: bytes, kind: str) -> list[bytes]:
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
