"""States of long decisions that a process keeps: they make decisions faster, and never others."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.log.test_decision_snapshots import CountingDecisions, Seated, latest, seat, seats
from tests.restorable import SqliteFile
from tests.synchronizing import engine_at

from twofold import (
    Application,
    Command,
    DecisionModel,
    Event,
    EventQuery,
    EventStore,
    LogOptions,
    Options,
    event_type,
)
from twofold.engines.engine import Engine
from twofold.log.add_tags import add_tags
from twofold.log.folding.decisions import Decisions
from twofold.log.folding.kept_states import KeptDecision, KeptState, KeptStates, LastMatch
from twofold.log.folding.snapshots import Looked
from twofold.messages.stored_event import StoredEvent

MUCH = LogOptions(short_stream=50, first_chunk=20, short_tail=5, snapshot_every=10_000)
"""Only what a process keeps makes a decision short: hardly a snapshot is stored."""


@asynccontextmanager
async def process(log: Any, **options: Any) -> AsyncIterator[tuple[EventStore, CountingDecisions]]:
    counting = CountingDecisions(log)
    store = EventStore(counting, options=replace(MUCH, **options))
    store.events.register(Seated)
    yield store, counting
    await store.snapshots.end()


async def test_a_long_decision_is_read_once_and_then_only_what_is_new(store: EventStore) -> None:
    await seat(store, 300)
    async with process(store.log) as (fresh, log):
        assert (await fresh.decide(seats())).state == 300
        looks = log.looks
        for n in range(1, 20):
            log.rows = 0
            await seat(store, 1)
            assert (await fresh.decide(seats())).state == 300 + n
            assert log.rows <= 1 + MUCH.short_tail + 1, "the last event of the kept state, and those behind it"
        assert log.looks == looks


async def test_a_newer_state_is_stored_every_so_many_events(store: EventStore) -> None:
    await seat(store, 300)
    async with process(store.log, snapshot_every=20) as (fresh, _):
        await fresh.decide(seats())
        for _ in range(50):
            await seat(store, 1)
            await fresh.decide(seats())
            await asyncio.sleep(0.001)
        await fresh.snapshots.end()
        assert 2 <= fresh.snapshots.status().saved <= 4


async def test_of_many_that_want_one_long_decision_at_once_one_reads_it(store: EventStore) -> None:
    await seat(store, 300)
    async with process(store.log) as (fresh, log):
        decisions = await asyncio.gather(*(fresh.decide(seats()) for _ in range(16)))
        assert {each.state for each in decisions} == {300}
        assert log.rows <= 2 * 300 + 16 * (MUCH.first_chunk + 1)


def lists() -> DecisionModel[Any]:
    def evolve(state: Any, event: Seated) -> Any:
        return [*state, event.seats]

    return DecisionModel(query=EventQuery.of(Seated), initial_state=(), evolve=evolve, state_type=list[int])


async def test_what_is_done_to_a_state_does_not_change_the_next_one(store: EventStore) -> None:
    await seat(store, 100)
    async with process(store.log) as (fresh, log):
        for n in range(3):
            log.rows = 0
            state = (await fresh.decide(lists())).state
            assert state == [1] * 100
            assert n == 0 or log.rows == 1
            state.clear()


async def test_a_fold_that_closes_over_what_has_changed_is_another_fold(store: EventStore) -> None:
    await seat(store, 100)
    factors = {"seats": 1}

    def weighed() -> DecisionModel[int]:
        return DecisionModel(
            query=EventQuery.of(Seated), initial_state=0, evolve=lambda n, event: n + event.seats * factors["seats"]
        )

    async with process(store.log) as (fresh, _):
        assert (await fresh.decide(weighed())).state == 100
        factors["seats"] = 2
        assert (await fresh.decide(weighed())).state == 200
        assert (await fresh.decide(seats(factor=3))).state == 300


@event_type("Seated")
@dataclass(frozen=True)
class Untagged(Event):
    course: str
    seats: int = 1


async def test_a_kept_state_is_forgotten_when_tags_were_added_to_events_before_it(engine: Engine) -> None:
    await EventStore(engine.log).append([Untagged("c") for _ in range(100)])
    async with process(engine.log, changed_tags="ignore") as (fresh, _):
        await seat(fresh, 100)
        for _ in range(2):
            assert (await fresh.decide(seats())).state == 100
        await add_tags(fresh, "Seated", write=True)
        assert (await fresh.decide(seats())).state == 200


async def test_a_state_of_a_history_that_is_lost_is_forgotten(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path)
    async with (
        engine_at(file.url) as (_, store),
        engine_at(file.url) as (_, other),
        process(store.log) as (fresh, _),
    ):
        await seat(store, 60)
        await asyncio.to_thread(file.save)
        await seat(store, 40)
        assert (await fresh.decide(seats())).state == 100
        await asyncio.to_thread(file.put_back)
        assert (await fresh.decide(seats())).state == 60, "shorter than what was kept"
        await seat(store, 10)
        assert (await fresh.decide(seats())).state == 70
        await asyncio.to_thread(file.put_back)
        await seat(other, 40, amount=2)
        assert (await fresh.decide(seats())).state == 140, "as long as what was kept, and longer"


@dataclass(frozen=True)
class Take(Command):
    most: int


def wire(app: Application) -> None:
    """Let a course be taken as long as there are fewer than so many."""

    async def take(command: Take) -> bool:
        (taken, (_, user)) = await asyncio.gather(app.store.look(seats()), app.store.look(latest()))
        decided = (await app.store.decide(seats())).state
        assert (decided, user) == (taken, None), "one command sees one moment"
        if decided < command.most:
            await app.store.append([Seated("c")])
            return True
        return False

    app.commands.register(Take, take)


class Moving:
    """A log whose head has moved whenever it was read."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._one_by_one = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store.log, name)

    async def head(self) -> int:
        async with self._one_by_one:
            head = await self._store.head()
            moved = asyncio.create_task(seat(self._store, 1), context=contextvars.Context())  # no part of the command
            await moved
        return head


