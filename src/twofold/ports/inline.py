"""The port of inline projections and processes: what they ask of an engine while a transaction is open.

An engine takes one request after the other, carries it out on the connection of the transaction with its own I/O, and
sends back the answer. What the values of a row are to blame for it throws into the generator, which knows whose they
are; when the database fails, it raises that itself and asks no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from twofold.errors import InvalidProjectionError
from twofold.messages.event_query import EventQuery
from twofold.ports.read_database import Changes, Selection
from twofold.ports.segments import Step
from twofold.ports.table import Table

T = TypeVar("T")


class Ask(NamedTuple):
    """Run one statement with values for its `:names`; the answer is its rows."""

    sql: str
    values: Mapping[str, Any] = {}


class LockLog(NamedTuple):
    """Keep everybody else from appending until the transaction ends; the answer is the head of the log."""


class LockSegments(NamedTuple):
    """Keep the segments of a generation where they are until the transaction ends; the answer is their rows.

    The rows are those of `segments_to_write` in `checkpoints.sql`, as they were last committed.
    """

    projection: str
    generation: int
    """0: the one that serves."""


class ReadEvents(NamedTuple):
    """Read up to `limit` matching events with `after < position < before`; the answer is their rows, in order."""

    query: EventQuery
    after: int
    before: int
    limit: int


class GiveWay(NamedTuple):
    """Let other tasks of the event loop run, if the engine works in one; there is no answer."""


class RunBlocking(NamedTuple):
    """Run work that may block, where it blocks no event loop; the answer is what it returns."""

    work: Callable[[], Any]


class LoadRows(NamedTuple):
    """Load the rows that have these keys; the answer is their values, in no particular order."""

    table: Table
    keys: Collection[tuple[Any, ...]]


class FindRows(NamedTuple):
    """Select rows of a table; the answer is their values."""

    table: Table
    selection: Selection


class WriteStep(NamedTuple):
    """Do what `ReadDatabase.commit` does, within the transaction."""

    table: Table
    changes: Changes
    step: Step


class WriteRows(NamedTuple):
    """Write rows and delete others, as `WriteStep` does, without a step."""

    table: Table
    changes: Changes
    """Of which nothing is parked or released."""


class AppendEvents(NamedTuple):
    """Judge and store an append in the transaction; the answer is `Appended` or `Rejected`.

    The log is locked from here on until the transaction ends, so this is best asked for last. Inline projections take
    the events in with the next append of another transaction.
    """

    append: Any
    """An `Append` of `twofold.ports.event_log`, which imports this module."""


Request = (
    Ask
    | GiveWay
    | RunBlocking
    | LockLog
    | LockSegments
    | ReadEvents
    | LoadRows
    | FindRows
    | WriteStep
    | WriteRows
    | AppendEvents
)
Steps = Generator[Request, Any, T]
"""The requests of one piece of work, and what came of it."""


class Inline(Protocol):
    """A read model that is written in the transactions of the appends."""

    name: str

    def fold(self, after: int, head: int) -> Steps[None]:
        """Ask for all that brings the events between two positions, which the transaction appended, into the rows.

        Raises:
            ProjectionFailedError: one of them cannot be folded; the transaction must be rolled back.
        """


def elsewhere(inline: Inline) -> InvalidProjectionError:
    """Return what is raised about a read model that is not where the log is."""
    return InvalidProjectionError(
        f"{inline.name} cannot be inline, as its read model is in another database than the log, and no transaction "
        f"spans both; move it into the log's, or make it asynchronous"
    )
