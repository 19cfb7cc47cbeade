"""What was checked is what is read: a position belongs to a generation, and a page to one position.

Each test plants something between the check and the use, which in earlier versions were two looks at the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, GetBalance
from tests.synchronizing import PATIENCE, deposited, opened, quick, running, until, write

from twofold import EventStore, PaginatedResult, Query, QueryBus, ReadModel, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.errors import StaleReadError
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.ports.checkpoints import SQL
from twofold.queries import read_model, serving
from twofold.queries.read_model_progress import ReadModelProgress
from twofold.synchronizer import leases
from twofold.testing.samples import Noted

STALE = ReadPolicy(0.2, WhenLate.ANSWER_STALE)
Hook = Callable[[], Awaitable[object]]


class ListBalances(Query[PaginatedResult[Balance]]):
    pass


class Scene:
    """A read model with two generations, of which the one that serves stands behind the one before."""

    def __init__(self, engine: Engine, store: EventStore, kind: Any = "asynchronous") -> None:
        self.engine, self.store = engine, store
        self.synchronizer = ReadModelSynchronizer(store, engine.read_database)
        self.balances: ReadModel[Balance] = self.synchronizer.add(Balances(), kind=kind)
        self.bus = QueryBus(progress=self.synchronizer.progress)
        self.between: Hook | None = None

        async def get(query: GetBalance) -> Balance | None:
            await self._pause()
            return await self.balances.get(query.account)

        async def page(query: ListBalances) -> PaginatedResult[Balance]:
            await self._pause()
            return await self.balances.page()

        self.bus.register(GetBalance, get)
        self.bus.register(ListBalances, page)

    async def _pause(self) -> None:
        if self.between is not None:
            await self.between()

    async def positions(self) -> dict[int, int]:
        """Return how far each generation is."""
        rows = await self.engine.read_database.query(SQL["checkpoints"])
        return {number: min(row[4] for row in rows if row[1] == number) for number in {row[1] for row in rows}}

    async def leave_behind(self) -> int:
        """Let the generation before go ahead of the one that serves, and return its position."""
        await self.synchronizer.control("balances").pause()  # which is said of the one that serves
        async with self.engine.read_database.transaction() as transaction:
            await transaction.run("UPDATE twofold_checkpoints SET owner = '', leased_until = 0 WHERE generation = 1")
        position = await write(self.store, deposited("a", 4))
        self.synchronizer._poke()

        async def is_ahead() -> bool:
            return (await self.positions())[1] >= position

        await until(is_ahead)
        assert (await self.positions())[2] < position
        return position


@pytest_asyncio.fixture
async def scene(engine: Engine, store: EventStore) -> AsyncIterator[Scene]:
    scene = Scene(engine, store)
    async with running(scene.synchronizer):
        await scene.synchronizer.wait(await write(store, opened("a")), PATIENCE)
        yield scene


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let all that was looked up be old, as it is when the event loop has stood still."""
    late = SimpleNamespace(monotonic=lambda: time.monotonic() + seconds)
    monkeypatch.setattr(serving, "time", late)


