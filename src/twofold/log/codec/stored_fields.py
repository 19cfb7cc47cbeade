"""Stored fields that a class does not know: a renamed field must not be read as its default."""

from __future__ import annotations

import dataclasses
import logging
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec

log = logging.getLogger(__name__)

_CONTAINERS = (tuple, list, set, frozenset, dict, typing.Union, types.UnionType)


def knows_fields(cls: type, load: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return what loads events of a class, and refuses payloads whose fields it would read as defaults.

    A payload that lacks a field and holds one that the class does not know was written before the field was renamed:
    to fill in the default would lose what is stored. A field that the class does not know is left out, with a warning,
    if none is missing: a newer writer added it, or the class has given it up. Payloads that an upcaster has seen are
    not looked at, as that is its business.

    Args:
        cls: the class of the events.
        load: loads one of its JSON.
    """
    strict = _strict(cls, {})
    if strict is None or not strict.has_defaults:
        return load  # a missing field is an error in any case
    look = msgspec.json.Decoder(strict.type).decode
    warned = set[str]()

    def read(payload: bytes) -> Any:
        try:
            look(payload)
        except msgspec.ValidationError:
            for unknown in _unknown(cls, msgspec.json.decode(payload), cls.__name__):
                if unknown not in warned:
                    warned.add(unknown)
                    log.warning("a stored field is left out: %s is unknown to the class", unknown)
        return load(payload)

    return read


class _Strict(typing.NamedTuple):
    type: Any
    has_defaults: bool


def _strict(hint: Any, made: dict[Any, _Strict | None]) -> _Strict | None:
    """Return a type that fails on unknown fields of the records within a type; None if there are none to look at."""
    if hasattr(hint, "__metadata__"):
        return _strict(hint.__origin__, made)
    if hint in made if isinstance(hint, type) else False:
        return made[hint]
    if (fields := _fields(hint)) is not None:
        return _strict_record(hint, fields, made)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin not in _CONTAINERS:
        return None
    within = [None if each in (Ellipsis, type(None)) else _strict(each, made) for each in arguments]
    found = [each for each in within if each is not None]
    if not found or (origin in (typing.Union, types.UnionType) and len(found) > 1):
        return None
    plain = origin in (typing.Union, types.UnionType)
    if plain:  # None, or the record
        return _Strict(found[0].type | None, found[0].has_defaults) if len(arguments) == 2 else None
    if origin is dict:
        return _Strict(types.GenericAlias(dict, (str, found[-1].type)), found[-1].has_defaults)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return None
    return _Strict(types.GenericAlias(list, (found[0].type,)), found[0].has_defaults)


def _strict_record(cls: type, fields: dict[str, _Field], made: dict[Any, _Strict | None]) -> _Strict | None:
    made[cls] = None  # a class within itself is looked at once
    parts: list[tuple[str, Any, Any]] = []
    has_defaults = False
    for field in fields.values():
        strict = _strict(field.hint, made)
        has_defaults = has_defaults or field.has_default or (strict is not None and strict.has_defaults)
        parts.append((field.attribute, strict.type if strict else msgspec.Raw, msgspec.UNSET))
    rename = {field.attribute: name for name, field in fields.items()}
    optional = [(name, kind | msgspec.UnsetType, default) for name, kind, default in parts]
    made[cls] = _Strict(
        msgspec.defstruct(cls.__name__, optional, rename=rename, forbid_unknown_fields=True, gc=False), has_defaults
    )
    return made[cls]


class _Field(typing.NamedTuple):
    attribute: str
    hint: Any
    has_default: bool


def _fields(cls: Any) -> dict[str, _Field] | None:
    """Return the fields of a record under the names under which they are stored; None if it is none."""
    if not isinstance(cls, type):
        return None
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):
        return None
    if dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        return {
            each.name: _Field(each.name, hints[each.name], (each.default, each.default_factory) != (missing, missing))
            for each in dataclasses.fields(cls)
        }
    if issubclass(cls, msgspec.Struct):
        if cls.__struct_config__.tag is not None or cls.__struct_config__.array_like:
            return None
        optional = 0 if cls.__struct_config__.omit_defaults else len(cls.__struct_defaults__)
        names = list(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
        first = len(names) - optional
        return {stored: _Field(name, hints[name], place >= first) for place, (name, stored) in enumerate(names)}
    model: Any = cls
    if hasattr(model, "model_fields") and model.model_config.get("extra", "ignore") == "ignore":
        if any(each.alias or each.validation_alias for each in model.model_fields.values()):
            return None
        return {
            name: _Field(name, each.annotation, not each.is_required()) for name, each in model.model_fields.items()
        }
    return None


def _missing(fields: dict[str, _Field], data: dict[str, Any]) -> list[str]:
    return [name for name, field in fields.items() if field.has_default and name not in data]


def _unknown(hint: Any, data: Any, place: str) -> list[str]:
    """Return the stored fields that records do not know.

    Raises:
        ValueError: such a record also lacks a field.
    """
    if hasattr(hint, "__metadata__"):
        return _unknown(hint.__origin__, data, place)
    found: list[str] = []
    if isinstance(data, dict) and (fields := _fields(hint)) is not None:
        unknown, missing = sorted(data.keys() - fields.keys()), _missing(fields, data)
        if unknown and missing:
            raise ValueError(
                f"the stored field {place}.{unknown[0]} is unknown to the class, which would fill in "
                f"{missing[0]} by its default: raise the version of the event type, and add an upcaster that "
                f"renames the field"
            )
        found += [f"{place}.{name}" for name in unknown]
        for name, field in fields.items():
            found += _unknown(field.hint, data.get(name), f"{place}.{name}")
        return found
    values = data if isinstance(data, list) else data.values() if isinstance(data, dict) else ()
    arguments = [each for each in typing.get_args(hint) if each not in (Ellipsis, type(None))]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _unknown(arguments[0], data, place) if len(arguments) == 1 else []
    for value in values:
        found += _unknown(arguments[-1], value, place) if arguments else []
    return found
