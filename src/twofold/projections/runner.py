"""The strategies of the kinds of projections, as the synchronizer and the queries see them.

A `ProjectionRunner` says what differs by what a projection writes: rows by key, rows by group, SQL of its own, or
effects elsewhere. Its `Drive` says what differs by who brings the events in: workers, appends, or questions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from twofold.errors import CheckpointMovedError
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.unknown import RowDecoder, decoder, raw_decoder
from twofold.messages.event import RawEvent, RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.options import FoldOptions
from twofold.ports.checkpoints import advance
from twofold.ports.event_log import EventLog
from twofold.ports.read_database import Changes, ReadDatabase, ReadTransaction, Style
from twofold.ports.segments import Segment, Step
from twofold.ports.table import Table
from twofold.projections.folding import Folded
from twofold.projections.keys.keyed_event import FailedEvent, KeyedEvent
from twofold.projections.projection import KeyValues, Projection

ProjectionKind = Literal["asynchronous", "inline", "on_demand"]
"""When the rows follow from the events: soon after the append, in its transaction, or when a question is asked."""
Start = Literal["beginning", "now"]
"""The event that a projection begins with: the first of the log, or the next after the projection was added."""


class ProjectionBatch(NamedTuple):
    """Events that are to go into one generation of a read model, in one transaction."""

    suffix: str
    """Of the names of the generation's tables."""
    events: Sequence[KeyedEvent]
    """In order; none is of a key that is parked."""
    step: Step
    """How the checkpoint moves."""
    changes: Changes = Changes()
    """What else is to be parked and released."""
    last_try: bool = False
    """Whether failures are parked."""
    moving: Callable[..., object] = lambda *_: None
    """Called before what takes time of its own, to tell that the work goes on, if that is known with the seconds
    that this may take beyond the time limit of a step."""
    is_divisible: bool = False
    """Whether the runner may take the first events only, where all of them would take long."""

    def first(self, count: int) -> ProjectionBatch:
        """Return the batch of its first events, and of all that is to be parked before the last of these.

        A retry of parked events, which takes a step on the spot, releases only these.
        """
        if count == len(self.events):
            return self
        last = self.events[count - 1].recorded.stored
        if self.changes.released:
            released = [each for each in self.changes.released if each[0] <= last.position]
            changes = self.changes._replace(released=released)
            return self._replace(events=self.events[:count], changes=changes)
        parked = [each for each in self.changes.parked if each.position <= last.position]
        step = self.step.ending_at(Mark(last.position, last.event_id))
        changes = self.changes._replace(parked=parked)
        return self._replace(events=self.events[:count], step=step, changes=changes)

    def with_parked(self, failures: Iterable[FailedEvent]) -> Changes:
        """Return its changes with failures parked, too; an event of which several parts failed, once for each row."""
        parked = {(each.position, each.key): each for each in self.changes.parked}
        for each in map(FailedEvent.parked, failures):
            parked.setdefault((each.position, each.key), each)
        return self.changes._replace(parked=list(parked.values()))


class Projected(NamedTuple):
    """What came of a batch."""

    step: Step
    """The step that was taken, unless events failed and it was not the last try."""
    failures: Sequence[FailedEvent] = ()


class ReadModelBuilder(Protocol):
    """What can be built: the code of a projection, of one kind or another."""

    name: str
    version: int
    style: Style
    """Whose connection its code gets."""
    drive: Drive
    """Who brings the events in."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return a digest for each part of its code; `row` is that of what its rows look like."""

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        """Make the empty tables of a generation.

        Raises:
            InvalidProjectionError: a table of this name is there already.
        """

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        """Make sure that a generation's tables stand as declared.

        Raises:
            InvalidProjectionError: they do not.
        """

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        """Delete all rows of a generation."""

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        """Drop the tables of a generation."""

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        """Let the lasting names show the tables of this generation."""


Beside = Callable[[Segment, str, Callable[[], int]], Callable[[], Awaitable[None]]]
"""Given a segment, the suffix of its generation's tables and what returns the epoch of its lease, returns work."""


Trouble = Callable[[], Awaitable[Sequence[str]]]
"""Returns what is wrong apart from the feed of events, for the status; it asks the database."""