@pytest.mark.parametrize("count", [1, 100])
async def test_decisions_that_a_command_makes_at_once_are_of_one_position(url: str, count: int) -> None:
    app = Application(url, synchronize=False, options=Options(log=MUCH))
    async with app, engine_at(url) as (_, other):
        await seat(other, count)
        app.store.events.register(Seated)
        app.store._decisions._log = cast(Any, Moving(other))

        async def take(command: Take) -> list[int]:
            both = await asyncio.gather(app.store.decide(seats()), app.store.decide(latest()))
            return [both[0].state, both[1].state[0]]

        app.commands.register(Take, take)
        for _ in range(2):
            taken, position = await app.commands.dispatch(Take(0))
            assert taken == position


async def race(url: str) -> tuple[int, int]:
    """Let two processes race for the last seats; return how many were told that they have one, and how many have."""
    async with engine_at(url) as (_, store):
        await seat(store, 100)
        applications = [Application(url, synchronize=False, options=Options(log=MUCH)) for _ in range(2)]
        for app in applications:
            app.store.events.register(Seated)
            wire(app)
        async with applications[0] as one, applications[1] as other:
            turns = (one.commands, other.commands)
            won = await asyncio.gather(*(turns[n % 2].dispatch(Take(130)) for n in range(60)))
            late = [await each.dispatch(Take(130)) for each in turns]
        async with process(store.log) as (fresh, _):
            return sum(won + late), (await fresh.decide(seats())).state


async def test_of_two_processes_that_decide_on_kept_states_exactly_the_allowed_number_wins(url: str) -> None:
    assert await race(url) == (30, 130)


async def test_the_race_finds_a_kept_state_behind_which_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = Decisions._behind

    async def nothing(*arguments: Any) -> Any:
        found = await behind(*arguments)
        return found and []

    monkeypatch.setattr(Decisions, "_behind", nothing)
    won, seated = await race(f"sqlite:///{tmp_path}/log.db")
    assert won > 30 or seated > 130


LAST, LOOKED = LastMatch(1, b"", 0), Looked(None, 0)


def test_states_of_streams_and_of_decisions_share_their_bytes() -> None:
    states = KeptStates(10_000)
    query = EventQuery.of(Seated)
    states.keep(("owner", "stream"), KeptState(record_of("stream"), b"x" * 5000))
    states.keep((b"#", query), KeptDecision(LAST, b"x" * 3000, LOOKED, 0))
    assert states.of_decision((b"#", query))
    assert states.of_stream(("owner", "stream"))
    states.keep((b"##", query), KeptDecision(LAST, b"x" * 3000, LOOKED, 0))
    assert states.of_decision((b"#", query)) is None, "the one that was not used for the longest time"
    assert states.of_stream(("owner", "stream"))
    for n in range(1000):
        states.keep(("owner", str(n)), KeptState(record_of(str(n)), b"x"))
    assert sum(states.of_stream(("owner", str(n))) is not None for n in range(1000)) < 30, "small ones take room, too"


def record_of(stream: str) -> StoredEvent:
    return StoredEvent(1, 1, 1, 1, stream, "owner", "Opened", 1, b"", b"{}", b"{}", b"[]")
