"""Tables of read models as engines see them: columns, what they hold, the key."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from enum import Enum, auto
from typing import Any, NamedTuple
from uuid import UUID

from twofold.errors import DamagedRowError
from twofold.messages.tenant_names import TENANT_COLUMN


class Kind(Enum):
    """What a column holds, as Python values: str, int, float, bool, Decimal, datetime, date, UUID; JSON is a str."""

    TEXT = auto()
    INTEGER = auto()
    REAL = auto()
    BOOLEAN = auto()
    DECIMAL = auto()
    DATETIME = auto()
    DATE = auto()
    UUID = auto()
    JSON = auto()

    __hash__ = object.__hash__  # the hash of `Enum` runs in Python

    @property
    def python(self) -> type:
        """The type of its values."""
        return _PYTHON[self]


KINDS: dict[Any, Kind] = {
    str: Kind.TEXT,
    int: Kind.INTEGER,
    float: Kind.REAL,
    bool: Kind.BOOLEAN,
    Decimal: Kind.DECIMAL,
    dt.datetime: Kind.DATETIME,
    dt.date: Kind.DATE,
    UUID: Kind.UUID,
}


_NONE = type(None)
_PYTHON: dict[Kind, type] = {kind: python for python, kind in KINDS.items()} | {Kind.JSON: str}


class Column(NamedTuple):
    """One field of a row."""

    name: str
    kind: Kind
    nullable: bool


class Table(NamedTuple):
    """A read model as an engine sees it."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    indexes: tuple[str, ...]
    full_text: tuple[str, ...]

    def __hash__(self) -> int:  # a table is looked up for each question, and a hash of all its columns takes a while
        return hash(self.name)

    @property
    def has_owner(self) -> bool:
        """Whether each row says first whose it is, so that every question names that, too."""
        return self.key[0] == TENANT_COLUMN

    def column(self, name: str) -> Column | None:
        """Return the column of this name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)


Dump = Callable[[Any], Any]


PlacedChange = tuple[int, Dump]
"""Where a value stands in a row, and what becomes of it."""


def changed(rows: Sequence[Sequence[Any]], changes: Sequence[PlacedChange]) -> list[Sequence[Any]]:
    """Return rows with the values at some places changed, None excepted; column by column, as that is much faster.

    Whether a column has None is told by types: `None in` a column of decimals takes eight times as long.
    """
    if not rows or not changes:
        return list(rows)
    if len(rows) == 1:
        return [_changed(rows[0], changes)]
    columns: list[Iterable[Any]] = list(zip(*rows, strict=True))
    for place, change in changes:
        values = columns[place]
        if _NONE in set(map(type, values)):
            columns[place] = [None if value is None else change(value) for value in values]
        else:
            columns[place] = map(change, values)
    return list(zip(*columns, strict=True))


def _changed(row: Sequence[Any], changes: Sequence[PlacedChange]) -> Sequence[Any]:
    values = list(row)
    for place, change in changes:
        if values[place] is not None:
            values[place] = change(values[place])
    return values


def restored(
    rows: Sequence[Sequence[Any]],
    changes: Sequence[PlacedChange],
    what: str,
    columns: Sequence[Column],
    key: Collection[str],
) -> list[Sequence[Any]]:
    """Return stored rows changed back.

    Args:
        rows: as they were stored.
        changes: undo what was done to them then.
        what: the rows are, for an error's text.
        columns: of the rows.
        key: the names of those that are the key.

    Raises:
        DamagedRowError: one of them is not what was stored.
    """
    try:
        return changed(rows, changes)
    except Exception:  # whatever it is: which row, and why, is found out one by one
        for row in rows:
            for place, change in changes:
                try:
                    changed([row], [(place, change)])
                except Exception as error:
                    known = tuple(value for value, column in zip(row, columns, strict=True) if column.name in key)
                    raise DamagedRowError(
                        f"{columns[place].name} of the {what} {known!r} is not what was stored; "
                        f"build the read model again"
                    ) from error
        raise
