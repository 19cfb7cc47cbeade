"""One control object for each read model: everything that an operator does with it while it runs.

`ReadModelControl` needs no code of the projection: `twofold projections` uses it. `ProjectionControl`, which
`app.projections.control("order_views")` gives, adds what needs the code. Each verb is one transaction, which raises the
epochs of the segments that it concerns: what workers began before is not committed any more.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import msgspec

from twofold.arguments import check_flag, check_function, check_port, check_whole
from twofold.errors import InvalidProjectionError, RebuildFailedError
from twofold.log.chunks import event_at
from twofold.log.event_store import EventStore
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.tenant_names import tenant_of
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.event_log import EventLog
from twofold.ports.read_database import ReadDatabase
from twofold.ports.segments import SLOTS, slot_of
from twofold.projections.fingerprint import has_row_type
from twofold.projections.keys.keyed_event import LookupEvent, key_text
from twofold.projections.runner import decoder_for
from twofold.synchronizer import history, parking, rebuild
from twofold.synchronizer.generations import Change, change, drop_copies, forget_records, locked_generations, serving_of
from twofold.synchronizer.leases import new_worker
from twofold.synchronizer.parking import ParkedEvent, SkippedEvent
from twofold.synchronizer.rebuild_checks import Report
from twofold.synchronizer.rebuild_progress import RebuildProgress, follow_rebuild
from twofold.synchronizer.registry import Registered
from twofold.synchronizer.segments.factory import RunnerFactory
from twofold.synchronizer.status import ProjectionStatus
from twofold.synchronizer.takeover import Takeover


class ReadModelControl:
    """Commands a read model, without the code of its projection.

    All of its methods raise `UnknownProjectionError` if there is no read model of this name, and `StorageError` if the
    database fails.

    Args:
        database: where the read model is.
        name: its name.
        changed: called after each change, to wake the workers of this process.
    """

    def __init__(self, database: ReadDatabase, name: str, changed: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self._database = database
        self._changed = changed

    async def pause(self) -> None:
        """Let it stand still from now on, until it is resumed; it answers as it stands."""
        await self._change("pause")

    async def resume(self) -> None:
        """Let it go on that was paused."""
        await self._change("resume")

    async def scale(self, segments: int) -> None:
        """Divide it into a number of segments, on which as many workers can work; they do so while it runs.

        Raises:
            ValueError: the number is not between 1 and 256.
        """
        check_whole("segments", segments, -math.inf)
        if not 1 <= segments <= SLOTS:
            raise ValueError(f"a read model has 1 to {SLOTS} segments, got {segments}")
        async with self._database.transaction() as transaction:
            serving = serving_of(await locked_generations(transaction, self.name))
            await transaction.run(SQL["set_segments"], name=self.name, generation=serving.number, segments=segments)
        self._changed()

    async def set_position(self, position: int, *, despite_effects: bool = False) -> None:
        """Let it go on behind a position, whatever it has handled before; its rows stay, what is parked is forgotten.

        Args:
            position: where to.
            despite_effects: needed for a reaction or a process: what it has done for the events behind the position,
                such as sending mails, it does again; what it has not done for those before it, it leaves out.

        Raises:
            ValueError: the position is below zero.
            InvalidProjectionError: it is a reaction or a process, and the word is missing.
        """
        check_whole("position", position, -math.inf)
        check_flag("despite_effects", despite_effects)
        if position < 0:
            raise ValueError(f"positions begin at 1, and 0 stands before all; got {position}")
        async with self._database.transaction() as transaction:
            serving = serving_of(await locked_generations(transaction, self.name))
            if not despite_effects:
                rebuild.refuse_effects(serving, f"set_position({position}, despite_effects=True)")
            place = {"name": self.name, "generation": serving.number}
            await transaction.run(SQL["set_position"], **place, position=position, event_id="")
            await transaction.run(SQL["forget_parked"], **place)
        self._changed()

    async def rewind(self, position: int | None = None, *, log: EventLog) -> int:
        """Set a reaction or a projection by SQL back to where it and a log have the same history; return to where.

        This is for a log that was restored to an older state, or is another one. A keyed read model is built again
        instead; see `twofold.synchronizer.history.rewind`.

        Args:
            position: where to, by default the last position that is known to be in both histories.
            log: the log that it goes on with.

        Raises:
            InvalidProjectionError: it is a keyed projection.
            ValueError: the log ends before the position, or no position is known to be in both histories.
        """
        if position is not None:
            check_whole("position", position)
        check_port("log", log, "event log", "append", "read", "scan")
        mark = await history.rewind(log, self._database, self.name, position)
        self._changed()
        return mark.position

    async def parked(self, *, limit: int = 1000) -> Sequence[ParkedEvent]:
        """Return the parked events, in order."""
        check_whole("limit", limit, 1)
        return await parking.parked(self._database, self.name, limit=limit)

    async def skipped(self) -> Sequence[SkippedEvent]:
        """Return the skipped events with the reasons, in order."""
        return await parking.skipped(self._database, self.name)

    async def retry(self, *key: Any) -> int:
        """Have the parked events of one row, or of all, tried again; return how many there are."""
        asked = await parking.retry(self._database, self.name, key_text(key) if key else parking.ALL_KEYS)
        self._changed()
        return asked

    async def retrying(self) -> int:
        """Return how many parked events wait for a worker to try them again."""
        return await parking.retrying(self._database, self.name)

    async def skip(self, position: int, *, reason: str, log: EventLog | None = None) -> None:
        """Leave an event out for ever that is parked or not yet reached; the later ones of its row are tried again.

        Args:
            position: where it stands. Should another event come to stand there, as after a restore of the log, that one
                is not skipped.
            reason: why; it is recorded.
            log: the log that it is in; needed for an event that is not parked.

        Raises:
            ValueError: there is no reason, the event has come in already, or it is neither parked nor in the log.
        """
        check_whole("position", position, 1)
        if log is not None:
            check_port("log", log, "event log", "append", "read", "scan")
        _check_reason(reason)
        event = (await log.mark(position) if log and position > 0 else None) or Mark(position)
        tenant = await _tenant_at(log, position) if log else ""
        slots = await self._slots(position)
        await parking.skip(self._database, self.name, event, reason, slots=slots, tenant=tenant)
        self._changed()

    async def skip_row(self, *key: Any, reason: str) -> int:
        """Leave all parked events of a row out for ever, and let its later ones in; return how many there were.

        Raises:
            ValueError: there is no reason.
        """
        _check_reason(reason)
        if not key:
            raise ValueError("give the key of the row: skip_row('a1', reason=…)")
        skipped = await parking.skip_row(self._database, self.name, key_text(key), reason)
        self._changed()
        return skipped

    async def drop_previous(self) -> bool:
        """Drop the previous generation, so that there is no rolling back; return whether there was one.

        Raises:
            InvalidProjectionError: it is a projection by SQL, whose tables only its code knows.
        """
        async with self._database.transaction() as transaction:
            known = await locked_generations(transaction, self.name)
            previous = next((each for each in known if each.role == "previous"), None)
            if previous is None:
                return False
            if not has_row_type(msgspec.json.decode(previous.fingerprint, type=dict[str, str])):
                raise InvalidProjectionError(
                    f"the tables of {self.name} are known to its code only; call "
                    f"control({self.name!r}).drop_previous() on the application's projections"
                )
            await transaction.drop(self.name + previous.suffix)
            await drop_copies(transaction, previous)
            await forget_records(transaction, previous)
        self._changed()
        return True

    async def _change(self, how: Change) -> None:
        async with self._database.transaction() as transaction:
            serving = serving_of(await locked_generations(transaction, self.name))
            await change(transaction, serving, how)
            place = {"name": self.name, "generation": serving.number}
            await transaction.run(SQL["seize"], **place, owner="", lease=0)  # its workers let go at once
        self._changed()

    async def _slots(self, position: int) -> Collection[int] | None:
        """Return the slots of the rows that an event is about, None if they cannot be known."""
        return None


def _check_reason(reason: object) -> None:
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError(f"say why: the reason is recorded for those who ask later; got {reason!r}")


class ProjectionControl(ReadModelControl):
    """Commands the read model of a projection whose code is here.

    Args:
        registered: the projection.
        store: where the events are.
        factory: makes runners of its segments.
        changed: called after each change, to wake the workers of this process.
        status: returns the status of all read models.
    """

    def __init__(
        self,
        registered: Registered,
        store: EventStore,
        factory: RunnerFactory,
        changed: Callable[[], object],
        status: Callable[[], Awaitable[Sequence[ProjectionStatus]]],
    ) -> None:
        super().__init__(registered.database, registered.runner.name, changed)
        self._registered = registered
        self._runner = registered.runner
        self._store = store
        self._factory = factory
        self._status = status

    async def status(self) -> ProjectionStatus:
        """Return where it stands; see `ReadModelSynchronizer.status`."""
        return next(each for each in await self._status() if each.name == self.name)

    async def set_position(self, position: int, *, despite_effects: bool = False) -> None:
        """Let it go on behind a position; see `ReadModelControl.set_position`."""
        await super().set_position(position, despite_effects=despite_effects)
        await self._registered.written.reload()

    async def rewind(self, position: int | None = None, *, log: EventLog | None = None) -> int:
        """Set it back in the application's log, unless another one is named; see `ReadModelControl.rewind`."""
        reached = await super().rewind(position, log=self._store.log if log is None else log)
        await self._registered.written.reload()
        return reached

    async def skip(self, position: int, *, reason: str, log: EventLog | None = None) -> None:
        """Leave an event of the application's log out for ever; see `ReadModelControl.skip`."""
        await super().skip(position, reason=reason, log=log or self._store.log)

    async def reset(self, *, despite_effects: bool = False) -> None:
        """Empty it in place and let it begin again; to keep it serving, use `rebuild`.

        Args:
            despite_effects: needed for a reaction or a process, which then does again what it has done for all events,
                such as sending mails.

        Raises:
            InvalidProjectionError: it is a reaction or a process, and the word is missing.
        """
        check_flag("despite_effects", despite_effects)
        await rebuild.reset(self._database, self._runner, despite_effects=despite_effects)
        await self._registered.written.reload()
        self._changed()

    async def rebuild(
        self, *, expect_same: bool = False, progress: Callable[[RebuildProgress], object] = lambda _: None
    ) -> Report:
        """Build it again from the log beside the generation that serves, verify it, and let it take over.

        Raises:
            RebuildFailedError, NoWorkerError, InvalidProjectionError: as `ReadModelSynchronizer.rebuild_projection`.
        """
        check_function("progress", progress)
        generation = await self._begin_rebuild(expect_same=expect_same)
        report = await follow_rebuild(self._store, self._database, generation, progress, self._factory.options)
        self._registered.forget()
        if report.reason:
            raise RebuildFailedError(self.name, report.reason)
        return report

    async def begin_rebuild(self, *, expect_same: bool = False) -> None:
        """Let the workers build it again, as `rebuild` does, without waiting: `status` tells how far they have come.

        Raises:
            InvalidProjectionError: it is a reaction, whose effects cannot be had again.
            StorageError: a database failed.
        """
        await self._begin_rebuild(expect_same=expect_same)

    async def _begin_rebuild(self, *, expect_same: bool) -> Generation:
        check_flag("expect_same", expect_same)
        segments = self._factory.options.build_segments
        log, database = self._store.log, self._database
        generation = await rebuild.begin(log, database, self._runner, expect_same=expect_same, max_segments=segments)
        self._changed()
        return generation

    async def cancel_rebuild(self) -> bool:
        """Drop what is being built, or was refused; return whether there was anything."""
        cancelled = await rebuild.cancel(self._database, self._runner)
        self._changed()
        return cancelled

    async def roll_back(self) -> None:
        """Let the previous generation serve again, as complete as the present one, which takes its place.

        Raises:
            RebuildFailedError: none was kept, or it is of another version of the code.
            InvalidProjectionError: something stands in the way of its tables or views.
            LeaseLostError, CheckpointMovedError: others took the segments each time that it was tried.
            TimeLimitError: a part of it took too long.
            ProjectionFailedError: an event holds a segment up.
        """
        await Takeover(self._factory, self._runner, new_worker()).roll_back(self.name)
        self._registered.forget()
        self._changed()

    async def drop_previous(self) -> bool:
        """Drop the previous generation, so that there is no rolling back; return whether there was one."""
        dropped = await rebuild.drop_previous(self._database, self._runner)
        self._changed()
        return dropped

    async def _slots(self, position: int) -> Collection[int] | None:
        query = EventQuery.exactly(*self._runner.projection.handles())
        rows = await self._store.log.read(query, after=position - 1, before=position + 1, limit=1)
        try:
            found = self._runner.keyed(await decoder_for(self._runner, self._store.events).events_of(rows))
        except Exception:  # that may be why it is to be skipped
            return None
        if any(isinstance(each, LookupEvent) for each in found):
            return range(SLOTS)
        return {slot_of(each.text) for each in found} or None


async def _tenant_at(log: EventLog, position: int) -> str:
    """Return whose event stands at a position; empty if it is no tenant's."""
    row = await event_at(log, position)
    return "" if row is None else tenant_of(row)
