"""What the rows of a read model look like: a class of yours, as columns that every engine can store."""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec

from twofold.errors import InvalidProjectionError
from twofold.ports.table import _KINDS, Column, Dump, Kind, Table, changed, restored

R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Key:
    """Mark a field as the row's key: `order_id: Annotated[str, Key()]`. Several fields make a composite key."""


@dataclasses.dataclass(frozen=True)
class Index:
    """Mark a field by which rows are found or sorted."""


@dataclasses.dataclass(frozen=True)
class FullText:
    """Mark a text field that `search` looks into."""


_RESERVED = ("rank", "rowid", "row_number_")  # words of FTS5, and of our tables


class RowType(Generic[R]):
    """A class of rows, a dataclass or a msgspec Struct, and how its instances become column values and back.

    Raises:
        InvalidProjectionError: no field is marked as the key, or a field cannot be stored.
    """

    def __init__(self, cls: type[R]) -> None:
        self.cls = cls
        hints = _hints(cls)
        names = _field_names(cls)
        marks = {name: [type(mark) for mark in getattr(hints[name], "__metadata__", ())] for name in names}
        self.key = tuple(name for name in names if Key in marks[name])
        self.indexes = tuple(name for name in names if Index in marks[name])
        self.full_text = tuple(name for name in names if FullText in marks[name])
        described = [_describe(name, hints[name]) for name in names]
        self.columns = tuple(column for column, _, _ in described)
        self._refuse_what_no_table_can_hold()
        self._names = tuple(names)
        self._get = _getter(self._names)
        self.key_of: Callable[[R], tuple[Any, ...]] = _getter(self.key)
        """Return the values of a row's key."""
        self._key_dumps = [dump for column, dump, _ in described if column.name in self.key]
        self._dumps_keys = any(self._key_dumps)
        self._make = _maker(cls, self._names)
        self._dumps = [(place, dump) for place, (_, dump, _) in enumerate(described) if dump]
        self._loads = [(place, load) for place, (_, _, load) in enumerate(described) if load]

    def keys_of(self, rows: Iterable[Any]) -> list[tuple[Any, ...]]:
        """Return the values of the keys of rows, or of what has fields of the same names."""
        if len(self.key) == 1:
            return list(zip(map(attrgetter(*self.key), rows)))
        return list(map(self.key_of, rows))

    def table(self, name: str) -> Table:
        """Return the table that holds such rows under this name."""
        return Table(name, self.columns, self.key, self.indexes, self.full_text)

    def dump_key(self, key: Sequence[Any]) -> tuple[Any, ...]:
        """Return the values of a key as the columns hold them.

        Raises:
            ValueError: there are more or fewer values than the key has fields.
        """
        if len(key) != len(self.key):
            raise ValueError(f"the key of {self.cls.__qualname__} is {self.key}, got {key!r}")
        return self.dump_key_part(key)

    def dump_key_part(self, key: Sequence[Any]) -> tuple[Any, ...]:
        """Return the first values of a key as the columns hold them."""
        if not self._dumps_keys:
            return tuple(key)
        return tuple(dump(each) if dump else each for dump, each in zip(self._key_dumps, key, strict=False))

    def dump(self, row: R) -> Sequence[Any]:
        """Return a row's values, in the order of the columns."""
        return self.dump_all([row])[0]

    def dump_all(self, rows: Iterable[R]) -> list[Sequence[Any]]:
        """Return the values of rows, in the order of the columns."""
        return changed(list(map(self._get, rows)), self._dumps)

    def load(self, values: Sequence[Any]) -> R:
        """Return the row with these values; raises what `load_all` raises."""
        return self.load_all([values])[0]

    def load_all(self, rows: Sequence[Sequence[Any]]) -> list[R]:
        """Return rows with these values.

        Raises:
            DamagedRowError: they are not what was stored.
        """
        return list(map(self._make, restored(rows, self._loads, self.cls.__qualname__, self.columns, self.key)))

    def _refuse_what_no_table_can_hold(self) -> None:
        name = self.cls.__qualname__
        if not self.key:
            raise InvalidProjectionError(f"{name} has no key; mark a field: `Annotated[str, Key()]`")
        for column in self.columns:
            if column.nullable and column.name in self.key:
                raise InvalidProjectionError(f"{name}.{column.name} is part of the key and must not be None")
            if column.name in _RESERVED:
                raise InvalidProjectionError(f"{name}.{column.name} is a name that engines keep for themselves")


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) != 1:
        return attrgetter(*names) if names else lambda row: ()
    get = attrgetter(names[0])
    return lambda row: (get(row),)


def _maker(cls: type[R], names: tuple[str, ...]) -> Callable[[Sequence[Any]], R]:
    """Return what makes a row of its values: by position where the class takes them so, which is faster."""
    parameters = inspect.signature(cls).parameters.values()
    if tuple(each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD) == names:
        return lambda values: cls(*values)
    return lambda values: cls(**dict(zip(names, values, strict=True)))


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise InvalidProjectionError(f"{cls.__qualname__}: {error}; define the field's type at module level") from error


def _field_names(cls: type) -> list[str]:
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    if issubclass(cls, msgspec.Struct):
        return list(cls.__struct_fields__)
    raise InvalidProjectionError(f"{cls.__qualname__} must be a frozen dataclass or a frozen msgspec.Struct")


def _describe(name: str, hint: Any) -> tuple[Column, Dump | None, Dump | None]:
    """Return a field's column, how its values get there, and how they come back."""
    bare, nullable = _without_none(hint)
    kind = _KINDS.get(bare)
    if kind is not None:
        return Column(name, kind, nullable), _aware if kind is Kind.DATETIME else None, None
    if isinstance(bare, type) and issubclass(bare, Enum) and all(isinstance(each.value, str) for each in bare):
        return Column(name, Kind.TEXT, nullable), lambda member: bare(member).value, bare
    if typing.get_origin(bare) is typing.Literal and all(isinstance(each, str) for each in typing.get_args(bare)):
        return Column(name, Kind.TEXT, nullable), None, None
    try:
        decoder = msgspec.json.Decoder(hint)
    except (TypeError, NameError) as error:
        raise InvalidProjectionError(f"field {name!r} cannot be stored: {error}") from error
    return Column(name, Kind.JSON, nullable), lambda value: msgspec.json.encode(value).decode(), decoder.decode


def _aware(moment: dt.datetime) -> dt.datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; use an aware datetime, such as datetime.now(UTC)")
    return moment


def _without_none(hint: Any) -> tuple[Any, bool]:
    if hasattr(hint, "__metadata__"):
        return _without_none(hint.__origin__)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [each for each in typing.get_args(hint) if each is not type(None)]
        if len(members) == 1 and len(typing.get_args(hint)) == 2:
            return _without_none(members[0])[0], True
    return hint, False
