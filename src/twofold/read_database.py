"""The port of the database that holds the read models and their checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from twofold.row_type import Table

Values = Sequence[Any]
"""A row, as values in the order of the table's columns."""

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in"]
Filter = tuple[str, Operator, Any]
"""A field, how to compare it, and with what: `("status", "=", "shipped")`. `"in"` takes a list.

None equals None and nothing else, is unequal to everything else, and comes neither before nor after anything.
"""


class Checkpoint(NamedTuple):
    """The step of a version of a projection from one position to the next."""

    projection: str
    version: int
    before: int
    after: int


class Selection(msgspec.Struct, frozen=True):
    """Which rows, in which order."""

    where: tuple[Filter, ...] = ()
    search: str = ""
    """Words that must all occur in the full-text fields, the last letters of each may be missing."""
    sort: tuple[str, ...] = ()
    """Fields; ties are best broken by the key. Without any, rows come by rank, if there is a search, and by key.

    None sorts before everything else, and last when descending.
    """
    descending: bool = False
    beyond: tuple[Any, ...] = ()
    """Only rows that come after these values of the `sort` fields (keyset pagination)."""
    limit: int = 20
    offset: int = 0


class Total(msgspec.Struct, frozen=True):
    """One group of rows."""

    by: tuple[Any, ...]
    """The values of the fields that it was grouped by."""
    count: int
    sum: Any
    """The exact sum of the field that was asked for."""


class ReadDatabase(Protocol):
    """Where read models live. Their checkpoints live with them, so that both move in one transaction."""

    async def open(self) -> None:
        """Connect and bring the schema up to date; may be repeated.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """

    async def close(self) -> None:
        """Release all resources; may be repeated."""

    async def prepare(self, table: Table, version: int) -> None:
        """Make sure that the table stands as this version of its projection wants it; safe in several processes.

        A higher version than the stored one drops the rows and the checkpoint: the read model is built again. A new
        index needs no new version.

        Raises:
            InvalidProjectionError: the columns, the key or the full-text fields changed but the version did not, or
                the version is lower than the stored one, or the table is somebody else's.
            StorageError: the database failed.
        """

    async def checkpoint(self, projection: str) -> int:
        """Return the position up to which a projection has come; 0 if it has not begun.

        Raises:
            StorageError: the database failed.
        """

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        """Return the rows that have these keys, in no particular order.

        Raises:
            StorageError: the database failed.
        """

    async def commit(
        self, table: Table, upserts: Sequence[Values], deletes: Sequence[tuple[Any, ...]], step: Checkpoint
    ) -> None:
        """Write rows, delete others by key, and move the checkpoint, in one transaction.

        Raises:
            CheckpointMovedError: the checkpoint is not at `step.before` any more, or belongs to another version;
                nothing was written.
            StorageError: nothing was written, or it cannot be said: read the checkpoint before going on.
        """

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        """Return the selected rows, and how many there would be without limit, offset and `beyond`.

        Raises:
            StorageError: the database failed.
        """

    async def totals(self, table: Table, by: Sequence[str], of: str, where: Sequence[Filter] = ()) -> Sequence[Total]:
        """Return count and exact sum of a field for each group of rows, in the order of the groups.

        Without `by`, all rows are one group, even if there is none. None counts as nothing in the sum.

        Raises:
            StorageError: the database failed.
        """
