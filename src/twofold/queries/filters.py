"""Filters on read models: which comparisons a column allows, and with which values."""

from __future__ import annotations

import datetime as dt
import typing
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec

from twofold.errors import InvalidFilterError
from twofold.ports.read_database import Filter, Operator
from twofold.ports.table import Column

OPERATORS = typing.get_args(Operator)
_LIMIT = 1 << 63


def checked_filter(column: Column, operator: Operator, value: Any) -> Filter:
    """Return a filter whose value is one that the column could hold, so that every engine compares alike.

    Raises:
        InvalidFilterError: there is no such operator, or the value does not fit.
    """
    if operator not in OPERATORS:
        raise InvalidFilterError(f"{column.name}: no operator {operator!r}; there are {', '.join(OPERATORS)}")
    if operator == "in":
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise InvalidFilterError(f"{column.name}: `in` takes a list, got {value!r}")
        return column.name, operator, tuple(comparable(column, each, nullable=True) for each in value)
    return column.name, operator, comparable(column, value, nullable=operator in ("=", "!="))


def comparable(column: Column, value: Any, *, nullable: bool | None = None) -> Any:
    """Return a value as the column would hold it; `nullable` says whether None will do, by default as in the column.

    Raises:
        InvalidFilterError: the column can hold no such value.
    """
    if value is None:
        if column.nullable if nullable is None else nullable:
            return None
        raise InvalidFilterError(f"{column.name}: None is neither less nor greater than anything")
    try:
        return _converted(column, value.value if isinstance(value, Enum) else value)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise InvalidFilterError(f"{column.name} cannot be compared with {value!r}: {error}") from error


def _converted(column: Column, value: Any) -> Any:
    python = column.kind.python
    converted: Any = value if type(value) is python else msgspec.convert(value, python, strict=False)
    match converted:
        case dt.datetime():
            if converted.tzinfo is None:
                raise ValueError("it has no time zone")
            return converted.astimezone(dt.UTC)
        case str():
            _refuse_unstorable(converted)
        case int() if not -_LIMIT <= converted < _LIMIT:
            raise ValueError("the number is too large")
        case Decimal() if not converted.is_finite():
            raise ValueError("the number is not finite")
    return converted


def _refuse_unstorable(text: str) -> None:
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    text.encode()  # fails, with a ValueError, on half of a surrogate pair