@pytest.mark.parametrize("query", [GetBalance("a"), ListBalances()], ids=["a row", "a page"])
async def test_what_one_generation_has_passed_is_not_looked_for_in_another(
    scene: Scene, query: Query[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop stands still between the check and the use, and the other generation is found then."""
    await scene.bus.dispatch(query)  # this process knows the first generation
    serving_generation = cast(ReadModelProgress, scene.synchronizer.progress["balances"]).serving
    known = serving_generation._found
    await scene.synchronizer.rebuild_projection("balances")
    position = await scene.leave_behind()

    async def look_late() -> None:
        pass_time(monkeypatch, 60)

    serving_generation._found, serving_generation._looked_at = known, time.monotonic()  # as another process knows it
    scene.between = look_late
    answer = await scene.bus.ask(query, after=position, policy=STALE)
    assert (answer.stale, answer.position) == (True, position - 1)
    with pytest.raises(StaleReadError, match=f"balances at {position - 1}"):
        await scene.bus.ask(query, after=position, timeout=0.05)


@pytest.mark.parametrize("kind", ["asynchronous", "inline"])
async def test_the_first_question_after_a_flip_shows_what_was_written(
    engine: Engine, store: EventStore, kind: Any
) -> None:
    """A question begins before the flip, and reads after it."""
    scene = Scene(engine, store, kind)
    async with running(scene.synchronizer):
        await scene.synchronizer.wait(await write(store, opened("a")), PATIENCE)
        for number in range(1, 4):
            position = await write(store, deposited("a"))
            if number < 3:
                scene.between = lambda: scene.synchronizer.rebuild_projection("balances")
            else:
                scene.between = lambda: scene.synchronizer.control("balances").roll_back()
            answer = await scene.bus.ask(GetBalance("a"), after=position, timeout=PATIENCE)
            assert answer.value == Balance("a", "ann", Decimal(number), number)
            assert (answer.stale, answer.position >= position) == (False, True)


async def test_a_flip_between_finding_the_generation_and_reading_it_does_no_harm(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = scene.engine.read_database
    read = database.read

    async def read_after_a_flip(*arguments: Any) -> Any:
        monkeypatch.setattr(database, "read", read)
        await scene.synchronizer.rebuild_projection("balances")
        await scene.leave_behind()
        return await read(*arguments)

    position = await write(scene.store, deposited("a"))
    monkeypatch.setattr(database, "read", read_after_a_flip)
    answer = await scene.bus.ask(GetBalance("a"), after=position, timeout=PATIENCE)
    assert answer.value
    assert answer.value.changes >= 1
    assert not answer.stale


async def test_a_generation_that_is_dropped_before_it_is_read_is_looked_up_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = scene.engine.read_database
    await scene.balances.get("a")
    monkeypatch.setattr(database, "load_at_once", lambda *_: None)  # between which and the look-up nothing happens
    for method, question in (("load", scene.balances.get("a")), ("read", scene.balances.page())):
        original = getattr(database, method)

        async def gone(*arguments: Any, method: str = method, original: Any = original) -> Any:
            monkeypatch.setattr(database, method, original)
            await scene.synchronizer.rebuild_projection("balances")
            await scene.synchronizer.control("balances").drop_previous()
            return await original(*arguments)

        monkeypatch.setattr(database, method, gone)
        assert await question


async def test_a_generation_that_another_process_has_dropped_is_looked_up_again(scene: Scene) -> None:
    assert await scene.balances.get("a")
    generation = cast(ReadModelProgress, scene.synchronizer.progress["balances"]).serving
    known = generation._found
    await scene.synchronizer.rebuild_projection("balances")
    await scene.synchronizer.control("balances").drop_previous()
    generation._found, generation._looked_at = known, time.monotonic()  # as this process would know it still
    assert await scene.balances.get("a")
    assert generation._found != known


async def test_a_row_that_has_to_show_nothing_is_read_in_one_turn_of_the_loop(engine: Engine, scene: Scene) -> None:
    """Where the engine can do so; the more coroutines there are on the way, the longer a request takes."""
    assert await scene.bus.dispatch(GetBalance("a"))  # it is known now which generation serves
    asking = scene.bus.ask(GetBalance("a"))
    if scene.engine.read_database.load_at_once(scene.balances._table_of("__1"), [("a",)]) is None:
        assert (await asking).value
        return
    with pytest.raises(StopIteration) as done:
        asking.send(None)
    answer = done.value.value
    assert answer.value == Balance("a", "ann", Decimal(0), 0)
    assert (answer.stale, answer.position) == (False, 1)


async def test_rows_that_were_read_by_a_process_that_stood_still_are_asked_for_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = scene.engine.read_database
    assert await scene.balances.get("a")
    load_at_once, load, asked_again = database.load_at_once, database.load, list[Any]()

    def stand_still(*arguments: Any) -> Any:
        monkeypatch.setattr(read_model, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 60))
        return load_at_once(*arguments)

    async def load_again(*arguments: Any) -> Any:
        asked_again.append(arguments)
        return await load(*arguments)

    monkeypatch.setattr(database, "load_at_once", stand_still)
    monkeypatch.setattr(database, "load", load_again)
    assert await scene.balances.get("a")
    assert asked_again


async def test_a_belief_that_is_wrong_does_not_make_an_answer_stale_unseen(scene: Scene) -> None:
    """A signal has claimed what is not there: a forged one, or one of before the read model was set back."""
    position = await scene.store.head()
    await scene.synchronizer.control("balances").pause()
    scene.synchronizer._registry.positions.watermark("balances", 1).advance(1000)
    position = await write(scene.store, deposited("a"))
    answer = await scene.bus.ask(GetBalance("a"), after=position, policy=STALE)
    assert (answer.stale, answer.position) == (True, position - 1)
    scene.synchronizer._registry.positions.watermark("balances", 1).advance(1000)
    with pytest.raises(StaleReadError, match=f"balances at {position - 1}"):
        await scene.synchronizer.wait(position, 0.1)
    scene.synchronizer._registry.positions.watermark("balances", 1).advance(1000)
    asking = asyncio.create_task(scene.bus.ask(GetBalance("a"), after=position, timeout=PATIENCE))
    await asyncio.sleep(0.05)  # time to answer, if it believed what it has heard
    assert not asking.done()
    await scene.synchronizer.control("balances").resume()
    assert (await asking).position == position


# -- one position ---------------------------------------------------------------------------------------------------


async def test_a_read_model_that_was_built_in_segments_serves_in_as_many_as_it_did_before(
    engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is joined in the transaction of the flip: no question ever finds its segments apart."""
    synchronizers = [ReadModelSynchronizer(store, engine.read_database, options=quick(lease=3)) for _ in range(3)]
    models = [each.add(Balances()) for each in synchronizers]
    accounts = [f"a{number}" for number in range(20)]

    def deposits(position: int, place: int) -> int:
        """Return how many deposits to the account at this place the log holds up to a position."""
        return max(position - place, 0) // len(accounts)

    async with running(synchronizers[0]), running(synchronizers[1]), running(synchronizers[2]):
        await synchronizers[0].wait(await write(store, *map(opened, accounts)), PATIENCE)

        async def all_there() -> bool:
            return len(await engine.read_database.query(SQL["workers"])) == 3

        await until(all_there)
        segments = set()
        noted = leases.read_lease_table

        async def note(transaction: Any) -> Any:
            ledger = await noted(transaction)
            numbers = {each.number for each in ledger.generations if each.role == "serving"}
            segments.add(sum(row.generation in numbers for row in ledger.checkpoints))
            building = {each.number for each in ledger.generations if each.role == "building"}
            parts.add(sum(row.generation in building for row in ledger.checkpoints))
            return ledger

        parts: set[int] = set()
        monkeypatch.setattr(leases, "read_lease_table", note)
        done = asyncio.Event()

        async def keep_writing() -> None:
            while not done.is_set():
                await write(store, *map(deposited, accounts))

        async def keep_reading() -> None:
            while not done.is_set():
                page = await models[1].page(page_size=100)
                shown = {row.account: row.changes for row in page.items}
                assert shown == {account: deposits(page.position, at) for at, account in enumerate(accounts, 1)}

        writing, reading = asyncio.create_task(keep_writing()), asyncio.create_task(keep_reading())
        await synchronizers[0].rebuild_projection("balances")
        for _ in range(50):
            await models[0].page()
        await synchronizers[0].control("balances").roll_back()
        done.set()
        await asyncio.gather(writing, reading)
    assert segments == {1}
    assert max(parts) > 1, "it was built in several"


async def test_a_page_of_a_divided_read_model_waits_until_its_segments_stand_at_one_position(
    engine: Engine, store: EventStore
) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    balances = synchronizer.add(Balances())
    await synchronizer.prepare()
    await synchronizer.control("balances").scale(4)
    accounts = [f"a{number}" for number in range(12)]
    async with running(synchronizer):
        await synchronizer.wait(await write(store, *map(opened, accounts)), PATIENCE)

        async def divided() -> bool:
            return len((await synchronizer.status())[0].segments) == 4

        await until(divided)
        for count in range(1, 20):
            position = await write(store, *map(deposited, accounts))
            await synchronizer.wait(position, PATIENCE)
            page = await balances.page(page_size=100)
            assert {row.changes for row in page.items} == {count}
            assert page.position == position


async def test_a_page_whose_segments_stand_apart_says_the_lowest_position(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    balances = synchronizer.add(Balances())
    accounts = [f"a{number}" for number in range(12)]
    await write(store, *map(opened, accounts))
    await synchronizer.run_once(PATIENCE)
    place = {"name": "balances", "generation": 1}
    async with engine.read_database.transaction() as transaction:
        [(epoch,)] = await transaction.run("SELECT epoch FROM twofold_checkpoints")
        await transaction.run(SQL["end_segment"], **place, first=0, epoch=epoch, end=100)
        await transaction.run(SQL["split_off"], **place, parent=0, first=100, end=256)
        await transaction.run("UPDATE twofold_checkpoints SET position = 3 WHERE first_slot = 100")
    page = await balances.page()
    assert (page.position, page.furthest) == (3, 12), "and how far the rows may reach that are further"


async def test_a_log_that_lost_its_end_does_not_prove_that_nothing_is_missed(engine: Engine, store: EventStore) -> None:
    """Between a page whose segments stood at two positions and the look at the log, the log may have been restored."""
    progress = Scene(engine, store).synchronizer.progress["balances"]
    await write(store, opened("a"), deposited("a"), Noted(text="not of the balances"))
    assert await progress.misses_nothing(2, 3)
    assert not await progress.misses_nothing(1, 3)
    assert not await progress.misses_nothing(2, 4), "the log does not tell what stood there"
    assert not await progress.misses_nothing(4, 5)
