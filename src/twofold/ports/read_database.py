"""The port of the database that holds the read models and their checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from twofold.ports.positions import Positions
from twofold.ports.segments import Parked, Step, slot_of
from twofold.ports.table import Table

T = TypeVar("T")
Values = Sequence[Any]
"""A row, as values in the order of the table's columns."""

Style = Literal["driver", "sqlalchemy"]
"""Whose connection: `sqlite3.Connection` or psycopg's `AsyncConnection`; or SQLAlchemy's `Connection` on both."""

IDLE = 10.0
"""Seconds for which an open transaction may do nothing, if it is no projection's: that one has its lease."""

REPLICATION = 30.0
"""Seconds that a replica may take to show what its primary has."""

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in"]
Filter = tuple[str, Operator, Any]
"""A field, how to compare it, and with what: `("status", "=", "shipped")`. `"in"` takes a list.

None equals None and nothing else, is unequal to everything else, and comes neither before nor after anything.
"""


class Changes(NamedTuple):
    """What a step makes of a segment."""

    upserts: Sequence[Values] = ()
    deletes: Sequence[tuple[Any, ...]] = ()
    """Keys."""
    parked: Sequence[Parked] = ()
    released: Sequence[tuple[int, str]] = ()
    """Positions and keys of events that are parked no more."""


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


class Lookup(msgspec.Struct, frozen=True):
    """The rows that have these keys."""

    keys: tuple[tuple[Any, ...], ...]


class Sums(msgspec.Struct, frozen=True):
    """The count and the exact sums of fields for each group of rows."""

    by: tuple[str, ...]
    of: tuple[str, ...]
    where: tuple[Filter, ...] = ()


Question = Lookup | Selection | Sums
"""What is asked of one table: what `load`, `select` and `totals` answer."""


class Source(NamedTuple):
    """Whose rows are read."""

    projection: str
    generation: int = 0
    """0: the one that serves."""
    key: str = ""
    """As JSON: the one row that is read; empty if any may be."""
    tenant: str = ""
    """Whose rows are read; empty if those of all tenants may be."""

    @property
    def slot(self) -> int:
        """Where the key falls; -1 without one."""
        return slot_of(self.key) if self.key else -1


class Found(NamedTuple):
    """What a generation answered, and how far it had come in the snapshot in which it did."""

    answer: Any
    """What `load`, `select` or `totals` return."""
    position: int
    """All segments were complete up to here; if one row is read, its segment was."""
    furthest: int
    """One segment was complete up to here; the same, unless the segments stood at different positions."""
    has_parked: bool
    """Whether events of the source were parked, so that its rows lack them."""


class Total(msgspec.Struct, frozen=True):
    """One group of rows."""

    by: tuple[Any, ...]
    """The values of the fields that it was grouped by."""
    count: int
    sums: tuple[Any, ...]
    """The exact sums of the fields that were asked for, in their order."""

    @property
    def sum(self) -> Any:
        """The first of its sums, of the field that was asked for first."""
        return self.sums[0]


