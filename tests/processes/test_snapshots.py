"""Long instances of a process are kept and stored as long streams are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any

from tests.log.test_streams import Counting
from tests.synchronizing import PATIENCE, until

from twofold import Application, Command, Event, EventStore, LogOptions, Options, Tag
from twofold.log.integrity.snapshots import stored_snapshots
from twofold.processes import Process, after, cancel, due, evolve, starts
from twofold.processes.instance import Folding, Instance, InstanceFold
from twofold.processes.steps import stream_of

MUCH = LogOptions(short_stream=20, short_tail=4, first_chunk=10, snapshot_every=5)
TICKS = 40


@dataclass(frozen=True, kw_only=True)
class Ticked(Event):
    clock: Annotated[str, Tag("clock")]
    n: int


@dataclass(frozen=True, kw_only=True)
class Ring(Command[None]):
    clock: str
    n: int


@dataclass(frozen=True)
class Hands:
    seen: tuple[int, ...] = ()


class Clock(Process[Hands]):
    name, initial = "clock", Hands()

    @starts(Ticked, key="clock")
    def ticked(self, state: Hands, event: Ticked) -> Any:
        yield Ring(clock=event.clock, n=event.n)
        yield after(timedelta(days=event.n + 1), "alarm")
        if event.n % 7 == 0:
            yield after(timedelta(days=1), "nap")
        elif event.n % 7 == 1:
            yield cancel("nap")

    @due("alarm")
    def rung(self, state: Hands) -> Any:
        return ()

    @due("nap")
    def woken(self, state: Hands) -> Any:
        return ()

    @evolve(Ticked)
    def was_ticked(self, state: Hands, event: Ticked) -> Hands:
        return replace(state, seen=(*state.seen[-5:], event.n))

    def is_completed(self, state: Hands) -> bool:
        return False


def build(url: str) -> Application:
    async def ring(command: Ring) -> None: ...

    app = Application(url, options=Options(log=MUCH))
    app.commands.register(Ring, ring)
    app.processes.add(Clock())
    return app


async def run(url: str, first: int) -> None:
    """Let the clock tick, and wait until all of its commands have their outcomes."""
    async with build(url) as app:
        control = app.processes.control("clock")
        await app.projections.wait(await app.store.head(), PATIENCE, ["clock"])
        await app.store.append([Ticked(clock="a", n=first + n) for n in range(TICKS)])

        async def is_done() -> bool:
            await app.projections.wait(await app.store.head(), PATIENCE, ["clock"])
            return len(await steps(app.store)) >= 2 * (first + TICKS)

        await until(is_done)
        assert len(await control.list()) == 1


async def steps(store: EventStore) -> list[Any]:
    return [each async for each in store.read_stream(stream_of("clock", "a"))]


async def fresh(app: Application) -> tuple[Instance, int, EventStore]:
    """Fold the instance in a process of its own; return it, and how many rows were read."""
    log = Counting(app.store.log)
    store = EventStore(log, app.store.events, options=MUCH)
    fold = InstanceFold(Folding(Clock(), store.events, app.commands.types), "a")
    instance, version = await store._fold(stream_of("clock", "a"), fold)
    assert instance.version == version
    await store.snapshots.end()
    return instance, log.rows, store


async def test_an_instance_is_folded_behind_its_snapshot_with_all_that_it_waits_for(url: str) -> None:
    for n in range(2):
        await run(url, n * TICKS)
        async with build(url) as app:
            all_steps = await steps(app.store)
            folding = Folding(Clock(), app.store.events, app.commands.types)
            whole = folding.fold(folding.new("a"), all_steps)
            for i in range(2):
                instance, rows, store = await fresh(app)
                assert instance == whole
                assert set(instance.timers) == {"alarm"}
                status = store.snapshots.status()
                assert status.unstorable == {}
                assert i == 0 or (status.used, rows) == (1, 1)
            [snapshot] = [each async for each in stored_snapshots(app.store.log)]
            assert (snapshot.fold, snapshot.version) == ("process clock", len(all_steps))


async def test_a_process_loads_its_instances_by_their_snapshots(url: str) -> None:
    await run(url, 0)
    async with build(url) as app:
        await fresh(app)
    await run(url, TICKS)
    async with build(url) as app:
        assert (await fresh(app))[0].state.seen[-1] == 2 * TICKS - 1