class ProjectionRunner(ReadModelBuilder, Protocol):
    """The code of a projection, of one kind or another, ready to run."""

    projection: Any
    batch_size: int
    """Events that it takes at once, at most."""
    max_wait: float | None
    """Seconds for which a batch that is not full waits for more events; None if it does not matter how full one is."""
    start: Start
    """What it begins with, unless `add(start=…)` says so."""
    has_read_model: bool
    """Whether it makes something that can be queried, and built again from the events."""

    @property
    def rows(self) -> RowRunner | None:
        """This runner, if the framework folds and knows its rows; None if only the projection's own code does."""

    @property
    def beside(self) -> Beside | None:
        """What goes on beside the feed of events as long as a worker holds a segment; None if nothing does."""

    @property
    def trouble(self) -> Trouble | None:
        """What tells of that whether anything is wrong; None if nothing goes on."""

    def keyed(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
        """Return events with their keys, in order; one that is about several things comes once for each.

        One that finds its rows by what they hold comes once, as a `LookupEvent`.

        Raises:
            Exception: whatever the projection's own code raises.
        """

    async def project(self, batch: ProjectionBatch) -> Projected:
        """Bring a batch of events into the read model and take the step, in one transaction.

        If some fail, nothing is stored, and they are returned. On the last try they are parked instead, and so are
        the later events of their keys; the others are stored. Of a divisible batch it takes what it can do in about a
        second, and steps only as far.

        Raises:
            CheckpointMovedError: nothing was stored; see `ReadDatabase.commit`.
            StorageError: nothing was stored, or it cannot be said.
        """


class RowRunner(ProjectionRunner, Protocol):
    """A runner whose rows the framework folds: it can compare them, and fold some of them again."""

    projection: Projection[Any]
    folding: FoldOptions
    folds_single_rows: bool
    """Whether the events of one key make one row, which can be folded by itself."""
    reads_others: bool
    """Whether rows follow from rows of other projections, too, so that only all of them can be folded again."""

    def table(self, suffix: str) -> Table:
        """Return the table of a generation."""

    def rows_by_key(self, folded: Folded) -> Mapping[KeyValues, Any]:
        """Return the rows that there are after events, by their own keys."""


class Drive(Protocol):
    """Who brings the events of a projection into its read model, and when."""

    name: ProjectionKind
    is_stored: bool
    """Whether the rows are kept, and workers see to them."""
    by_appends: bool
    """Whether each append writes the rows itself, so that workers do only what appends leave."""
    tries_again: bool
    """Whether an event that failed may succeed a moment later."""

    def refuse(self, runner: ProjectionRunner, others: Collection[ProjectionRunner]) -> None:
        """Refuse a projection that cannot be driven so, or not behind those that it follows.

        Raises:
            InvalidProjectionError: it cannot.
        """

    def attach(self, runner: ProjectionRunner, log: EventLog, events: EventTypes, database: ReadDatabase) -> None:
        """Let the log know the projection, if appends are to write its rows.

        Raises:
            InvalidProjectionError: the log and the rows are in different databases.
        """

    async def catch_up(self, runner: ProjectionRunner, events: EventTypes, database: ReadDatabase) -> None:
        """Bring the rows that serve up to the head of the log before appends go on writing them.

        Raises:
            StorageError: the database failed.
        """

    async def complete(
        self, runner: ProjectionRunner, events: EventTypes, transaction: ReadTransaction, generation: int
    ) -> None:
        """Bring a generation that is about to serve to the head of the log, which stays where it is until then.

        Raises:
            ProjectionFailedError: an event cannot be folded.
        """


async def take_step(transaction: ReadTransaction, batch: ProjectionBatch, failures: Sequence[FailedEvent]) -> None:
    """Move the checkpoint as a batch says, with failures parked, in a transaction that has written the rows.

    Raises:
        CheckpointMovedError: another worker has the segment; the transaction must be rolled back.
    """
    if not await advance(transaction, batch.with_parked(failures), batch.step):
        raise CheckpointMovedError(batch.step.segment.projection)


def decoder_for(runner: ProjectionRunner, events: EventTypes) -> RowDecoder:
    """Return what makes events of rows, as a projection takes them: of its classes, or raw if it takes every type."""
    handled = runner.projection.handles()
    return raw_decoder if RawEvent in handled else decoder(events, query=EventQuery.exactly(*handled))
