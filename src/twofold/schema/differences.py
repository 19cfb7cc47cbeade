"""What differs between two JSON Schemas of an event: whether one reads all that the other writes, and what not."""

from __future__ import annotations

import json
from collections.abc import Iterator

from twofold.schema.shapes import Schema, closed, resolved

_DEEPEST = 20


def reads_all(reader: Schema, written: Schema) -> bool:
    """Return whether a reader accepts each payload that was written by a schema.

    Formats, such as that of a date, say more than the types of JSON, and have to be the same.

    Raises:
        ModuleNotFoundError: the extra `twofold[schema]` is not installed.
    """
    try:
        from jsoncompat import check_compat
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; schemas are compared with jsoncompat: install twofold[schema]") from error
    is_compatible = check_compat(json.dumps(closed(written)), json.dumps(reader), "deserializer")
    return bool(is_compatible) and not any(_formats(reader, written))


def renamed(reader: Schema, written: Schema) -> list[tuple[str, str]]:
    """Return fields that the reader does not know, each with one that it would fill in by its default instead."""
    found = []
    for place, now, was in _objects(reader, written):
        gone = [each for each in was.get("properties", {}) if each not in now.get("properties", {})]
        new = [each for each in now.get("properties", {}) if each not in was.get("properties", {})]
        optional = [each for each in new if each not in now.get("required", ())]
        if gone and optional:
            found.append((f"{place}{gone[0]}", f"{place}{optional[0]}"))
    return found


def differences(reader: Schema, written: Schema) -> list[str]:
    """Return in words where a reader and what was written differ."""
    found = [f"{place} has another format" for place in _formats(reader, written)]
    for place, now, was in _objects(reader, written):
        ours, theirs = now.get("properties", {}), was.get("properties", {})
        found += [
            f"{place}{each} is not stored, and is required" for each in now.get("required", ()) if each not in theirs
        ]
        found += [f"{place}{each} is no field" for each in theirs if each not in ours]
        for name in theirs:
            one, other = resolved(ours.get(name, {}), reader), resolved(theirs[name], written)
            if name in ours and one.get("type") != other.get("type"):
                found.append(f"{place}{name} is {_kind(other)}, and is read as {_kind(one)}")
    return found or ["a field has another type"]


def _kind(schema: Schema) -> str:
    if kinds := [_kind(each) for each in schema.get("anyOf", ())]:
        return " or ".join(kinds)
    return str(schema.get("type", "something else"))


def _objects(now: Schema, was: Schema) -> Iterator[tuple[str, Schema, Schema]]:
    """Yield the records within two schemas that stand at the same place."""
    for place, one, other in _pairs("", now, was, now, was, 0):
        if "properties" in one and "properties" in other:
            yield f"{place}." if place else "", one, other


def _formats(now: Schema, was: Schema) -> Iterator[str]:
    for place, one, other in _pairs("", now, was, now, was, 0):
        if one.get("format") not in (None, other.get("format")) and "string" in (one.get("type"), other.get("type")):
            yield place


def _pairs(
    place: str, now: object, was: object, new: Schema, old: Schema, depth: int
) -> Iterator[tuple[str, Schema, Schema]]:
    one, other = resolved(now, new), resolved(was, old)
    if not isinstance(one, dict) or not isinstance(other, dict) or depth > _DEEPEST:
        return
    yield place, one, other
    for name in one.get("properties", {}).keys() & other.get("properties", {}).keys():
        within = f"{place}.{name}" if place else name
        yield from _pairs(within, one["properties"][name], other["properties"][name], new, old, depth + 1)
    for key in ("items", "additionalProperties"):
        if key in one and key in other:
            yield from _pairs(f"{place}[]", one[key], other[key], new, old, depth + 1)
    for key in ("anyOf", "oneOf", "prefixItems"):
        ours, theirs = one.get(key, []), other.get(key, [])
        if len(ours) == len(theirs):
            for each, its in zip(ours, theirs, strict=True):
                yield from _pairs(place, each, its, new, old, depth + 1)
