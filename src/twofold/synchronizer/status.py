"""Where read models are in their lives, how late they are, and whether that is healthy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from twofold.errors import HistoryChangedError
from twofold.log.chunks import mark_at
from twofold.log.event_store import EventStore
from twofold.options import SynchronizerOptions
from twofold.ports.checkpoints import SQL, Checkpoint, Generation, GenerationState
from twofold.ports.read_database import ReadDatabase
from twofold.projections.kinds import drive_of
from twofold.projections.runner import ProjectionKind, ProjectionRunner
from twofold.queries.lag import lag_of
from twofold.synchronizer.leases import LeaseTable, Looks, read_lease_table


class ProjectionState(StrEnum):
    """Where a read model is in its life."""

    NEW = "new"
    """No worker has begun to work on it."""
    CATCHING_UP = "catching up"
    LIVE = "live"
    PAUSED = "paused"
    FAULTED = "faulted"
    """It stands still; `error` says why."""
    REBUILDING = "rebuilding"
    """Another generation of it is being built; the present one serves."""
    DETACHED = "detached"
    """Neither this process nor any worker has its code; its data are kept."""


@dataclass(frozen=True, kw_only=True)
class HeldTenant:
    """A tenant whose many events a part of a read model takes in turns with those of the others."""

    tenant: str
    position: int
    """Up to here the part is complete for this tenant."""
    ahead: int
    """Up to here it is complete for all that are not held back."""


@dataclass(frozen=True, kw_only=True)
class SegmentStatus:
    """How far a part of a read model has come."""

    first: int
    end: int
    position: int
    lag: timedelta
    """Age of the oldest event that it still has to handle; zero if there is none."""
    worker: str
    """The worker that holds it; empty if none does."""
    unattended: timedelta
    """For how long no worker has worked on it."""
    error: str = ""
    held_back: Sequence[HeldTenant] = ()


@dataclass(frozen=True, kw_only=True)
class ProjectionStatus:
    """How far a read model has come, by what stands in its database: every process sees the same."""

    name: str
    version: int
    generation: int
    state: ProjectionState
    position: int
    """Up to here all its segments are complete."""
    head: int
    kind: ProjectionKind = "asynchronous"
    """As this process knows it, or else as the process said that prepared it last."""
    lag: timedelta = timedelta()
    """Age of the oldest event that it still has to handle; zero if there is none."""
    max_lag: timedelta | None = None
    parked: int = 0
    """Number of events that are parked."""
    error: str | None = None
    fault: str = ""
    """What fails in this process, and so holds up what this process does for the read model."""
    is_made: bool = True
    """Whether it is in the database."""
    patience: timedelta = timedelta(seconds=SynchronizerOptions.unattended)
    """For how long no worker may work on it before that is a fault, unless `max_lag` is shorter."""
    building: int | None = None
    """The position up to which the next generation of it has been built, if one is."""
    building_error: str = ""
    """What holds up the generation that is being built."""
    building_unattended: timedelta = timedelta()
    """For how long no worker has worked on it."""
    refused: str = ""
    """Why the next generation does not serve although it was built; build it again, or cancel it."""
    segments: Sequence[SegmentStatus] = ()
    troubles: Sequence[str] = ()
    """What is wrong apart from the feed of events, such as instances of a process that are stuck."""

    @property
    def behind(self) -> int:
        """Number of positions between the checkpoint and the head of the log."""
        return self.head - self.position

    @property
    def problems(self) -> Sequence[str]:
        """What is wrong; a read model without problems is healthy. "Not moving" is never healthy."""
        found = []
        if not self.is_made:
            found.append("was never made; start an `Application` or a synchronizer that has its code")
        if self.error:
            found.append(f"stands still: {self.error}")
        if self.fault:
            found.append(f"this process does not keep it in step: {self.fault}")
        if self.parked:
            found.append(f"{self.parked} events are parked")
        if self.refused:
            found.append(f"the next generation does not serve: {self.refused}")
        if self.max_lag is not None and self.lag > self.max_lag:
            found.append(f"is {self.lag.total_seconds():.1f} s late, {self.max_lag.total_seconds():g} s are allowed")
        if self.building_error:
            found.append(f"the next generation stands still: {self.building_error}")
        patience = min(self.max_lag or self.patience, self.patience)
        idle = max((each.unattended for each in self.segments), default=timedelta())
        if idle > patience and self.state is not ProjectionState.PAUSED:
            found.append(f"no worker has worked on it for {idle.total_seconds():.1f} s; start one, or pause it")
        if (idle := self.building_unattended) > self.patience:
            found.append(f"no worker has built the next generation for {idle.total_seconds():.1f} s; start one")
        return [*found, *self.troubles]


async def read_status(
    store: EventStore,
    database: ReadDatabase,
    runners: Mapping[str, ProjectionRunner],
    options: SynchronizerOptions,
) -> list[ProjectionStatus]:
    """Return the status of all read models of a database, in the order of their names.

    Raises:
        StorageError: the database failed.
    """
    earlier_head = await store.head()
    looks = Looks(database)  # no transaction: on SQLite that would be the write lock
    table = await read_lease_table(looks)
    counts = await looks.run(SQL["parked_counts"])
    parked = {(name, number): count for name, number, count, _ in counts}
    head = await store.head()
    return [
        replace(
            await _status(store, runners.get(name), table, generations, parked, earlier_head, head),
            patience=timedelta(seconds=options.unattended),
        )
        for name, generations in _by_name(table.generations).items()
    ]


def unknown_status(runner: ProjectionRunner, head: int) -> ProjectionStatus:
    """Return the status of a read model that was never prepared."""
    return ProjectionStatus(
        name=runner.name, version=runner.version, generation=0, state=ProjectionState.NEW, position=0, head=head,
        kind=runner.drive.name, max_lag=runner.projection.max_lag, is_made=False,
    )  # fmt: skip


def unreadable_status(runner: ProjectionRunner, head: int, error: str) -> ProjectionStatus:
    """Return the status of a read model whose database cannot be asked."""
    return ProjectionStatus(
        name=runner.name, version=runner.version, generation=0, state=ProjectionState.FAULTED, position=0,
        head=head, kind=runner.drive.name, max_lag=runner.projection.max_lag, error=error,
    )  # fmt: skip


def on_demand_status(runner: ProjectionRunner, head: int) -> ProjectionStatus:
    """Return the status of what is folded when a question is asked, and then never late."""
    return ProjectionStatus(
        name=runner.name, version=runner.version, generation=0, state=ProjectionState.LIVE, position=head,
        head=head, kind=runner.drive.name, max_lag=runner.projection.max_lag,
    )  # fmt: skip


async def _status(
    store: EventStore,
    runner: ProjectionRunner | None,
    table: LeaseTable,
    generations: Sequence[Generation],
    parked: Mapping[tuple[str, int], int],
    earlier_head: int,
    head: int,
) -> ProjectionStatus:
    serving = next(each for each in generations if each.role == "serving")
    own = next((each for each in generations if runner and each.version == runner.version), serving)
    shown = serving if serving.version == own.version else own
    rows = [row for row in table.checkpoints if (row.name, row.generation) == (shown.name, shown.number)]
    being_built = [each for each in generations if each.role == "building"]
    refused = next((each.refused for each in being_built if each.refused), "")
    rebuilding = bool(being_built) and not refused
    building = [row for row in table.checkpoints if rebuilding and _is_of(row, being_built[-1])]
    drive = runner.drive if runner else drive_of(shown.kind)
    by_appends = drive.by_appends
    segments = [await _segment(store, runner, row, shown.made_at, earlier_head, by_appends=by_appends) for row in rows]
    lag = max((each.lag for each in segments), default=timedelta())
    position = min((row.position for row in rows), default=0)
    codes = {code for each in table.workers.values() for code in each}
    is_brought_up = by_appends and position >= earlier_head
    known = runner is not None or is_brought_up or (shown.name, shown.version) in codes
    errors = [each.error for each in segments if each.error]
    return ProjectionStatus(
        name=shown.name,
        version=shown.version,
        generation=shown.number,
        state=_state(shown, rows, known=known, errors=errors, rebuilding=rebuilding, late=lag > timedelta()),
        position=position,
        head=head,
        kind=drive.name,
        lag=lag,
        max_lag=runner.projection.max_lag if runner else None,
        parked=parked.get((shown.name, shown.number), 0),
        error=errors[0] if errors else None,
        building=min((row.position for row in building), default=None),
        building_error=next((row.error for row in building if row.error), ""),
        building_unattended=max((_idle(row, being_built[-1].made_at) for row in building), default=timedelta()),
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
) -> ProjectionState:
    if generation.state == GenerationState.PAUSED:
        return ProjectionState.PAUSED
    if not known:
        return ProjectionState.DETACHED
    if errors:
        return ProjectionState.FAULTED
    if rebuilding:
        return ProjectionState.REBUILDING
    if all(row.epoch == 0 and row.moved_at == 0 for row in rows):
        return ProjectionState.NEW
    return ProjectionState.CATCHING_UP if late else ProjectionState.LIVE


async def _segment(
    store: EventStore,
    runner: ProjectionRunner | None,
    row: Checkpoint,
    made_at: int,
    earlier_head: int,
    *,
    by_appends: bool,
) -> SegmentStatus:
    lag = await lag_of(store, runner, row) if runner else timedelta()
    # Appends do the work. Without the code it is not known what is handled: they bring it up to the very head.
    needs_no_worker = by_appends and (not lag if runner else row.position >= earlier_head)
    return SegmentStatus(
        first=row.first,
        end=row.end,
        position=row.position,
        lag=lag,
        worker=row.owner if row.is_leased else "",
        unattended=timedelta() if needs_no_worker else _idle(row, made_at),
        error=await _history_error(store, row) or row.error,
        held_back=_held_back(row),
    )


def _held_back(row: Checkpoint) -> Sequence[HeldTenant]:
    if (held := row.held) is None:
        return ()
    return [
        HeldTenant(tenant=tenant, position=mark.position, ahead=held.ahead.position)
        for tenant, mark in sorted(held.tenants.items())
    ]


async def _history_error(store: EventStore, row: Checkpoint) -> str:
    """Return why the log is not the one that a segment has read, empty if it is."""
    try:
        await mark_at(store.log, row.furthest, row.furthest.position)
    except HistoryChangedError as error:
        return str(error.of(row.name))
    return ""


def _idle(row: Checkpoint, made_at: int) -> timedelta:
    """Return for how long no worker has held a segment. After the clock went back, that is at least by how much."""
    last = max(row.leased_until, row.moved_at, made_at)
    return timedelta(microseconds=0 if row.is_leased else abs(row.now - last))


def _is_of(row: Checkpoint, generation: Generation) -> bool:
    return (row.name, row.generation) == (generation.name, generation.number)


def _by_name(generations: Sequence[Generation]) -> dict[str, list[Generation]]:
    found: dict[str, list[Generation]] = {}
    for each in generations:
        found.setdefault(each.name, []).append(each)
    return found
