"""What the rows of a read model look like: a class of yours, as columns that every engine can store."""

from __future__ import annotations

import dataclasses
import inspect
import operator
import typing
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec

from twofold.errors import InvalidProjectionError
from twofold.log.codec.fidelity import values_getter
from twofold.log.codec.mutable_fields import copier, refuse_mutable_parts
from twofold.ports.table import Column, Kind, Table, restored
from twofold.projections.rows.row_columns import RowColumn, describe

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


_RESERVED = frozenset(
    # SQLite's and FTS5's, PostgreSQL's, and our own
    ["rank", "rowid", "oid", "_rowid_", "tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "row_number_", "search_"]
)
INEXACT = frozenset({Kind.DECIMAL, Kind.REAL, Kind.JSON})
"""Kinds of columns of which equal values can be written in several ways, so that no row is found by them."""
MAX_NAME = 63
"""Bytes of a column's name: PostgreSQL cuts off what is longer, so that two names may become one."""


class RowType(Generic[R]):
    """A class of rows, a dataclass or a msgspec Struct, and how its instances become column values and back.

    Raises:
        InvalidProjectionError: no field is marked as the key, or a field cannot be stored.
    """

    def __init__(self, cls: type[R]) -> None:
        self.cls = cls
        hints = self._hints = _hints(cls)
        names = _field_names(cls)
        marks = {name: [type(mark) for mark in getattr(hints[name], "__metadata__", ())] for name in names}
        self.key = tuple(name for name in names if Key in marks[name])
        self.indexes = tuple(name for name in names if Index in marks[name])
        self.full_text = tuple(name for name in names if FullText in marks[name])
        described = [describe(cls.__qualname__, name, hints[name]) for name in names]
        self.columns = tuple(each.column for each in described)
        self._described = described
        self._refuse_what_no_table_can_hold()
        self.copies = copier(cls)
        """Copies a row with all that could be changed in it; None if nothing could."""
        self._names = tuple(names)
        self._get = values_getter(self._names)
        self.key_of: Callable[[R], tuple[Any, ...]] = values_getter(self.key)
        """Return the values of a row's key."""
        self._key_columns = [each for each in described if each.column.name in self.key]
        self._dumps_keys = any(each.dump or each.column.kind is Kind.DATETIME for each in self._key_columns)
        self._make = _maker(cls, self._names)
        self._loads = [(place, each.load) for place, each in enumerate(described) if each.load]

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
        return tuple(_in_column(column, each) for column, each in zip(self._key_columns, key, strict=False))

    def key_from_text(self, text: str) -> tuple[Any, ...]:
        """Return a key, or the first values of one, from its JSON."""
        hints = [self._hints[name] for name in self.key[: len(msgspec.json.decode(text, type=list[Any]))]]
        return tuple(msgspec.json.decode(text, type=tuple[tuple(hints)]))  # type: ignore[misc]

    def dump_fields(self, names: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
        """Return values of some fields as the columns hold them.

        Raises:
            ValueError: one does not fit its field.
        """
        columns = {each.column.name: each for each in self._described}
        return tuple(_in_column(columns[name], value) for name, value in zip(names, values, strict=True))

    def dump(self, row: R) -> Sequence[Any]:
        """Return a row's values, in the order of the columns."""
        return self.dump_all([row])[0]

    def dump_all(self, rows: Iterable[R]) -> list[Sequence[Any]]:
        """Return the values of rows, in the order of the columns.

        Raises:
            ValueError: a value does not fit its field, or not on every engine.
        """
        values: list[Sequence[Any]] = list(map(self._get, rows))
        columns = list(zip(*values, strict=True))
        stored = [each.stored(column) for each, column in zip(self._described, columns, strict=False)]
        is_changed = any(map(operator.is_not, stored, columns))
        if is_changed:
            values = list(zip(*stored, strict=True))
        return values

    def load(self, values: Sequence[Any]) -> R:
        """Return the row with these values; raises what `load_all` raises."""
        return self.load_all([values])[0]

    def load_all(self, rows: Sequence[Sequence[Any]]) -> list[R]:
        """Return rows with these values.

        Raises:
            DamagedRowError: they are not what was stored.
        """
        return list(map(self._make, restored(rows, self._loads, self.cls.__qualname__, self.columns, self.key)))

    def restored(self, names: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
        """Return stored values of some fields as what their fields hold, such as the members of an enumeration."""
        loads = {each.column.name: each.load for each in self._described}
        return tuple(
            value if value is None or (load := loads[name]) is None else load(value)
            for name, value in zip(names, values, strict=True)
        )

    def _refuse_what_no_table_can_hold(self) -> None:
        name = self.cls.__qualname__
        if not self.key:
            raise InvalidProjectionError(f"{name} has no key; mark a field: `Annotated[str, Key()]`")
        spelled: dict[str, str] = {}
        for column in self.columns:
            field = f"{name}.{column.name}"
            if column.name in self.key:
                _refuse_key(field, column)
            if column.name.lower() in _RESERVED or column.name.lower().startswith("twofold_"):
                raise InvalidProjectionError(f"{field} is a name that engines keep for themselves; rename the field")
            if len(column.name.encode()) > MAX_NAME:
                raise InvalidProjectionError(
                    f"{field} is longer than the {MAX_NAME} bytes that PostgreSQL keeps of a name"
                )
            if (other := spelled.setdefault(column.name.lower(), column.name)) != column.name:
                raise InvalidProjectionError(
                    f"{field} and {other} differ in case only, which SQLite ignores; rename one"
                )


def _refuse_key(field: str, column: Column) -> None:
    if column.nullable:
        raise InvalidProjectionError(f"{field} is part of the key and must not be None")
    if column.kind in INEXACT:
        raise InvalidProjectionError(
            f"{field} is part of the key and a {column.kind.name.lower()}, of which equal values can be written in "
            f"several ways, such as 1.1 and 1.10; make it a str or an int"
        )


def _in_column(column: RowColumn, value: Any) -> Any:
    return column.stored([value])[0]


def _maker(cls: type[R], names: tuple[str, ...]) -> Callable[[Sequence[Any]], R]:
    """Return what makes a row of its values: the fields of a dataclass at once, a Struct's by position if it can be."""
    if _only_sets_fields(cls):

        def make(values: Sequence[Any]) -> R:  # a sixth of the time of the constructor, which sets one after the other
            row = object.__new__(cls)
            row.__dict__.update(zip(names, values))  # noqa: B905 - each row has as many values as columns
            return row

        return make
    parameters = inspect.signature(cls).parameters.values()
    if tuple(each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD) == names:
        return lambda values: cls(*values)
    return lambda values: cls(**dict(zip(names, values, strict=True)))


def _only_sets_fields(cls: type) -> bool:
    """Return whether the constructor of a class is that of a frozen dataclass, and does nothing but set the fields."""
    code = getattr(inspect.getattr_static(cls, "__init__"), "__code__", None)
    is_generated = code is not None and "__dataclass_builtins_object__" in code.co_freevars
    return (
        is_generated
        and all(field.init for field in dataclasses.fields(cls))
        and not any("__new__" in vars(each) for each in cls.__mro__[:-1])
        and not hasattr(cls, "__post_init__")
        and not any("__slots__" in vars(each) for each in cls.__mro__[:-1])
        and not any(
            hasattr(inspect.getattr_static(cls, field.name, None), "__set__") for field in dataclasses.fields(cls)
        )
    )


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise InvalidProjectionError(f"{cls.__qualname__}: {error}; define the field's type at module level") from error


def _field_names(cls: type) -> list[str]:
    refuse_mutable_parts(cls.__qualname__, cls, InvalidProjectionError)
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    if issubclass(cls, msgspec.Struct):
        return list(cls.__struct_fields__)
    raise InvalidProjectionError(f"{cls.__qualname__} must be a frozen dataclass or a frozen msgspec.Struct")
