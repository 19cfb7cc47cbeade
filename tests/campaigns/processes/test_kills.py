"""Programs that run a process are killed at random points: no command is lost or doubled, and no timer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns.killing import kill_many
from tests.campaigns.processes.victim import OPTIONS, Bug, work_until_killed
from tests.child_processes import CONTEXT
from tests.fulfilment import ItemsReserved, OrderCancelled, PaymentReceived, PaymentRequested, build, running
from tests.synchronizing import until

from twofold import Application
from twofold.errors import StaleReadError
from twofold.processes.steps import CommandDone, CommandRefused, ProcessStep, TimerFired

LONGEST_LIFE = 0.3
"""Seconds after which a program is killed, at the latest."""
PATIENCE = 120.0


async def campaign(url: str, seed: int, kills: int, bug: Bug = "", patience: float = PATIENCE) -> None:
    """Kill programs, let one more end what is under way, and compare the log with what was acknowledged.

    Raises:
        AssertionError: a command or a timer was lost, or took effect twice.
    """
    async with running(url, options=OPTIONS):
        pass  # so that the process begins before the first order
    acknowledged = await asyncio.to_thread(_kill_many, url, random.Random(seed), kills, bug)
    app, _ = build(url, options=OPTIONS)
    async with app:
        await _at_rest(app, seed, patience)
        _compare([each async for each in app.store.read()], acknowledged, seed)
    assert len(acknowledged) > kills, "the programs hardly lived"


def _kill_many(url: str, chance: random.Random, kills: int, bug: Bug) -> list[bytes]:
    def program(there: Connection) -> BaseProcess:
        return CONTEXT.Process(target=work_until_killed, args=(url, chance.random(), there, bug), daemon=True)

    return kill_many(program, chance, kills // 2, longest_life=LONGEST_LIFE)


async def _at_rest(app: Application, seed: int, patience: float) -> None:
    """Wait until all events are taken in, no timer is set and no command waits.

    Raises:
        AssertionError: something never comes to an end.
    """
    control = app.processes.control("fulfil_order")

    async def is_at_rest() -> bool:
        await app.projections.wait(await app.store.head(), patience, ["fulfil_order"])
        counts = await control.counts()
        rows = await control.list(limit=10**6)
        return not counts.stuck and all(each.next_at is None and not each.waiting for each in rows)

    try:
        await until(is_at_rest, patience)
    except (TimeoutError, StaleReadError):
        failures = [each for each in await control.list(limit=10**6) if each.failures or each.waiting][:3]
        raise AssertionError(f"seed {seed}: it never came to rest: {failures}") from None


def _compare(events: list[Any], acknowledged: list[bytes], seed: int) -> None:
    happened: dict[str, Counter[str]] = defaultdict(Counter)
    steps: dict[str, list[ProcessStep]] = defaultdict(list)
    for each in events:
        if isinstance(each.event, ProcessStep):
            steps[each.stream_id.removeprefix("twofold.fulfil_order-")].append(each.event)
        else:
            happened[each.event.order][type(each.event).__name__] += 1
    for message in acknowledged:
        what, _, order = message.decode().partition(" ")
        if what != "alive":
            assert happened[order], f"seed {seed}: the acknowledged order {order} was lost"
            event = "OrderPlaced" if what == "placed" else PaymentReceived.__name__
            assert happened[order][event] == 1, f"seed {seed}: {order} was {what}"
    for order, counts in happened.items():
        where = f"seed {seed}: {order} {dict(counts)} {steps[order]}"
        assert max(counts.values()) == 1, f"a command took effect twice, {where}"
        assert counts[PaymentRequested.__name__] == 1, f"a command was lost, {where}"
        reserved, cancelled = counts[ItemsReserved.__name__], counts[OrderCancelled.__name__]
        assert reserved or cancelled, f"a timer or a command was lost, {where}"
        _check_steps(steps[order], where)


def _check_steps(steps: list[ProcessStep], where: str) -> None:
    timers: set[str] = set()
    waiting: set[Any] = set()
    completed = False
    for step in steps:
        if isinstance(step.input, TimerFired):
            assert step.input.timer in timers, f"a timer fired twice or after its cancel, {where}"
            assert not completed, f"a timer fired after the end, {where}"
            assert step.input.due_at <= step.at, f"a timer fired early, {where}"
            timers.remove(step.input.timer)
        elif isinstance(step.input, CommandDone | CommandRefused):
            assert step.input.command_id in waiting, f"an outcome was taken in twice, {where}"
            waiting.remove(step.input.command_id)
        timers = (timers - set(step.cancelled)) | {each.timer for each in step.timers}
        waiting |= {each.command_id for each in step.sent}
        completed = completed or step.completed
    assert not waiting, f"a command has no outcome, {where}"


async def test_processes_survive_kills(url: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await campaign(url, seed, kills=12)


@pytest.mark.soak
async def test_processes_survive_very_many_kills(url: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await campaign(url, seed, kills=3_000)


@pytest.mark.parametrize("bug", ["another id with each try", "steps in a second transaction"])
async def test_a_planted_bug_is_found_out(tmp_path: Path, bug: Bug) -> None:
    chance = random.Random()
    for database in range(15):
        seed = chance.randrange(2**32)
        try:
            await campaign(f"sqlite:///{tmp_path}/{database}.db", seed, 8, bug, patience=10.0)
        except AssertionError as found:
            assert f"seed {seed}" in str(found)  # noqa: PT017
            return
    pytest.fail("the campaign would not notice the bug that it is there for")
