"""Carrying out a command that a process has sent: outside of any transaction, as often as it takes."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from twofold.commands.bus import CommandBus
from twofold.errors import TimeLimitError
from twofold.messages.context import context
from twofold.processes.instance import WaitingCommand
from twofold.processes.process import Process
from twofold.processes.steps import CommandDone, CommandRefused
from twofold.projections.failure import MAX_CAUSE, storable
from twofold.telemetry import continued

Outcome = CommandDone | CommandRefused


async def carry_out(bus: CommandBus, process: Process[Any], waiting: WaitingCommand, time_limit: float) -> Outcome:
    """Carry out a command, on behalf of those on whose behalf its process has sent it.

    Its id makes the command take effect once, however often this is called: a repeat gets the first receipt.

    Raises:
        TimeLimitError: it took longer than it may, and was cancelled.
        Exception: what is no answer of the domain's; to be called again.
    """
    timeout = asyncio.timeout(time_limit)
    try:
        async with timeout:
            return await _carry_out(bus, process, waiting)
    except TimeoutError as error:
        if not timeout.expired():
            raise
        remedy = "raise `ProcessOptions.time_limit`, or let its handler give up sooner"
        raise TimeLimitError(process.name, f"a {waiting.sent.command}", time_limit, remedy) from error


async def _carry_out(bus: CommandBus, process: Process[Any], waiting: WaitingCommand) -> Outcome:
    command = bus.types.decode(waiting.stored)
    command_id = waiting.sent.command_id
    try:
        with continued(waiting.metadata), context(metadata=waiting.metadata, session=None, unit=None):
            receipt = await bus.execute(command)
    except Exception as error:
        if not process.is_refusal(error):
            raise
        return CommandRefused(command_id, type(error).__name__, storable(str(error), MAX_CAUSE))
    value = msgspec.Raw(bus.types.encode_result(type(command), receipt.value))
    position = receipt.position.text if receipt.position else ""
    return CommandDone(command_id, value, receipt.stream_id, receipt.version, position)
