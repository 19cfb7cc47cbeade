"""Rows that say whose they are: what keyed projections fold and store in an application with tenants.

The application's own code sees plain rows and plain keys. Within the framework a row is `Owned`, its table has the
tenant as its first column, and the key begins with the tenant: two tenants' rows of one key are different rows, which
park, wait and divide into segments on their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from twofold.messages.event import RecordedEvent
from twofold.messages.tenant_names import TENANT_COLUMN
from twofold.ports.table import Column, Kind, Table
from twofold.projections.rows.row_type import RowType

KeyValues = tuple[Any, ...]
Fold = Callable[[Any, Any, RecordedEvent[Any]], Any]


class Owned(NamedTuple):
    """A row and whose it is."""

    tenant: str
    row: Any


class OwnedRows:
    """What `RowType` is for plain rows, for those that say whose they are.

    Args:
        rows: what the plain rows look like.
    """

    def __init__(self, rows: RowType[Any]) -> None:
        self._rows = rows
        self.cls = rows.cls
        self.key = (TENANT_COLUMN, *rows.key)
        self.indexes, self.full_text, self.copies = rows.indexes, rows.full_text, rows.copies
        self.columns = (Column(TENANT_COLUMN, Kind.TEXT, nullable=False), *rows.columns)

    def key_of(self, owned: Owned) -> KeyValues:
        """Return the values of a row's key."""
        return (owned.tenant, *self._rows.key_of(owned.row))

    def keys_of(self, rows: Iterable[Owned]) -> list[KeyValues]:
        """Return the values of the keys of rows."""
        return list(map(self.key_of, rows))

    def table(self, name: str) -> Table:
        """Return the table that holds such rows under this name."""
        return Table(name, self.columns, self.key, self.indexes, self.full_text)

    def dump_key(self, key: Sequence[Any]) -> KeyValues:
        """Return the values of a key as the columns hold them.

        Raises:
            ValueError: there are more or fewer values than the key has fields.
        """
        return (key[0], *self._rows.dump_key(key[1:]))

    def dump_key_part(self, key: Sequence[Any]) -> KeyValues:
        """Return the first values of a key as the columns hold them."""
        return (key[0], *self._rows.dump_key_part(key[1:]))

    def key_from_text(self, text: str) -> KeyValues:
        """Return a key, or the first values of one, from its JSON."""
        tenant, *rest = msgspec.json.decode(text, type=list[msgspec.Raw])
        plain_text = msgspec.json.encode(rest).decode()
        return (msgspec.json.decode(tenant, type=str), *self._rows.key_from_text(plain_text))

    def dump_fields(self, names: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
        """Return values of some fields as the columns hold them; raises what `RowType.dump_fields` raises."""
        if names and names[0] == TENANT_COLUMN:
            return (values[0], *self._rows.dump_fields(names[1:], values[1:]))
        return self._rows.dump_fields(names, values)

    def dump(self, row: Owned) -> Sequence[Any]:
        """Return a row's values, in the order of the columns."""
        return self.dump_all([row])[0]

    def dump_all(self, rows: Iterable[Owned]) -> list[Sequence[Any]]:
        """Return the values of rows, in the order of the columns; raises what `RowType.dump_all` raises."""
        owned = list(rows)
        values = self._rows.dump_all(each.row for each in owned)
        return [(each.tenant, *those) for each, those in zip(owned, values, strict=True)]

    def load(self, values: Sequence[Any]) -> Owned:
        """Return the row with these values; raises what `load_all` raises."""
        return self.load_all([values])[0]

    def load_all(self, rows: Sequence[Sequence[Any]]) -> list[Owned]:
        """Return rows with these values.

        Raises:
            DamagedRowError: they are not what was stored.
        """
        plain = self._rows.load_all([values[1:] for values in rows])
        return [Owned(values[0], row) for values, row in zip(rows, plain, strict=True)]

    def restored(self, names: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
        """Return stored values of some fields as what their fields hold."""
        return self._rows.restored(names, values)


class OwnedFolds(dict[type, Fold]):
    """Folds of a projection's own code, which sees plain rows."""

    def __init__(self, folds: Mapping[type, Fold]) -> None:
        self._folds = folds

    def __missing__(self, event: type) -> Fold:
        fold = self._folds[event]

        def fold_owned(projection: Any, before: Any, recorded: RecordedEvent[Any]) -> Any:
            return owned(recorded.tenant, fold(projection, plain(before), recorded))

        self[event] = fold_owned
        return fold_owned


def owned(tenant: str, row: Any) -> Any:
    """Return a row, or the rows of a group, as a tenant's."""
    if row is None:
        return None
    return tuple(Owned(tenant, each) for each in row) if isinstance(row, tuple) else Owned(tenant, row)


def plain(row: Any) -> Any:
    """Return a row, or the rows of a group, as the application knows it."""
    if isinstance(row, Owned):
        return row.row
    return tuple(map(plain, row)) if isinstance(row, tuple) else row
