"""The headers of consistency in OpenAPI, so that clients which are generated from it can use them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI

_PARAMETERS: Mapping[str, tuple[str, str]] = {
    "Consistency-Token": (
        "Sent back from an earlier response, it makes the answer show what that response had written.",
        "AgAAAAAAAAARERITFBUWFxgZGhscHR4fIKqTcrPULY90",
    ),
    "Prefer": ("How many seconds the client will wait for the read models: `wait=2`.", "wait=2"),
    "If-Match": (
        "The `ETag` of what the change is meant for; 412 if it has changed since.",
        '"3"',
    ),
    "If-None-Match": ("The `ETag` of what the client has; 304 if it has not changed since.", '"3"'),
}
_HEADERS: Mapping[str, tuple[str, str]] = {
    "Consistency-Token": (
        "What this client has written, for its next request.",
        "AgAAAAAAAAARERITFBUWFxgZGhscHR4fIKqTcrPULY90",
    ),
    "Consistency": ("There if the answer is stale: `stale; age=<seconds>`.", "stale; age=1.250"),
    "Preference-Applied": ("There if the request had a `Prefer` that was followed.", "wait=2"),
    "ETag": ("The version of what the response is about.", '"3"'),
}
_READ = (("Consistency-Token", "Prefer", "If-None-Match"), ("Consistency", "Preference-Applied", "ETag"))
_CHANGE = (("Consistency-Token", "If-Match"), ("Consistency-Token", "ETag"))
_METHODS = {"get": _READ, "post": _CHANGE, "put": _CHANGE, "patch": _CHANGE, "delete": _CHANGE}


def describe_headers(api: FastAPI) -> None:
    """Let OpenAPI name the headers that every operation takes and gives."""
    describe = api.openapi

    def described() -> dict[str, Any]:
        is_new = api.openapi_schema is None  # FastAPI makes the schema once, and keeps it
        schema = describe()
        if is_new:
            for operations in schema.get("paths", {}).values():
                for method, operation in operations.items():
                    if method in _METHODS:
                        _describe(operation, *_METHODS[method])
        return schema

    api.openapi = described  # type: ignore[method-assign]  # as FastAPI's documentation extends it


def _describe(operation: dict[str, Any], parameters: Iterable[str], headers: Iterable[str]) -> None:
    own = operation.setdefault("parameters", [])
    named = {each["name"].lower() for each in own if each.get("in") == "header"}
    own += [_parameter(name) for name in parameters if name.lower() not in named]
    for status, response in operation.get("responses", {}).items():
        if status.startswith("2"):
            known = {name.lower() for name in response.get("headers", {})}
            new = {name: _shape(*_HEADERS[name]) for name in headers if name.lower() not in known}
            response.setdefault("headers", {}).update(new)


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, **_shape(*_PARAMETERS[name])}


def _shape(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}
