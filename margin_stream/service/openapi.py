"""The OpenAPI document, made of the table of routes and of the schemas of inputs and effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from margin_stream.schemas.publish import json_schema
from margin_stream.service.routes import Route

PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Of docs/errors.md, or of this API."},
        "detail": {"type": "string"},
        "field": {"type": "string"},
    },
}
ACKNOWLEDGED = {
    "type": "object",
    "required": ["accepted", "duplicate", "refused", "last", "inputs"],
    "properties": {
        "accepted": {"type": "integer"},
        "duplicate": {"type": "integer"},
        "refused": {"type": "integer"},
        "last": {"type": "integer", "description": "The last sequence number."},
        "inputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["sequence", "verdict"],
                "properties": {
                    "sequence": {"type": "integer"},
                    "verdict": {"enum": ["accepted", "duplicate", "refused"]},
                    "reason": {"type": "string"},
                    "advice": {"type": "string"},
                },
            },
        },
    },
}
_ERRORS = {
    "400": "A parameter or the body is not valid.",
    "401": "No token, or none that is valid.",
    "403": "The token does not allow this.",
    "404": "There is no such thing, or the token does not show it.",
    "429": "Too many requests; Retry-After states when.",
    "503": "Not available now; Retry-After states when.",
}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    for path, summary in (
        ("/livez", "Whether the process lives."),
        ("/readyz", "Whether it answers and takes inputs."),
    ):
        text = {"200": {"description": "It does."}, "503": {"description": "It does not."}}
        paths[path] = {"get": {"summary": summary, "operationId": path.strip("/"), "security": [], "responses": text}}
    schema = json_schema()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "margin_stream",
            "version": version,
            "description": "Margin calls decided from a journal of events. Decimals are strings, times RFC 3339 in UTC.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                **{name: _moved(body) for name, body in schema["$defs"].items()},
                "Input": {"anyOf": [_moved(row) for row in schema["anyOf"]]},
                "Problem": PROBLEM,
                "Acknowledged": ACKNOWLEDGED,
            },
        },
    }


def _moved(body: Any) -> Any:
    """Return a schema whose references lead to the components of the document."""
    if isinstance(body, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _moved(value)
            for key, value in body.items()
        }
    return [_moved(one) for one in body] if isinstance(body, list) else body


def _operation(route: Route) -> dict[str, Any]:
    name = route.path.removeprefix("/v1/").replace("{", "").replace("}", "").replace("/", "_")
    content: dict[str, Any] = {"application/json": {"schema": {"type": ["object", "array"]}}}
    if route.body:
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/Acknowledged"}}}
    elif route.stream:
        content = {"text/event-stream": {"schema": {"type": "string"}}}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{name}",
        "summary": route.summary,
        "description": f"The token must allow `{route.allows}`.",
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.meaning,
                "schema": parameter.schema,
            }
            for parameter in route.parameters
        ],
        "responses": {
            "200": {"description": "Done.", "content": content},
            **{status: {"description": text, "content": problem} for status, text in _ERRORS.items()},
        },
    }
    if not route.stream:
        found["responses"]["304"] = {"description": "The caller has it already (ETag)."}
    if route.body:
        found["responses"] |= {
            "413": {"description": "The body is too large.", "content": problem},
            "415": {"description": "The body is of a type that is not read.", "content": problem},
        }
        one = {"$ref": "#/components/schemas/Input"}
        found["requestBody"] = {
            "required": True,
            "content": {
                "application/x-ndjson": {"schema": {"type": "string"}},
                "application/json": {"schema": {"anyOf": [one, {"type": "array", "items": one}]}},
            },
        }
    return found
