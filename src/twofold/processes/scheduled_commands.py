"""The process behind `app.commands.schedule`: each scheduled command is an instance, with one timer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from twofold.commands.bus import CommandBus
from twofold.commands.command_types import StoredCommand
from twofold.commands.schedule import CommandScheduled, ScheduledCommand
from twofold.errors import InvalidProcessError
from twofold.log.event_store import EventStore
from twofold.processes.control import ProcessControl
from twofold.processes.process import Process
from twofold.processes.steps import ProcessStep
from twofold.processes.triggers import Done, Refusal, SendStored, SetTimer, done, due, evolve, refused, starts


class Waiting(msgspec.Struct, frozen=True):
    """What is known of a scheduled command."""

    scheduled: CommandScheduled | None = None
    is_done: bool = False


class ScheduledCommands(Process[Waiting]):
    """Carries out the commands that `app.commands.schedule` was given, when their time has come.

    Add it before the application starts: `app.processes.add(ScheduledCommands())`. A command that the domain refuses
    makes its instance stuck, for an operator to retry or to cancel.
    """

    name, initial = "scheduled_commands", Waiting()

    @starts(CommandScheduled, key="schedule_id")
    def wait(self, state: Waiting, event: CommandScheduled) -> Iterator[object]:
        """Set the timer."""
        yield SetTimer("due", None if event.after is None else timedelta(seconds=event.after), event.at)

    @due("due")
    def send(self, state: Waiting) -> Iterator[object]:
        """Send the command under its own id."""
        if (given := state.scheduled) is not None:
            stored = StoredCommand(given.command, given.schema_version, bytes(given.content))
            yield SendStored(given.command_id, stored)

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
        store: where the streams of the instances are.
        control: of the process `ScheduledCommands`.
        commands: decodes what waits.
    """

    def __init__(self, store: EventStore, control: ProcessControl, commands: CommandBus) -> None:
        self._store = store
        self._control = control
        self._commands = commands

    async def cancel(self, schedule_id: str, reason: str) -> bool:
        """Cancel a command, and return whether it was still waiting: then it is never carried out."""
        return await self._control.cancel(schedule_id, reason=reason, even_unstarted=True, only_waiting=True)

    async def waiting(self, *, after: str, limit: int) -> Sequence[ScheduledCommand]:
        """Return the commands that wait, in the order of their ids."""
        found = []
        for instance in await self._control.list(status="running", after=after, limit=limit):
            if instance.timer_at is not None:
                command = await self._command(instance.id)
                found.append(ScheduledCommand(id=instance.id, due_at=instance.timer_at, command=command))
        return found

    async def _command(self, schedule_id: str) -> Any:
        [first] = self._store.events.decode(await self._control.steps(schedule_id, limit=1))
        step: ProcessStep = first.event
        received: Any = step.input
        payload = bytes(received.payload)
        event = self._store.events.decode_payload(received.type, received.schema_version, payload, received.position)
        return self._commands.types.decode(StoredCommand(event.command, event.schema_version, bytes(event.content)))
