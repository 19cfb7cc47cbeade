"""Projections that keep any number of rows for a key, such as an order its lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from twofold.errors import InvalidProjectionError
from twofold.messages.event import RecordedEvent
from twofold.projections.projection import KeyValues, Projection

R = TypeVar("R")


class GroupedProjection(Projection[R]):
    """A keyed projection whose events are about a group of rows: those with the same first key field.

    Methods marked with `@on` take `(self, event)` when they make a group, and `(self, rows, event)` when they change
    one; `rows` is a tuple in the order of the keys. They return all rows that the group has from then on. Everything
    else is as for a `Projection`; events wait for others of their group.
    """

    def key(self, event: Any) -> Any:
        """Return which group an event is about; by default the event's field with the name of the first key field."""
        return getattr(event, self.row_type().key[0])

    def apply(self, row: Any, recorded: RecordedEvent[Any]) -> Any:
        """Return the rows that a group has after an event, None if there are none.

        Raises:
            RowNotFoundError: the event changes a group that has no rows.
            InvalidProjectionError: rows are of different groups, or have the same key.
            Exception: whatever the method for the event raises.
        """
        rows: Iterable[R] | None = super().apply(row, recorded)  # type: ignore[assignment]
        sorted_rows = tuple(sorted(rows or (), key=self.row_type().key_of))
        keys = [self.row_type().key_of(each) for each in sorted_rows]
        if len({key[0] for key in keys}) > 1 or len(set(keys)) < len(keys):
            raise InvalidProjectionError(
                f"{self.name}: all rows of a group have one {self.row_type().key[0]}, and each a key of its own: {keys}"
            )
        return sorted_rows or None

    def events_key(self, key: KeyValues) -> KeyValues:
        """Return the key of the group that the row with this key belongs to."""
        return key[: self.group_length]

    def rows_in(self, folded: Any) -> Sequence[R]:
        """Return the rows of a group."""
        return folded or ()

    @classmethod
    def _own_apply(cls) -> Any:
        return GroupedProjection.apply

    @property
    def key_of(self) -> Callable[[Any], KeyValues]:
        """The function from the rows of a group to the key of the group."""
        key_of, length = self.stored_rows().key_of, self.group_length
        return lambda rows: key_of(rows[0])[:length]

    @property
    def group_length(self) -> int:
        """How many of the first values of a row's key say which group it belongs to."""
        return 2 if self._of_tenants else 1
