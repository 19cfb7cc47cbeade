"""The columns of a row: what each holds, which values fit it on every engine, and how they get there and back."""

from __future__ import annotations

import datetime as dt
import math
import types
import typing
from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import Enum
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from twofold.errors import InvalidProjectionError
from twofold.log.codec.fidelity import difference, is_equal
from twofold.log.codec.proofs import proof_of
from twofold.ports.table import KINDS, Column, Dump, Kind

MAX_DIGITS = 1000
"""Digits of a decimal before or behind the point, at most; PostgreSQL takes some thousands."""


_NONE = type(None)


class RowColumn(NamedTuple):
    """A field of a row, as a column."""

    column: Column
    place: str
    """What it is called in the text of an error."""
    fit: frozenset[type]
    """The types of the values that go into the column as they are."""
    fitted: Callable[[Any], Any]
    """Return another value as one that goes into the column, if the two are equal.

    Raises:
        ValueError: it does not fit.
    """
    are_sound: Callable[[Sequence[Any]], bool] | None
    """Whether values of a fitting type all fit; None: they do."""
    dump: Dump | None
    load: Dump | None

    def stored(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return values as the column stores them, None excepted; the same object if nothing changes.

        Raises:
            ValueError: one does not fit.
        """
        values, dump = self.refuse_unfit(values), self.dump
        if dump is None:
            return values
        if self.column.nullable and None in values:
            return [None if value is None else dump(value) for value in values]
        return list(map(dump, values))

    def refuse_unfit(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return values as they go into the column, column by column, as that is much faster.

        Raises:
            ValueError: one does not fit.
        """
        kinds = set(map(type, values))
        if self.fit >= kinds:
            present = [each for each in values if each is not None] if _NONE in kinds else values
            if self.are_sound is None or not present or self.are_sound(present):
                return values
        return [None if value is None and self.column.nullable else self.fitted(value) for value in values]


def describe(cls: str, name: str, hint: Any) -> RowColumn:
    """Return the column of a field.

    Raises:
        InvalidProjectionError: no engine can store it.
    """
    place = f"{cls}.{name}"
    bare: Any
    bare, nullable = _without_none(hint)
    nullable = nullable or _admits_all(bare)
    none: set[Any] = {type(None)} if nullable else set()
    kind = KINDS.get(bare)
    if kind is not None:
        fitted, column = _fitter(place, bare), Column(name, kind, nullable)
        return RowColumn(column, place, frozenset({bare} | none), fitted, _SOUND.get(kind), None, None)
    if isinstance(bare, type) and issubclass(bare, Enum) and all(isinstance(each.value, str) for each in bare):
        column = Column(name, Kind.TEXT, nullable)
        values = {each: each.value for each in bare}
        return RowColumn(
            column,
            place,
            frozenset({bare} | none),
            _member(place, bare),
            None,
            values.__getitem__,
            _Members(bare).__getitem__,
        )
    if typing.get_origin(bare) is typing.Literal and all(isinstance(each, str) for each in typing.get_args(bare)):
        column, choices = Column(name, Kind.TEXT, nullable), frozenset(typing.get_args(bare))
        sound = choices.issuperset
        return RowColumn(column, place, frozenset({str} | none), _choice(place, choices), sound, None, None)
    return _json(place, name, hint, nullable)


def _json(place: str, name: str, hint: Any, nullable: bool) -> RowColumn:
    try:
        load = msgspec.json.Decoder(hint).decode
    except (TypeError, NameError) as error:
        raise InvalidProjectionError(f"field {name!r} cannot be stored: {error}") from error
    is_proven = proof_of(hint)

    def dump(value: Any) -> str:
        try:
            payload = msgspec.json.encode(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{place} is {value!r}, which cannot be stored: {error}") from error
        if not (is_proven and is_proven(value)):
            try:
                back = load(payload)
            except msgspec.ValidationError as error:
                raise ValueError(f"{place} is {value!r}, which does not fit its declaration: {error}") from error
            if found := difference(value, back, place):
                raise ValueError(found)
        return payload.decode()

    return RowColumn(Column(name, Kind.JSON, nullable), place, _Anything(), lambda value: value, None, dump, load)


class _Anything(frozenset[type]):
    """All types."""

    def __ge__(self, other: object) -> bool:
        return True


def _admits_all(hint: Any) -> bool:
    return hint in (Any, object)


def _fitter(place: str, wanted: Any) -> Callable[[Any], Any]:
    def fitted(value: Any) -> Any:
        if not isinstance(value, _STANDS_FOR.get(wanted, wanted)) or (wanted is dt.date and type(value) is not wanted):
            raise ValueError(f"{place} is declared {wanted.__name__}, the row has {value!r}; make it of that type")
        make: Any = wanted
        found = value if isinstance(value, dt.datetime) else make(value)
        sound = _SOUND.get(KINDS[wanted])
        if not is_equal(found, value) or (sound is not None and not sound((found,))):
            raise ValueError(f"{place} is {value!r}, which not every engine can store: {_BOUNDS[wanted]}")
        return found

    return fitted


def _member(place: str, enum: type[Enum]) -> Callable[[Any], Any]:
    def fitted(value: Any) -> Any:
        if value not in list(enum):
            raise ValueError(f"{place} is {value!r}, which is no {enum.__qualname__}")
        return enum(value)

    return fitted


class _Members(dict[str, Enum]):
    """The members of an enumeration by their values; a call of the enumeration takes five times as long."""

    def __init__(self, enum: type[Enum]) -> None:
        super().__init__((each.value, each) for each in enum)
        self._enum = enum

    def __missing__(self, value: str) -> Enum:
        return self._enum(value)


def _choice(place: str, choices: frozenset[str]) -> Callable[[Any], Any]:
    def fitted(value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{place} is {value!r}, which is none of {', '.join(map(repr, sorted(choices)))}")
        return str(value)

    return fitted


_STANDS_FOR: dict[Any, Any] = {float: (float, int), Decimal: (Decimal, int)}
"""Values of other types that stand for one of a column's, if the two are equal."""
_BOUNDS: dict[Any, str] = {
    float: "no NaN, and of whole numbers only those that a float holds exactly",
    Decimal: f"neither NaN nor infinite, and at most {MAX_DIGITS} digits before and behind the point",
    int: "64 bits with a sign",
    dt.datetime: "it has no time zone; use an aware datetime, such as datetime.now(UTC)",
}


# Of many values at once, without a step in Python for each.


def _are_numbers(values: Sequence[Any]) -> bool:
    return not any(map(math.isnan, values))


def _are_bounded(values: Sequence[Any]) -> bool:
    if not all(map(Decimal.is_finite, values)):
        return False
    places = list(map(Decimal.adjusted, values))
    return min(places) > -MAX_DIGITS and max(places) < MAX_DIGITS


def _are_64_bits(values: Sequence[Any]) -> bool:
    return bool(min(values) >= -(1 << 63) and max(values) < 1 << 63)


def _are_aware(values: Sequence[Any]) -> bool:
    return None not in list(map(_zone, values))


_zone = attrgetter("tzinfo")
_SOUND: dict[Kind, Callable[[Sequence[Any]], bool]] = {
    Kind.REAL: _are_numbers, Kind.DECIMAL: _are_bounded, Kind.INTEGER: _are_64_bits, Kind.DATETIME: _are_aware,
}  # fmt: skip


def _without_none(hint: Any) -> tuple[Any, bool]:
    if hasattr(hint, "__metadata__"):
        return _without_none(hint.__origin__)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [each for each in typing.get_args(hint) if each is not type(None)]
        if len(members) == 1 and len(typing.get_args(hint)) == 2:
            return _without_none(members[0])[0], True
    return hint, False
