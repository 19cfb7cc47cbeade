"""Headers that no endpoint declares, in OpenAPI, so that clients which are generated from it can use them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from fastapi import FastAPI

HEADER = "twofold_header"
"""The attribute of a dependency that names the header which it reads."""

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
    "idempotency-key": (
        "Makes a repeat of the request harmless: it takes effect once, and is answered alike.",
        "0198c7a1-5f0e-7c3e-9a57-3d1f0a4be001",
    ),
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
    """Let OpenAPI name the headers that every operation takes and gives for the sake of consistency."""

    def add(schema: dict[str, Any]) -> None:
        for operations in schema.get("paths", {}).values():
            for method, operation in operations.items():
                if method in _METHODS:
                    _describe(operation, *_METHODS[method])

    _extend(api, add)


def describe_command_ids(api: FastAPI) -> None:
    """Let OpenAPI name the header of the operations whose dependencies have one as their attribute `HEADER`."""

    def add(schema: dict[str, Any]) -> None:
        for route in iter_route_contexts(api.routes):
            names = _headers_of(getattr(route, "dependant", None))
            operations = schema.get("paths", {}).get(route.path_format, {})
            for method in route.methods or ():
                if names and method.lower() in operations:
                    _describe(operations[method.lower()], names, ())

    _extend(api, add)


def _extend(api: FastAPI, add: Callable[[dict[str, Any]], None]) -> None:
    """Let a function add to the document whenever FastAPI has made it: once, and again when a route is added."""
    describe, extended = api.openapi, None

    def described() -> dict[str, Any]:
        nonlocal extended
        schema = describe()
        if schema is not extended:
            add(schema)
            extended = schema
        return schema

    api.openapi = described  # type: ignore[method-assign]  # as FastAPI's documentation extends it


def _headers_of(dependant: Dependant | None) -> set[str]:
    """Return the headers that a route's dependencies, and theirs, read by themselves."""
    if dependant is None:
        return set()
    own: str | None = getattr(dependant.call, HEADER, None)
    return ({own} if own else set()).union(*map(_headers_of, dependant.dependencies))


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
