"""The process behind `app.commands.schedule`: each scheduled command is an instance, with one timer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from twofold.commands.bus import CommandBus
from twofold.commands.command_types import StoredCommand
from twofold.commands.schedule import CommandScheduled, ScheduledCommand, scheduled_stream
from twofold.errors import InvalidProcessError
from twofold.log.event_store import EventStore
from twofold.messages.event import RecordedEvent
from twofold.messages.tenant_names import tenant_tag
from twofold.processes.control import ProcessControl
from twofold.processes.instance import ProcessState
from twofold.processes.process import Process
from twofold.processes.triggers import Done, Refusal, SendStored, SetTimer, done, due, evolve, refused, starts
from twofold.tenants import current_tenant


class Waiting(msgspec.Struct, frozen=True):
    """What is known of a scheduled command."""

    scheduled: CommandScheduled | None = None
    is_done: bool = False


class ScheduledCommands(Process[Waiting]):
    """Carries out the commands that `app.commands.schedule` was given, when their time has come.

    Add it before the application starts: `app.processes.add(ScheduledCommands())`. A command that the domain refuses
    makes its instance stuck, for an operator to retry or to cancel.
    """

    name = "scheduled_commands"
    initial = Waiting()

    @starts(CommandScheduled, key="schedule_id")
    def wait(self, state: Waiting, event: CommandScheduled) -> Iterator[object]:
        """Set the timer."""
        yield SetTimer("due", None if event.after is None else timedelta(seconds=event.after), event.at)

    @due("due")
    def send(self, state: Waiting) -> Iterator[object]:
        """Send the command under its own id."""
        if (given := state.scheduled) is not None:
            yield SendStored(given.command_id, _stored(given))

    @refused()
    def tell(self, state: Waiting, refusal: Refusal[Any]) -> tuple[()]:
        """Let an operator decide."""
        raise InvalidProcessError(
            f"the scheduled {type(refusal.command).__name__} was refused ({refusal.error}: {refusal.reason}); retry it "
            f"once it may be carried out, or cancel it"
        )

    @evolve(CommandScheduled)
    def remember(self, state: Waiting, event: CommandScheduled) -> Waiting:
        """Remember the command."""
        return Waiting(event)

    @evolve(done())
    def end(self, state: Waiting, outcome: Done[Any]) -> Waiting:
        """Remember that it was carried out."""
        return Waiting(state.scheduled, is_done=True)

    def is_completed(self, state: Waiting) -> bool:
        """Return whether the command was carried out."""
        return state.is_done


class CommandScheduler:
    """Looks after the commands that wait, for `CommandBus`.

    Args:
        store: where the events are that say what was scheduled.
        control: of the process `ScheduledCommands`.
        commands: decodes what waits.
    """

    def __init__(self, store: EventStore, control: ProcessControl, commands: CommandBus) -> None:
        self._has_tenants = store._has_tenants
        self._store = store
        self._control = control
        self._commands = commands

    async def cancel(self, schedule_id: str, reason: str) -> bool:
        """Cancel a command, and return whether it was still waiting: then it is never carried out."""
        if await self._recorded(schedule_id) is None:
            return False
        schedule_id = self._mark() + schedule_id
        return await self._control.cancel(schedule_id, reason=reason, even_unstarted=True, only_waiting=True)

    async def waiting(self, *, after: str, limit: int) -> Sequence[ScheduledCommand]:
        """Return the commands that wait, in the order of their ids."""
        mark = self._mark()
        instances = await self._control.list(status="running", after=mark + after, limit=limit)
        ids = [each.id.removeprefix(mark) for each in instances if each.timer_at and each.id.startswith(mark)]
        found = [await self.find(each) for each in ids]
        return [each for each in found if each is not None]

    async def find(self, schedule_id: str) -> ScheduledCommand | None:
        """Return a command that waits, also before the process has taken it in; None if none of this id does."""
        recorded = await self._recorded(schedule_id)
        if recorded is None:
            return None
        given: CommandScheduled = recorded.event
        instance = await self._control.find(self._mark() + schedule_id)
        due_at = given.at or recorded.recorded_at + timedelta(seconds=given.after or 0)
        if instance is not None:
            if instance.timer_at is None or instance.status != ProcessState.RUNNING:
                return None
            due_at = instance.timer_at
        return ScheduledCommand(id=schedule_id, due_at=due_at, command=self._commands.types.decode(_stored(given)))

    async def _recorded(self, schedule_id: str) -> RecordedEvent[CommandScheduled] | None:
        async for recorded in self._store.read_stream(scheduled_stream(schedule_id)):
            return recorded
        return None

    def _mark(self) -> str:
        """Return what the ids of the tenant's instances begin with; empty without tenants.

        Raises:
            TenantMissingError: there are tenants, and none is set.
        """
        return tenant_tag(current_tenant("a scheduled command")) if self._has_tenants else ""


def _stored(given: CommandScheduled) -> StoredCommand:
    return StoredCommand(given.command, given.schema_version, bytes(given.content))
