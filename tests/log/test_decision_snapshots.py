"""Stored snapshots of decision models: by query and by fold, and never instead of what matches behind them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from tests.log.test_streams import Counting
from tests.restorable import SqliteFile
from tests.synchronizing import engine_at

from twofold import (
    AppendCondition,
    Application,
    Command,
    DecisionModel,
    Event,
    EventQuery,
    EventStore,
    LogOptions,
    RecordedEvent,
    Tag,
    combine,
    event_type,
    metadata,
)
from twofold.engines.engine import Engine
from twofold.errors import ConflictError
from twofold.log.add_tags import add_tags
from twofold.ports.event_log import Scan

MUCH = LogOptions(short_stream=50, first_chunk=20, snapshot_every=10)


@event_type("Seated")
@dataclass(frozen=True)
class Seated(Event):
    course: Annotated[str, Tag("course")]
    seats: int = 1


@dataclass(frozen=True)
class Other(Event):
    course: Annotated[str, Tag("course")]


def seats(course: str = "c", factor: int = 1) -> DecisionModel[int]:
    return DecisionModel(
        query=EventQuery.of(Seated, tags=[f"course:{course}"]),
        initial_state=0,
        evolve=lambda taken, event: taken + factor * event.seats,
    )


def latest() -> DecisionModel[tuple[int, str | None]]:
    def evolve(state: tuple[int, str | None], recorded: RecordedEvent[Any]) -> tuple[int, str | None]:
        return recorded.position, recorded.metadata.user

    return DecisionModel(query=EventQuery.of(Seated, Other), initial_state=(0, None), evolve=evolve)


class CountingDecisions(Counting):
    """Counts the rows that decisions read, too."""

    async def read(self, *args: Any, **options: Any) -> Sequence[Any]:
        found: Sequence[Any] = await self._log.read(*args, **options)
        self.rows += len(found)
        return found

    async def scan(self, *args: Any, **options: Any) -> Scan:
        found: Scan = await self._log.scan(*args, **options)
        self.rows += len(found.rows)
        return found


@asynccontextmanager
async def process(store: EventStore, options: LogOptions = MUCH) -> AsyncIterator[tuple[EventStore, CountingDecisions]]:
    log = CountingDecisions(store.log)
    fresh = EventStore(log, options=options)
    fresh.events.register(Seated, Other)
    yield fresh, log
    await fresh.snapshots.end()


async def seat(store: EventStore, count: int, course: str = "c", amount: int = 1) -> None:
    await store.append([Seated(course, amount) for _ in range(count)])


async def decided(store: EventStore, model: DecisionModel[Any]) -> tuple[Any, int, Any]:
    """Decide in a process of its own; return the state, the rows that were read, and what became of snapshots."""
    async with process(store) as (fresh, log):
        decision = await fresh.decide(model)
        assert decision.condition == AppendCondition(model.query, await store.head())
    return decision.state, log.rows, fresh.snapshots.status()


async def test_a_decision_reads_what_stands_behind_its_snapshot_only(store: EventStore) -> None:
    await seat(store, 300)
    await seat(store, 300, "d")
    assert (await decided(store, seats()))[0] == 300
    for n in range(1, 20):
        await seat(store, 1)
        await store.append([Other("c")])
        state, rows, status = await decided(store, seats())
        assert state == 300 + n
        assert rows <= MUCH.first_chunk + MUCH.snapshot_every + 1
        assert status.used == 1
    assert (await decided(store, seats("d")))[2].used == 0
    async with process(store) as (fresh, log):
        for n in range(5):
            log.rows = 0
            assert (await fresh.decide(seats("d"))).state == 300
            assert n == 0 or log.rows == 1, "the last event of the state that is kept, and no other one"


async def test_short_decisions_do_not_look_for_a_snapshot(store: EventStore) -> None:
    await seat(store, 19)
    async with process(store) as (fresh, log):
        for _ in range(3):
            assert (await fresh.decide(seats())).state == 19
        assert log.looks == 0


async def test_the_same_query_with_another_fold_or_another_value_in_it_is_folded_again(store: EventStore) -> None:
    await seat(store, 300)
    for n, factor in enumerate((1, 2, 1, 3)):
        state, _, status = await decided(store, seats(factor=factor))
        assert state == 300 * factor
        assert (status.refused_code, status.saved) == (n > 0, 1)


async def test_a_model_that_asks_for_records_and_combined_models_are_stored_as_well(store: EventStore) -> None:
    await seat(store, 300)
    for model, state in ((latest(), (300, None)), (combine(seats(), latest()), (300, (300, None)))):
        for n in range(2):
            found, rows, status = await decided(store, model)
            assert found == state
            assert n == 0 or rows == MUCH.first_chunk
            assert status.used == n
            assert status.unstorable == {}


async def test_what_is_appended_on_a_decision_from_a_snapshot_depends_on_all_that_matches(store: EventStore) -> None:
    await seat(store, 300)
    await decided(store, seats())
    async with process(store) as (fresh, _):
        decision = await fresh.decide(seats())
        assert fresh.snapshots.status().used == 1
        await seat(store, 1)
        with pytest.raises(ConflictError):
            await fresh.append([Seated("c")], condition=decision.condition)
        decision = await fresh.decide(seats())
        assert decision.state == 301
        await fresh.append([Seated("c")], condition=decision.condition)


@dataclass(frozen=True)
class Take(Command):
    course: str
    amount: int = 1


async def test_a_command_that_conflicts_decides_again_on_what_it_learnt(url: str) -> None:
    async with Application(url, synchronize=False) as app, engine_at(url) as (_, other):
        await seat(other, 600)
        app.store.events.register(Seated, Other)
        seen: list[tuple[int, int]] = []

        async def take(command: Take) -> int:
            one, both = (
                (await app.store.decide(seats())).state,
                (await app.store.decide(combine(seats(), latest()))).state,
            )
            seen.append((one, both[0]))
            if len(seen) == 1:
                await asyncio.create_task(seat(other, 2), context=contextvars.Context())
            await app.store.append([Seated("c", command.amount)])
            return (await app.store.decide(seats())).state

        app.commands.register(Take, take)
        assert await app.commands.dispatch(Take("c", 5)) == 607
        assert await app.commands.dispatch(Take("c", 1)) == 608
        assert seen == [(600, 600), (602, 602), (607, 607)]
        await app.store.snapshots.end()
        assert app.store.snapshots.status().saved >= 2


async def test_a_snapshot_is_refused_when_tags_were_added_to_events_before_it(engine: Engine) -> None:
    old = EventStore(engine.log)

    @event_type("Seated")
    @dataclass(frozen=True)
    class Untagged(Event):
        course: str
        seats: int = 1

    await old.append([Untagged("c") for _ in range(100)])
    options = LogOptions(short_stream=50, first_chunk=20, snapshot_every=10, changed_tags="ignore")
    async with process(old, options) as (fresh, _):
        await seat(fresh, 100)
        assert (await fresh.decide(seats())).state == 100
    async with process(old, options) as (fresh, _):
        await add_tags(fresh, "Seated", write=True)
        assert (await fresh.decide(seats())).state == 200
        assert fresh.snapshots.status().refused_tags == 1


async def test_a_snapshot_of_a_history_that_is_lost_is_refused(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path)
    async with engine_at(file.url) as (_, store), engine_at(file.url) as (_, other):
        await seat(store, 300)
        await asyncio.to_thread(file.save)
        await seat(store, 100)
        assert (await decided(store, seats()))[0] == 400
        [lost] = await store.log.read_snapshots(limit=10)  # type: ignore[attr-defined]
        await asyncio.to_thread(file.put_back)
        for amount in (None, 2):
            if amount:
                await seat(other, 100, amount=amount)
            await other.log.delete_snapshots()  # type: ignore[attr-defined]
            assert await other.log.save_snapshot(lost)  # type: ignore[attr-defined]
            state, _, status = await decided(other, seats())
            assert state == (500 if amount else 300)
            assert status.refused_history == (amount is not None), "beyond the end of the log, it is only left alone"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (DecisionModel(query=EventQuery.of(tags=["course:c"]), initial_state=0, evolve=lambda n, e: n + 1), "no types"),
        (
            DecisionModel(query=EventQuery.of(Seated), initial_state=None, evolve=lambda state, event: event.seats),
            "state_type=",
        ),
        (
            DecisionModel(query=EventQuery.of(Seated), initial_state=(), evolve=lambda state, event: (*state, 1)),
            "state_type=",
        ),
    ],
)
async def test_a_model_that_cannot_be_stored_is_folded_each_time_and_told(
    store: EventStore, model: DecisionModel[Any], text: str
) -> None:
    await seat(store, 300)
    _, rows, status = await decided(store, model)
    assert rows == 300
    [(name, reason)] = status.unstorable.items()
    assert name == "decision <lambda>", "the name of the fold, not all that tells it from others"
    assert text in reason


async def test_tenants_do_not_share_snapshots(engine: Engine) -> None:
    for n in range(2):
        store = EventStore(engine.log, options=MUCH, tenants=True)
        store.events.register(Seated)
        for tenant, amount in (("a", 400), ("b", 300)):
            with metadata(tenant=tenant):
                if n == 0:
                    await seat(store, amount)
                assert (await store.decide(seats())).state == amount
        await store.snapshots.end()
        status = store.snapshots.status()
        assert (status.saved, status.used, status.refused_code) == (0 if n else 2, 2 if n else 0, 0)
