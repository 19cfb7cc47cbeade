"""When two states are one: by what they hold, and never by where they are in memory."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Hashable, Mapping, Sequence, Set
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any

from twofold.log.codec.fidelity import field_names

_SINGLE = (Enum, type, types.FunctionType, types.BuiltinFunctionType)
"""There is one object for each value."""

_PLAIN = {str, bytes, int, float, bool, Decimal, types.NoneType}
"""Most values are of these: they are looked at first, as each state has many."""


def identity_of(value: Any) -> Hashable:
    """Return what is equal for equal values, and can be hashed also where they cannot.

    Raises:
        TypeError: the value, or a part of it, is compared by where it is in memory: no two states would ever be equal.
    """
    cls: Any = type(value)
    if cls in _PLAIN:
        return cls, value
    if isinstance(value, Mapping):
        return cls, frozenset((identity_of(key), identity_of(each)) for key, each in value.items())
    if isinstance(value, Set):
        return cls, frozenset(map(identity_of, value))
    if (names := _compared(cls)) is not None:
        return cls, tuple(identity_of(getattr(value, name)) for name in names)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return cls, tuple(map(identity_of, value))
    own: object = cls.__eq__
    if own is object.__eq__ and not isinstance(value, _SINGLE):
        raise _no_value(cls, "is compared by where it is in memory, so that no two states would be equal")
    try:
        hash(value)
    except TypeError:
        raise _no_value(cls, "cannot be hashed") from None
    return cls, value


@lru_cache(1024)
def _compared(cls: type) -> Sequence[str] | None:
    """Return the fields that make up a record; None if it is none."""
    if dataclasses.is_dataclass(cls):
        return [each.name for each in dataclasses.fields(cls) if each.compare]
    return field_names(cls)


def _no_value(cls: type, why: str) -> TypeError:
    return TypeError(
        f"a state holds a {cls.__qualname__}, which {why}; make it a frozen dataclass, or give it `__eq__` and "
        f"`__hash__`"
    )
