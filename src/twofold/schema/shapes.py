"""JSON Schemas of classes of events: as they are stored, and as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from twofold.errors import InvalidMessageTypeError
from twofold.log.event_fields import is_pydantic

Schema = dict[str, Any]

_TEXTS = ("title", "description", "$comment", "examples")
_BY_NAME = ("properties", "$defs", "patternProperties")
_RAW = ("default", "const", "enum", "required")


def stored_schema(cls: Any) -> Schema:
    """Return the JSON Schema of the payloads that a class writes, without texts, in the order of its fields.

    Raises:
        InvalidMessageTypeError: a field has a type that no JSON Schema says.
    """
    if not is_pydantic(cls):
        return _of_msgspec(cls)
    schema = cls.model_json_schema(mode="serialization")
    return _root(_plain(_without_required_defaults(schema)))


def read_schema(cls: Any) -> Schema:
    """Return the JSON Schema of the payloads that a class reads; raises what `stored_schema` raises."""
    return _root(_plain(cls.model_json_schema(mode="validation"))) if is_pydantic(cls) else _of_msgspec(cls)


def closed(schema: Any) -> Any:
    """Return a schema that admits no fields but those that it names: that is what a class writes."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    within = {key: _each(key, value, closed) for key, value in schema.items()}
    return {"additionalProperties": False, **within} if "properties" in schema else within


def resolved(schema: Any, root: Schema) -> Any:
    """Return a part of a schema, with a reference followed."""
    while isinstance(schema, dict) and (reference := schema.get("$ref", "")):
        name = reference.rpartition("/")[2]
        schema = root if reference == "#" else root.get("$defs", {}).get(name, {})
    return schema


def _of_msgspec(cls: Any) -> Schema:
    try:
        return _root(_plain(msgspec.json.schema(cls)))
    except TypeError as error:
        raise InvalidMessageTypeError(f"{cls.__qualname__} has no JSON Schema: {error}") from error


def _each(key: str, value: Any, change: Any) -> Any:
    if key in _RAW:
        return value
    if key in _BY_NAME and isinstance(value, Mapping):
        return {name: change(each) for name, each in value.items()}
    return change(value)


def _plain(schema: Any) -> Any:
    """Return a schema without texts, which say nothing of what is stored."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _each(key, value, _plain) for key, value in schema.items() if key not in _TEXTS}


def _root(schema: Schema) -> Schema:
    """Return a schema with the class itself at its root: the class may be renamed, and the schema stays the same."""
    reference = schema.get("$ref", "")
    name = reference.rpartition("/")[2]
    if not name or name not in schema.get("$defs", {}):
        return schema
    others = {key: value for key, value in schema["$defs"].items() if key != name}
    if _refers(reference, [schema["$defs"][name], others]):
        return schema
    return {**schema["$defs"][name], **({"$defs": others} if others else {})}


def _refers(reference: str, parts: Any) -> bool:
    if isinstance(parts, Mapping):
        return parts.get("$ref") == reference or any(_refers(reference, each) for each in parts.values())
    return isinstance(parts, list) and any(_refers(reference, each) for each in parts)


def _without_required_defaults(schema: Any) -> Any:
    """Return pydantic's schema of what it writes, with the fields that have defaults optional for who reads it."""
    if isinstance(schema, list):
        return [_without_required_defaults(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    within = {key: _each(key, value, _without_required_defaults) for key, value in schema.items()}
    if "required" in schema and "properties" in schema:
        within["required"] = [
            each for each in schema["required"] if "default" not in schema["properties"].get(each, {})
        ]
    return within