class ReadTransaction(Protocol):
    """An open transaction that may write."""

    async def call(self, code: Callable[[Any], Any]) -> Any:
        """Run the user's code with the connection, and await what it returns if that is to be awaited.

        Raises:
            Exception: whatever the code raises, unchanged.
        """

    async def run(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run one statement with values for its `:names`, and return its rows.

        Raises:
            StorageError: the database failed; the transaction is lost.
        """

    def is_to_blame(self, error: BaseException) -> bool:
        """Return whether the database, and not the user's code or its values, is the cause of an error of `call`."""

    async def lock(self, name: str) -> None:
        """Wait until no other transaction holds the lock of this name, and hold it until this one ends."""

    async def create(self, table: Table) -> None:
        """Make a table with its indexes.

        Raises:
            InvalidProjectionError: there is a table of this name.
        """

    async def check(self, table: Table) -> None:
        """Make sure that a table stands as declared, and add the indexes that it lacks.

        Raises:
            InvalidProjectionError: columns, key or full-text fields differ.
        """

    async def drop(self, *names: str) -> None:
        """Drop tables with all that belongs to them, if they are there, as one set: they may refer to each other.

        Raises:
            InvalidProjectionError: something that is not Twofold's depends on one of them.
        """

    async def empty(self, *names: str) -> None:
        """Delete all rows of tables, as one set: they may refer to each other.

        Raises:
            StorageError: the database failed; the transaction is lost.
        """

    async def expose(self, name: str, table: str) -> None:
        """Let a view of this name show a table; it replaces an earlier view, and leaves a table of this name alone.

        Raises:
            InvalidProjectionError: something that is not ours depends on what only the earlier view shows.
        """

    async def names(self) -> Collection[str]:
        """Return the names of all tables and views."""

    async def carry_out(self, steps: Generator[Any, Any, T]) -> T:
        """Carry out the requests of `twofold.ports.inline.Steps` in this transaction, and return what comes of them.

        They may lock the log, if it is in this database; nothing else may have been locked before.

        Raises:
            StorageError: the database failed; the transaction is lost.
            Exception: whatever the generator raises.
        """


class ReadDatabase(Protocol):
    """Where read models live. Their checkpoints live with them, so that both move in one transaction.

    Adapters pass `twofold.testing.ReadDatabaseConformance`.
    """

    has_indexes: bool
    """Whether an `Index` of a row's field makes questions cheaper here."""
    batch_size: int
    """Events that it takes best in one commit, while there are many to catch up with."""
    transaction_time: float
    """Seconds after which code that writes SQL ends its transaction and begins another, so that others can write."""

    async def open(self) -> None:
        """Connect and bring the schema up to date; may be repeated.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """

    async def close(self) -> None:
        """Release all resources; may be repeated."""

    def is_in(self, database: object) -> bool:
        """Return whether the read models are in this database of an engine, so that one transaction spans both."""

    def transaction(self, style: Style = "driver", idle: float = IDLE) -> AbstractAsyncContextManager[ReadTransaction]:
        """Open a transaction, to be committed when the block ends and rolled back when it raises.

        Args:
            style: whose connection the user's SQL gets.
            idle: seconds for which its process may do nothing. A server rolls it back then, so that a process which is
                frozen keeps no other one waiting for longer; engines without a server cannot do that.

        Raises:
            StorageError: the database failed; nothing was written, or it cannot be said.
            ModuleNotFoundError: SQLAlchemy is asked for, and not installed.
        """

    def follow(self, positions: Positions) -> None:
        """Tell what segments reach from now on, while there are waiters, whichever process works on them.

        May be repeated; ends with `close`.
        """

    async def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run one statement that only reads, with values for its `:names`, and return its rows.

        Raises:
            StorageError: the database failed.
        """

    async def read(self, table: Table, question: Question, source: Source) -> Found:
        """Answer a question, and tell how far the source had come: both from one snapshot of the database.

        Raises:
            MissingTableError: there is no such table.
            StorageError: the database failed.
        """

    async def load(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values]:
        """Return the rows that have these keys, in no particular order.

        Raises:
            MissingTableError: there is no such table.
            StorageError: the database failed.
        """

    def load_at_once(self, table: Table, keys: Collection[tuple[Any, ...]]) -> Sequence[Values] | None:
        """Return what `load` returns, if that takes microseconds and no waiting; else None, and `load` has to be asked.

        Raises:
            OwnershipError: another process or event loop has opened the database.
            StorageError: its file was deleted or replaced.
        """

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        """Write rows, delete others, park and release events, and take the step, in one transaction.

        Raises:
            CheckpointMovedError: the segment is not at `step.before`, or its epoch is another one: another worker has
                taken it, or an operator changed something of it. Nothing was written.
            LimitExceededError: a value cannot be stored; nothing was written.
            StorageError: nothing was written, or it cannot be said: read the checkpoint before going on.
        """

    async def select(self, table: Table, selection: Selection) -> tuple[Sequence[Values], int]:
        """Return the selected rows, and how many there would be without limit, offset and `beyond`.

        Raises:
            MissingTableError: there is no such table.
            StorageError: the database failed.
        """

    async def totals(
        self, table: Table, by: Sequence[str], of: Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        """Return the count and the exact sums of fields for each group of rows, in the order of the groups.

        All are of one moment. Without `by`, all rows are one group, even if there is none. None counts as nothing in a
        sum.

        Raises:
            MissingTableError: there is no such table.
            StorageError: the database failed.
        """
