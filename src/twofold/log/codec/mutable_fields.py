"""Fields that can be changed in place within records that cannot: lists, mappings, sets, and what may be anything.

They are stored as what they were when their record was made. So whatever is given to code of the application more than
once, such as the events of a stream to each attempt of a command, or kept while that code runs, is copied before.
"""

from __future__ import annotations

import copy
import datetime as dt
import types
import typing
from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, Literal
from uuid import UUID

from twofold.log.codec.fidelity import field_names
from twofold.log.event_fields import parts_of, refuse_mutable

_IMMUTABLE = (str, int, float, complex, bool, bytes, type(None), Decimal, UUID, dt.date, dt.time, dt.timedelta, Enum)


def may_be_changed(hint: Any) -> bool:
    """Return whether a value of a type can be changed in place, or may hold one that can."""
    return _may_be_changed(hint, ())


def _may_be_changed(hint: Any, within: tuple[Any, ...]) -> bool:
    if hasattr(hint, "__metadata__"):
        return _may_be_changed(hint.__origin__, within)
    origin = typing.get_origin(hint) or hint
    if origin is Literal or hint is Ellipsis or any(hint is each for each in within):
        return False
    if isinstance(origin, type) and origin is not types.UnionType:
        if issubclass(origin, _IMMUTABLE):
            return False
        names = None if typing.is_typeddict(origin) else field_names(origin)
        if names is not None:
            hints = typing.get_type_hints(origin, include_extras=True)
            return any(_may_be_changed(hints.get(name, Any), (*within, hint)) for name in names)
        if not issubclass(origin, tuple | frozenset):
            return True
    parts = list(parts_of(hint))
    return not parts or any(_may_be_changed(each, within) for each in parts)


def refuse_mutable_parts(place: str, hint: Any, error: type[Exception]) -> None:
    """Refuse a field in whose type stands a class of records that can be changed.

    Raises:
        Exception: of the class `error`; the text has the field and the line to write.
    """
    _refuse_parts(place, hint, error, [])


def _refuse_parts(place: str, hint: Any, error: type[Exception], seen: list[Any]) -> None:
    if isinstance(hint, type) and (names := None if typing.is_typeddict(hint) else field_names(hint)) is not None:
        if hint in seen:
            return
        seen.append(hint)
        refuse_mutable(hint, error, "" if place == hint.__qualname__ else f"{place}: ")
        hints = typing.get_type_hints(hint, include_extras=True)
        for name in names:
            _refuse_parts(f"{place}.{name}", hints.get(name, Any), error, seen)
    for part in parts_of(hint):
        _refuse_parts(place, part, error, seen)


def _copier(cls: type[Any]) -> Callable[[Any], Any] | None:
    return copy.deepcopy if may_be_changed(cls) else None


copier: Callable[[type[Any]], Callable[[Any], Any] | None] = cache(_copier)  # type: ignore[assignment]  # mypy: a class is not hashable
"""Return what copies records of a class with all that could be changed in them; None if nothing could."""


def copied(records: Sequence[Any]) -> Sequence[Any]:
    """Return records in which nothing can be changed as they are, and others as copies."""
    if not any(map(copier, set(map(type, records)))):
        return records
    return [record if (copies := copier(type(record))) is None else copies(record) for record in records]
