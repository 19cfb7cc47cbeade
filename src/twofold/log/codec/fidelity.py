"""Fidelity: in which part a value differs from what came back of it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from operator import attrgetter
from typing import Any

import msgspec

SHOWN = 80
"""Characters of a value that an error's text shows, at most."""


def difference(sent: Any, back: Any, place: str) -> str | None:
    """Return in which part a value differs from what came back, as a sentence; None if it does not.

    Args:
        sent: the value.
        back: what came back.
        place: what the value is called, such as `OrderCreated.items`.
    """
    names = field_names(type(sent))
    if names is not None:
        if type(back) is not type(sent):
            return (
                f"{place} is a {type(sent).__qualname__}, which would come back as a {type(back).__qualname__}; "
                f"declare the field as {type(sent).__qualname__}"
            )
        return _first((getattr(sent, n), getattr(back, n), f"{place}.{n}") for n in names)
    if isinstance(sent, Mapping) and isinstance(back, Mapping) and sent.keys() == back.keys():
        return _first((sent[key], back[key], f"{place}[{key!r}]") for key in sent)
    if isinstance(sent, list | tuple) and type(sent) is type(back) and len(sent) == len(back):
        return _first((a, b, f"{place}[{n}]") for n, (a, b) in enumerate(zip(sent, back, strict=True)))
    if is_equal(sent, back) and (type(sent) is type(back) or _is_alike(sent, back)):
        return None
    return f"{place} is {_shown(sent)}, which would come back as {_shown(back)}; declare the type that it has"


def field_names(cls: type) -> tuple[str, ...] | None:
    """Return the names of the fields of a class of records; None if it is no such class."""
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_fields__
    if hasattr(cls, "model_fields"):
        return tuple(cls.model_fields)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return tuple(getattr(cls, "_fields"))  # noqa: B009  # a named tuple, of which the types know nothing
    attributes = getattr(cls, "__attrs_attrs__", None)
    return tuple(each.name for each in attributes) if attributes else None


def compares_all(cls: type) -> bool:
    """Return whether `==` on a class of records looks at all fields, as the one that is made for it does."""
    if dataclasses.is_dataclass(cls):
        own = getattr(cls.__eq__, "__code__", None)
        is_made = own is not None and own.co_filename == "<string>"
        return is_made and all(field.compare for field in dataclasses.fields(cls))
    if issubclass(cls, msgspec.Struct):
        return cls.__eq__ is msgspec.Struct.__eq__ and cls.__struct_config__.eq
    if hasattr(cls, "model_fields"):
        return cls.__eq__.__module__.startswith("pydantic")
    return issubclass(cls, tuple) or typing.is_typeddict(cls)


def is_equal(sent: Any, back: Any) -> bool:
    """Return whether two values are equal; if comparing them fails, as a signalling NaN has it, they are not."""
    try:
        return bool(sent == back)
    except Exception:  # the user's own, or one of the decimal module
        return False


def _first(parts: Iterable[tuple[Any, Any, str]]) -> str | None:
    return next((found for part in parts if (found := difference(*part))), None)


def _is_alike(sent: Any, back: Any) -> bool:
    """Return whether values that are equal are of types that stand for each other: a subclass, a number, a set."""
    number = (int, float, Decimal)
    if isinstance(sent, bool) or isinstance(back, bool):
        return False
    if isinstance(sent, number) and isinstance(back, number):
        return True
    return isinstance(sent, (type(back), set | frozenset | bytearray))


def _shown(value: Any) -> str:
    text = f"the {type(value).__qualname__} {value!r}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def values_getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what gives the values of these fields as a tuple."""
    if len(names) != 1:
        return attrgetter(*names) if names else lambda row: ()
    get = attrgetter(names[0])
    return lambda row: (get(row),)
