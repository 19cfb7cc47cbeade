"""Where read models are in their lives, how late they are, and whether that is healthy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from twofold.log.event_store import EventStore
from twofold.messages.event_query import EventQuery
from twofold.ports.checkpoints import SQL, Checkpoint, Generation
from twofold.ports.read_database import ReadDatabase
from twofold.ports.segments import SLOTS, slot_of
from twofold.projections.runner import ProjectionKind, ProjectionRunner, with_keys
from twofold.synchronizer.leases import Ledger, read_ledger

UNATTENDED = timedelta(seconds=30)
"""Nobody works on a segment for so long: that is a fault, unless the projection's `max_lag` is shorter."""
LOOKED_AT = 500
"""Events that are looked at for the oldest one of a segment; the rest is taken for its own."""


class State(StrEnum):
    """Where a read model is in its life."""

    NEW = "new"
    """Nobody has begun to work on it."""
    CATCHING_UP = "catching up"
    LIVE = "live"
    PAUSED = "paused"
    FAULTED = "faulted"
    """It stands still; `error` says why."""
    REBUILDING = "rebuilding"
    """It is being built anew; an earlier one serves meanwhile."""
    DETACHED = "detached"
    """Neither this process nor any worker has its code; its data are kept."""


@dataclass(frozen=True, kw_only=True)
class SegmentStatus:
    """How far a part of a read model has come."""

    first: int
    end: int
    position: int
    lag: timedelta
    """Age of the oldest event that it still has to handle; zero if there is none."""
    worker: str
    """Who works on it; empty if nobody does."""
    unattended: timedelta
    """How long nobody has worked on it."""
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class ProjectionStatus:
    """How far a read model has come, by what stands in its database: every process sees the same."""

    name: str
    version: int
    generation: int
    state: State
    position: int
    """Up to here all its segments are complete."""
    head: int
    kind: ProjectionKind = "asynchronous"
    """As this process knows it."""
    lag: timedelta = timedelta()
    """Age of the oldest event that it still has to handle; zero if there is none."""
    max_lag: timedelta | None = None
    parked: int = 0
    """Number of events that are set aside."""
    error: str | None = None
    building: int | None = None
    """The position up to which the next generation of it has been built, if one is."""
    refused: str = ""
    """Why the next generation does not serve although it was built; build it again, or cancel it."""
    segments: Sequence[SegmentStatus] = ()

    @property
    def behind(self) -> int:
        """Number of positions between the checkpoint and the head of the log."""
        return self.head - self.position

    @property
    def problems(self) -> Sequence[str]:
        """What is wrong; a read model without problems is healthy. "Not moving" is never healthy."""
        found = []
        if self.error:
            found.append(f"stands still: {self.error}")
        if self.parked:
            found.append(f"{self.parked} events are parked")
        if self.refused:
            found.append(f"the next generation does not serve: {self.refused}")
        if self.max_lag is not None and self.lag > self.max_lag:
            found.append(f"is {self.lag.total_seconds():.1f} s late, {self.max_lag.total_seconds():g} s are allowed")
        patience = min(self.max_lag or UNATTENDED, UNATTENDED)
        idle = max((each.unattended for each in self.segments), default=timedelta())
        if idle > patience and self.state not in (State.PAUSED, State.DETACHED):
            found.append(f"nobody has worked on it for {idle.total_seconds():.1f} s")
        return found


async def read_status(
    store: EventStore, database: ReadDatabase, runners: Mapping[str, ProjectionRunner]
) -> list[ProjectionStatus]:
    """Return the status of all read models of a database, in the order of their names.

    Raises:
        StorageError: the database failed.
    """
    async with database.transaction() as transaction:
        ledger = await read_ledger(transaction)
        counts = await transaction.run(SQL["parked_counts"])
    parked = {(name, number): count for name, number, count, _ in counts}
    head = await store.head()
    return [
        await _status(store, runners.get(name), ledger, generations, parked, head)
        for name, generations in _by_name(ledger.generations).items()
    ]


def unknown_status(runner: ProjectionRunner, head: int) -> ProjectionStatus:
    """Return the status of a read model that was never prepared."""
    return ProjectionStatus(
        name=runner.name, version=runner.version, generation=0, state=State.NEW, position=0, head=head,
        kind=runner.drive.name, max_lag=runner.projection.max_lag,
    )  # fmt: skip


