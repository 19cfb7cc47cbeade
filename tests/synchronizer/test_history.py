"""A log that was put back to an older state, or is another one: nothing is skipped, and no light is green.

100 events, of which 40 get lost; the processes go on, and append 60 more. Read models beside the log go back with it.
What stands elsewhere (read models in another database or file, a reaction's effects, a subscriber's own checkpoint) has
seen events that are not in the log any more: it stands still by name until an operator decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from tests.accounts import Balance, Balances, Mails, Opened
from tests.postgres_servers import PostgresServer
from tests.restorable import PostgresCluster, Restorable, SqliteFile
from tests.synchronizing import PATIENCE, deposited, engine_at, opened, quick, running, until, write

from twofold import EventQuery, EventStore, ReadModelSynchronizer, session
from twofold.engines.duckdb import DuckDbReadDatabase
from twofold.engines.engine import connect, scratch_database
from twofold.errors import (
    HistoryChangedError,
    InvalidProjectionError,
    InvalidTokenError,
    RebuildFailedError,
    StaleReadError,
    StorageError,
)
from twofold.messages.position import Position
from twofold.options import LogOptions, Options
from twofold.ports.read_database import ReadDatabase

SHARED, LOST, NEW = 60, 40, 60


@pytest.fixture(params=["sqlite", "postgres"])
def log_at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restorable]:
    if request.param == "sqlite":
        (tmp_path / "log").mkdir()
        yield SqliteFile(tmp_path / "log")
    else:
        server: PostgresServer = request.getfixturevalue("restartable_server")
        with server.database() as url:
            yield PostgresCluster(server, url)


@pytest.fixture(params=["duckdb", "sqlite", "postgres"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], ReadDatabase]:
    """Return a function that gives the read database, as one more process would have it."""
    if request.param == "duckdb":
        return lambda: DuckDbReadDatabase(tmp_path / "reports.duckdb")
    url = f"sqlite:///{tmp_path}/read.db"
    if request.param == "postgres":
        fresh: Callable[[int], str] = request.getfixturevalue("new_database")
        url = fresh(18)
    return lambda: connect(url).read_database


@asynccontextmanager
async def opened_database(make: Callable[[], ReadDatabase]) -> AsyncIterator[ReadDatabase]:
    database = make()
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def fill(store: EventStore, first: int, count: int) -> int:
    """Append deposits of distinct amounts, and return the last position; the database may be away for a moment."""
    position = 0
    for number in range(first, first + count):
        while True:
            try:
                position = await write(store, deposited("a", number))
                break
            except StorageError:
                await asyncio.sleep(0.05)
    return position


async def lose_the_tail(log_at: Restorable, store: EventStore, synchronizer: ReadModelSynchronizer) -> None:
    """Append 100 events, which all have seen, and lose the last 40."""
    await write(store, opened("a"))
    await synchronizer.wait(await fill(store, 2, SHARED - 1), PATIENCE)
    await asyncio.to_thread(log_at.save)
    await synchronizer.wait(await fill(store, 1_000_000, LOST), PATIENCE)
    await asyncio.to_thread(log_at.put_back)


def total(*amounts: range) -> Decimal:
    return Decimal(sum(map(sum, amounts)))


KEPT, AFTERWARDS = range(2, SHARED + 1), range(10_000, 10_000 + NEW)


async def test_read_models_beside_the_log_go_back_with_it_and_miss_nothing(log_at: Restorable) -> None:
    async with engine_at(log_at.url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        balances = synchronizer.add(Balances())
        async with running(synchronizer):
            await lose_the_tail(log_at, store, synchronizer)
            for amount in AFTERWARDS:
                position = await fill(store, amount, 1)
                await synchronizer.wait(position, PATIENCE)
                assert (await balances.get("a") or Balance("", "")).amount >= amount, f"event {position} is not in yet"
            assert position == SHARED + NEW
            assert await balances.get("a") == Balance("a", "ann", total(KEPT, AFTERWARDS), SHARED + NEW - 1)
            [status] = await synchronizer.status()
            assert (status.position, status.head, status.error) == (SHARED + NEW, SHARED + NEW, None)


async def test_another_process_that_only_asks_is_not_told_that_it_sees_what_is_not_in_yet(log_at: Restorable) -> None:
    async with engine_at(log_at.url) as (engine, store), engine_at(log_at.url) as (other, other_store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database, options=quick(lease=1.0))
        synchronizer.add(Balances())
        asking = ReadModelSynchronizer(other_store, other.read_database)
        balances = asking.add(Balances())
        async with running(synchronizer):
            await write(store, opened("a"))
            await synchronizer.wait(await fill(store, 2, SHARED - 1), PATIENCE)
            await asyncio.to_thread(log_at.save)
            await asking.wait(await fill(store, 1_000_000, LOST), PATIENCE)
        await asyncio.to_thread(log_at.put_back)
        position = await fill(store, 10_000, 1)
        assert position == SHARED + 1
        with pytest.raises(StaleReadError):
            await asking.wait(position, 0.5)
        async with running(synchronizer):
            await asking.wait(position, PATIENCE)
            row = await balances.get("a")
            assert row
            assert row.amount == total(KEPT, range(10_000, 10_001))


@pytest.mark.parametrize("asked_by", ["its token", "its number"])
async def test_what_was_seen_of_the_lost_history_answers_no_wait_for_the_one_that_is(
    log_at: Restorable, asked_by: str
) -> None:
    async with engine_at(log_at.url) as (engine, store), engine_at(log_at.url) as (_, other):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        synchronizer.add(Balances())
        async with running(synchronizer):
            await write(store, opened("a"))
            await synchronizer.wait(await fill(store, 2, SHARED - 1), PATIENCE)
            await asyncio.to_thread(log_at.save)
            lost = await fill(store, 1_000_000, LOST)
            await synchronizer.wait(lost, PATIENCE)
        await asyncio.to_thread(log_at.put_back)
        kept = await fill(other, 10_000, LOST)
        assert kept == lost, "an event of this history stands where one of the lost one was seen, and no worker runs"
        with pytest.raises(StaleReadError, match=f"balances at {SHARED}"):
            await synchronizer.wait(kept if asked_by == "its token" else int(kept), 0.1)


async def test_what_was_seen_of_the_lost_history_makes_no_read_model_current(log_at: Restorable) -> None:
    async with engine_at(log_at.url) as (engine, store), engine_at(log_at.url) as (_, other):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        synchronizer.add(Balances())
        async with running(synchronizer):
            await write(store, opened("a"))
            await synchronizer.wait(await fill(store, 2, SHARED - 1), PATIENCE)
            await asyncio.to_thread(log_at.save)
            await synchronizer.wait(await fill(store, 1_000_000, LOST), PATIENCE)
        await asyncio.to_thread(log_at.put_back)
        await fill(other, 10_000, 1)

        async def late() -> bool:
            try:
                return await synchronizer.progress["balances"].lag() > timedelta()
            except StorageError:
                return False

        await until(late)


@pytest.mark.parametrize("later", [0, 1, LOST, NEW])
async def test_a_subscription_is_refused_by_name_and_skips_nothing(log_at: Restorable, later: int) -> None:
    async with engine_at(log_at.url) as (_, store):
        await write(store, opened("a"))
        await fill(store, 2, SHARED - 1)
        await asyncio.to_thread(log_at.save)
        await fill(store, 1_000_000, LOST)
        subscribed = store.subscribe()
        async with asyncio.timeout(PATIENCE):
            while subscribed.position < SHARED + LOST:
                await anext(subscribed)
        kept = subscribed.mark
        waiting = asyncio.create_task(anext(subscribed))
        await asyncio.to_thread(log_at.put_back)
        await store.head()
        await fill(store, 10_000, later)
        for refused in (waiting, anext(store.subscribe(after=kept))):
            with pytest.raises(HistoryChangedError, match=r"^the subscription has read up to event 100 "):
                async with asyncio.timeout(PATIENCE):
                    await refused


async def test_what_is_folded_on_demand_is_folded_again(log_at: Restorable) -> None:
    async with engine_at(log_at.url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database, scratch=scratch_database)
        balances = synchronizer.add(Balances(), kind="on_demand")
        async with running(synchronizer):
            await write(store, opened("a"))
            await fill(store, 2, SHARED - 1)
            await asyncio.to_thread(log_at.save)
            await fill(store, 1_000_000, LOST)
            assert (await balances.get("a") or Balance("", "")).changes == SHARED + LOST - 1
            await asyncio.to_thread(log_at.put_back)
            await fill(store, 10_000, LOST)
            assert await balances.get("a") == Balance(
                "a", "ann", total(KEPT, range(10_000, 10_000 + LOST)), SHARED + LOST - 1
            )
        await synchronizer.close()


@pytest.mark.parametrize("later", [0, 1, NEW])
async def test_read_models_elsewhere_stand_still_by_name_until_they_are_built_again(
    log_at: Restorable, elsewhere: Callable[[], ReadDatabase], later: int
) -> None:
    async with engine_at(log_at.url) as (_, store), opened_database(elsewhere) as database:
        synchronizer = ReadModelSynchronizer(store, database)
        balances = synchronizer.add(Balances())
        async with running(synchronizer):
            await lose_the_tail(log_at, store, synchronizer)
            await store.head()
            await fill(store, 10_000, later)
            await stands_still(synchronizer, "balances")
            assert (await balances.get("a") or Balance("", "")).changes == SHARED + LOST - 1, "nothing is folded on top"
            if later:
                await refuses_to_say_that_it_shows(synchronizer, SHARED + later)
            await synchronizer.rebuild_projection("balances")
            await synchronizer.wait(SHARED + later, PATIENCE)
            amounts = range(10_000, 10_000 + later)
            assert await balances.get("a") == Balance("a", "ann", total(KEPT, amounts), SHARED + later - 1)
            [status] = await synchronizer.status()
            assert (status.position, status.head, status.error) == (SHARED + later, SHARED + later, None)


@pytest.mark.parametrize("later", [0, 1, LOST, NEW])
@pytest.mark.parametrize("keeper", ["the process that wrote it", "a client"])
async def test_a_receipt_of_lost_events_is_refused_by_name(log_at: Restorable, keeper: str, later: int) -> None:
    options = Options(log=LogOptions(believed=0.1))
    async with engine_at(log_at.url, options) as (engine, store), engine_at(log_at.url) as (_, other):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        balances = synchronizer.add(Balances())
        async with running(synchronizer):
            shared = (await store.append([opened("a"), *map(deposited, "a" * (SHARED - 1))])).position
            await synchronizer.wait(shared, PATIENCE)
            await asyncio.to_thread(log_at.save)
            lost = await store.append([deposited("a") for _ in range(LOST)])
            await synchronizer.wait(lost, PATIENCE)
            await asyncio.to_thread(log_at.put_back)
            kept = await fill(other, 10_000, later) if later else SHARED  # by another process: this one has not looked
            await until_answered(synchronizer, kept)
            await asyncio.sleep(options.log.believed)
            token = Position.parse(lost.position.text) if keeper == "a client" else lost
            for _ in range(2):
                began = asyncio.get_running_loop().time()
                with pytest.raises(InvalidTokenError, match=r"^position 100 \(.*\) is of another history: the log "):
                    await synchronizer.wait(token, PATIENCE)
                with session(token), pytest.raises(InvalidTokenError, match="ask again without it"):
                    await balances.get("a")
                assert asyncio.get_running_loop().time() - began < PATIENCE / 2, "it is not waited for"
            await synchronizer.wait(Position.parse(shared.text), PATIENCE)
            with session(shared):
                assert (await balances.get("a") or Balance("", "")).changes == SHARED + later - 1


@pytest.mark.parametrize("later", [3, NEW])
async def test_a_receipt_of_another_log_is_refused_by_name(log_at: Restorable, later: int) -> None:
    async with engine_at(log_at.url) as (_, store):
        receipt = await store.append([opened("a"), deposited("a"), deposited("a")])
    await asyncio.to_thread(log_at.put_new)
    async with engine_at(log_at.url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        synchronizer.add(Balances())
        async with running(synchronizer):
            await write(store, opened("a"))
            await synchronizer.wait(await fill(store, 10_000, later - 1), PATIENCE)
            with pytest.raises(InvalidTokenError, match="is of another history: the log has 3 "):
                await synchronizer.wait(receipt, PATIENCE)


@pytest.mark.parametrize("later", [3, NEW])
async def test_read_models_under_a_new_log_stand_still_by_name(
    log_at: Restorable, elsewhere: Callable[[], ReadDatabase], later: int
) -> None:
    async with engine_at(log_at.url) as (_, store), opened_database(elsewhere) as database:
        synchronizer = ReadModelSynchronizer(store, database)
        synchronizer.add(Balances())
        async with running(synchronizer):
            await write(store, opened("a"))
            await synchronizer.wait(await fill(store, 2, 4), PATIENCE)
    await asyncio.to_thread(log_at.put_new)
    async with engine_at(log_at.url) as (_, store), opened_database(elsewhere) as database:
        synchronizer = ReadModelSynchronizer(store, database)
        balances = synchronizer.add(Balances())
        await write(store, opened("a"))
        await fill(store, 10_000, later - 1)
        [status] = await synchronizer.status()
        assert "has another history" in (status.error or ""), "told before any worker has come upon it"
        async with running(synchronizer):
            await stands_still(synchronizer, "balances")
            await refuses_to_say_that_it_shows(synchronizer, later)
            await synchronizer.rebuild_projection("balances")
            await synchronizer.wait(later, PATIENCE)
            assert (await balances.get("a") or Balance("", "")).changes == later - 1


@pytest.mark.parametrize("later", [0, 1, NEW])
async def test_a_reaction_stands_still_by_name_until_it_is_set_back(
    log_at: Restorable, elsewhere: Callable[[], ReadDatabase], later: int
) -> None:
    mails = Mails()
    async with engine_at(log_at.url) as (_, store), opened_database(elsewhere) as database:
        synchronizer = ReadModelSynchronizer(store, database, [mails])
        async with running(synchronizer):
            await lose_the_tail(log_at, store, synchronizer)
            done = len(mails.sent)
            await store.head()
            await fill(store, 10_000, later)
            await stands_still(synchronizer, "mails")
            assert len(mails.sent) == done, "it repeats nothing and goes on with nothing by itself"
            assert await synchronizer.control("mails").rewind(SHARED) == SHARED
            position = await fill(store, 20_000, 1)
            await synchronizer.wait(position, PATIENCE)
            assert mails.sent[done:] == [*map(Decimal, range(10_000, 10_000 + later)), Decimal(20_000)]


async def test_a_reaction_is_set_back_to_the_last_position_that_both_histories_are_known_to_share(
    log_at: Restorable, tmp_path: Path
) -> None:
    mails = Mails()
    async with (
        engine_at(log_at.url) as (_, store),
        opened_database(lambda: DuckDbReadDatabase(tmp_path / "r")) as there,
    ):
        synchronizer = ReadModelSynchronizer(store, there, [mails])
        await synchronizer.prepare()
        assert await synchronizer.control("mails").rewind() == 0, "nothing is lost yet"
        await write(store, opened("a"))
        for count in (SHARED - 11, 10):  # a worker that ends adds to the trail
            async with running(synchronizer):
                position = await fill(store, 2, count)
                await synchronizer.wait(position, PATIENCE)
        await asyncio.to_thread(log_at.save)
        async with running(synchronizer):
            await synchronizer.wait(await fill(store, 1_000_000, LOST), PATIENCE)
        await asyncio.to_thread(log_at.put_back)
        done = len(mails.sent)
        await fill(store, 10_000, NEW)
        with pytest.raises(ValueError, match=f"the log ends at {SHARED + NEW}, before position 1000"):
            await synchronizer.control("mails").rewind(1000)
        assert await synchronizer.control("mails").rewind() == SHARED
        async with running(synchronizer):
            await synchronizer.wait(SHARED + NEW, PATIENCE)
        assert mails.sent[done:] == [*map(Decimal, AFTERWARDS)]
        [status] = await synchronizer.status()
        assert (status.position, status.error) == (SHARED + NEW, None)


async def test_a_reaction_that_shares_nothing_with_the_log_is_set_back_only_to_where_it_is_told(
    log_at: Restorable, tmp_path: Path
) -> None:
    mails = Mails()
    for expected in ([2, 3, 4, 5], [3, 4, 5]):
        async with engine_at(log_at.url) as (_, store), opened_database(duckdb_in(tmp_path)) as there:
            synchronizer = ReadModelSynchronizer(store, there, [mails])
            await synchronizer.prepare()
            await write(store, opened("a"))
            position = await fill(store, 2, 4)
            if mails.sent:
                with pytest.raises(ValueError, match="name one: `--to POSITION`"):
                    await synchronizer.control("mails").rewind()
                await synchronizer.control("mails").rewind(2)
            mails.sent.clear()
            async with running(synchronizer):
                await synchronizer.wait(position, PATIENCE)
            assert mails.sent == [*map(Decimal, expected)]
        await asyncio.to_thread(log_at.put_new)


def duckdb_in(folder: Path) -> Callable[[], ReadDatabase]:
    return lambda: DuckDbReadDatabase(folder / "reports.duckdb")


async def test_a_keyed_read_model_is_not_set_back_as_its_rows_would_count_twice(log_at: Restorable) -> None:
    async with engine_at(log_at.url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database)
        synchronizer.add(Balances())
        await synchronizer.prepare()
        with pytest.raises(InvalidProjectionError, match="`twofold rebuild` builds them again"):
            await synchronizer.control("balances").rewind(0)


async def stands_still(synchronizer: ReadModelSynchronizer, name: str) -> None:
    """Wait until the status says so, with the name, the position and the remedy."""

    async def told() -> bool:
        [status] = await synchronizer.status()
        return any(
            all(part in problem for part in (f"{name} has read up to event", "another history", f"rewind` sets {name}"))
            for problem in status.problems
        )

    await until(told)


async def until_answered(synchronizer: ReadModelSynchronizer, position: int) -> None:
    """Wait until a position is shown; the database may be away for a moment."""

    async def answered() -> bool:
        try:
            await synchronizer.wait(position, PATIENCE)
        except StorageError:
            return False
        return True

    await until(answered)


async def refuses_to_say_that_it_shows(synchronizer: ReadModelSynchronizer, position: int) -> None:
    with pytest.raises((StaleReadError, HistoryChangedError)):
        await synchronizer.wait(position, 1.2)


async def test_a_version_in_memory_is_not_believed_of_a_log_that_was_put_back(log_at: Restorable) -> None:
    async with engine_at(log_at.url) as (_, store), engine_at(log_at.url) as (_, other):
        for version in range(3):
            await store.append_events("Account-a", "Account", [deposited("a")], expected_version=version)
        await asyncio.to_thread(log_at.save)
        for version in range(3, 5):
            await store.append_events("Account-a", "Account", [deposited("a")], expected_version=version)
        await asyncio.to_thread(log_at.put_back)

        async def regrown() -> bool:
            try:
                await other.append([opened("b"), opened("b")])
            except StorageError:
                return False
            return True

        await until(regrown)
        receipt = None
        while receipt is None:
            try:
                receipt = await store.append_events("Account-a", "Account", [deposited("a")], expected_version=3)
            except StorageError:
                await asyncio.sleep(0.05)
        assert (receipt.position, receipt.version) == (6, 4)
        rows = await store.log.read_stream("Account-a", limit=10)
        assert [row.version for row in rows] == [1, 2, 3, 4]
        assert [row.position for row in await store.log.read(EventQuery.of(Opened), limit=10)] == [4, 5]


async def test_a_rebuild_that_has_read_what_was_lost_is_refused_and_the_next_one_takes_over(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    log_at = SqliteFile(tmp_path / "log")
    elsewhere = connect(f"sqlite:///{tmp_path}/read.db").read_database
    async with opened_database(lambda: elsewhere), engine_at(log_at.url) as (_, store):
        synchronizer = ReadModelSynchronizer(store, elsewhere)
        balances = synchronizer.add(Balances())
        control = synchronizer.control("balances")
        async with running(synchronizer):
            await synchronizer.wait(await write(store, opened("a")), PATIENCE)
            log_at.save()
            lost = await write(store, deposited("a", 1), deposited("a", 1))
            await synchronizer.wait(lost, PATIENCE)
            await control.pause()
            rebuilding = asyncio.create_task(control.rebuild())

            async def is_built() -> bool:
                return (await control.status()).building == lost

            await until(is_built)
            log_at.put_back()
            position = await write(store, *(deposited("a", 10) for _ in range(4)))
            await control.resume()
            with pytest.raises(RebuildFailedError, match="another history"):
                await rebuilding
            await control.rebuild()
            await synchronizer.wait(position, PATIENCE)
            assert await balances.get("a") == Balance("a", "ann", Decimal(40), 4)


async def test_a_rebuild_begins_again_where_the_one_that_is_under_way_has_read_what_was_lost(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    log_at = SqliteFile(tmp_path / "log")
    elsewhere = connect(f"sqlite:///{tmp_path}/read.db").read_database
    async with opened_database(lambda: elsewhere), engine_at(log_at.url) as (_, store):
        synchronizer = ReadModelSynchronizer(store, elsewhere)
        balances = synchronizer.add(Balances())
        control = synchronizer.control("balances")
        await synchronizer.prepare()
        await write(store, opened("a"))
        log_at.save()
        lost = await write(store, deposited("a", 1), deposited("a", 1))
        await control.pause()

        async def is_built() -> bool:
            return (await control.status()).building == lost

        async def is_new() -> bool:
            return (await control.status()).building == position

        async with running(synchronizer):
            first = asyncio.create_task(control.rebuild())
            await until(is_built)
        log_at.put_back()
        position = await write(store, *(deposited("a", 10) for _ in range(4)))
        async with running(synchronizer):
            second = asyncio.create_task(control.rebuild())
            await until(is_new)
            await control.resume()
            await asyncio.gather(first, second)
            await synchronizer.wait(position, PATIENCE)
            assert await balances.get("a") == Balance("a", "ann", Decimal(40), 4)