def on_demand_status(runner: ProjectionRunner, head: int) -> ProjectionStatus:
    """Return the status of what is folded when somebody asks, and then never late."""
    return ProjectionStatus(
        name=runner.name, version=runner.version, generation=0, state=State.LIVE, position=head, head=head,
        kind=runner.drive.name, max_lag=runner.projection.max_lag,
    )  # fmt: skip


async def _status(
    store: EventStore,
    runner: ProjectionRunner | None,
    ledger: Ledger,
    generations: Sequence[Generation],
    parked: Mapping[tuple[str, int], int],
    head: int,
) -> ProjectionStatus:
    live = next(each for each in generations if each.role == "live")
    own = next((each for each in generations if runner and each.version == runner.version), live)
    shown = live if live.version == own.version else own
    rows = [row for row in ledger.checkpoints if (row.name, row.generation) == (shown.name, shown.number)]
    shadows = [each for each in generations if each.role == "shadow"]
    refused = next((each.refused for each in shadows if each.refused), "")
    rebuilding = bool(shadows) and not refused
    building = [row.position for row in ledger.checkpoints if rebuilding and _is_of(row, shadows[-1])]
    segments = [await _segment(store, runner, row) for row in rows]
    lag = max((each.lag for each in segments), default=timedelta())
    position = min((row.position for row in rows), default=0)
    known = runner is not None or any((shown.name, shown.version) in codes for codes in ledger.workers.values())
    errors = [each.error for each in segments if each.error]
    return ProjectionStatus(
        name=shown.name,
        version=shown.version,
        generation=shown.number,
        state=_state(shown, rows, known=known, errors=errors, rebuilding=rebuilding, late=lag > timedelta()),
        position=position,
        head=max(head, position),
        kind=runner.drive.name if runner else "asynchronous",
        lag=lag,
        max_lag=runner.projection.max_lag if runner else None,
        parked=parked.get((shown.name, shown.number), 0),
        error=errors[0] if errors else None,
        building=min(building) if building else None,
        refused=refused,
        segments=segments,
    )


def _state(
    generation: Generation,
    rows: Sequence[Checkpoint],
    *,
    known: bool,
    errors: Sequence[str],
    rebuilding: bool,
    late: bool,
) -> State:
    if not known:
        return State.DETACHED
    if generation.paused:
        return State.PAUSED
    if errors:
        return State.FAULTED
    if rebuilding:
        return State.REBUILDING
    if all(row.epoch == 0 and row.moved_at == 0 for row in rows):
        return State.NEW
    return State.CATCHING_UP if late else State.LIVE


async def _segment(store: EventStore, runner: ProjectionRunner | None, row: Checkpoint) -> SegmentStatus:
    lag = await lag_of(store, runner, row) if runner else timedelta()
    needs_nobody = runner is not None and runner.drive.by_appends and not lag  # the appends do the work
    idle = 0 if row.is_leased or needs_nobody else row.now - max(row.leased_until, row.moved_at)
    return SegmentStatus(
        first=row.first,
        end=row.end,
        position=row.position,
        lag=lag,
        worker=row.owner if row.is_leased else "",
        unattended=timedelta(microseconds=idle if row.epoch else 0),
        error=row.error,
    )


async def lag_of(store: EventStore, runner: ProjectionRunner, row: Checkpoint) -> timedelta:
    """Return the age of the oldest event that a segment still has to handle, by the clock of its database.

    Raises:
        StorageError: the database failed.
    """
    query = EventQuery.of(*runner.projection.handles())
    is_whole = row.end - row.first == SLOTS
    rows = await store.log.read(query, after=row.position, limit=1 if is_whole else LOOKED_AT)
    for stored in rows:
        try:
            text = with_keys(runner, store.events.decode([stored]))[0].text if not is_whole else ""
        except Exception:  # it cannot be read, and holds the segment up
            text = ""
        if is_whole or not text or row.first <= slot_of(text) < row.end:
            return max(timedelta(microseconds=row.now - stored.recorded_at), timedelta(microseconds=1))
    if len(rows) == LOOKED_AT and not is_whole:
        return max(timedelta(microseconds=row.now - rows[-1].recorded_at), timedelta(microseconds=1))
    return timedelta()


def _is_of(row: Checkpoint, generation: Generation) -> bool:
    return (row.name, row.generation) == (generation.name, generation.number)


def _by_name(generations: Sequence[Generation]) -> dict[str, list[Generation]]:
    found: dict[str, list[Generation]] = {}
    for each in generations:
        found.setdefault(each.name, []).append(each)
    return found
