"""Projections that write their own SQL, over the driver's connection or SQLAlchemy's; and reactions."""

from __future__ import annotations

import asyncio
import errno
import inspect
import socket
from typing import Any, ClassVar

import pytest
import sqlalchemy
from tests.accounts import Deposited, Opened
from tests.synchronizing import PATIENCE, QUICK, deposited, opened, running, until, write

from twofold import EventStore, Reaction, ReadModelSynchronizer, RecordedEvent, SqlProjection
from twofold.engines.engine import Engine
from twofold.errors import InvalidProjectionError
from twofold.ports.checkpoints import SQL


class Totals(SqlProjection):
    """Adds up in the database; each engine's driver has its own way to be asked."""

    name = "totals"
    tables = ("totals", "seen")
    broken: ClassVar[bool] = False

    def __init__(self, url: str) -> None:
        self._mark = "?" if url.startswith("sqlite") else "%s"

    def handles(self) -> tuple[type, ...]:
        return (Opened, Deposited)

    def key(self, event: Opened | Deposited) -> str:
        return event.account

    async def create(self, connection: Any) -> None:
        await self._run(connection, f"CREATE TABLE {self.table('totals')} (account text PRIMARY KEY, cents bigint)")
        await self._run(connection, f"CREATE TABLE {self.table('seen')} (position bigint PRIMARY KEY)")

    async def apply(self, event: Opened | Deposited, connection: Any, recorded: RecordedEvent[Any]) -> None:
        await self._run(connection, f"INSERT INTO {self.table('seen')} VALUES ({self._mark})", recorded.position)
        if isinstance(event, Opened):
            await self._run(connection, f"INSERT INTO {self.table('totals')} VALUES ({self._mark}, 0)", event.account)
            return
        if event.amount == 13 and not self.broken:
            await self._run(connection, "SELECT no_such_column FROM totals")
        await self._run(
            connection, f"UPDATE {self.table('totals')} SET cents = cents + {self._mark} WHERE account = {self._mark}",
            int(event.amount), event.account,
        )  # fmt: skip

    async def _run(self, connection: Any, sql: str, *values: object) -> None:
        done = connection.execute(sql, values)
        if asyncio.iscoroutine(done):
            await done


class AlchemyTotals(SqlProjection):
    """The same once for all engines, in SQLAlchemy's words."""

    name = "totals"
    tables = ("totals", "seen")
    connection = "sqlalchemy"

    def __init__(self, url: str) -> None:
        self._metadata = sqlalchemy.MetaData()

    def handles(self) -> tuple[type, ...]:
        return (Opened, Deposited)

    def key(self, event: Opened | Deposited) -> str:
        return event.account

    def create(self, connection: sqlalchemy.Connection) -> None:
        for table in (self._totals, self._seen):
            table.create(connection)

    def apply(self, event: Opened | Deposited, connection: sqlalchemy.Connection, recorded: RecordedEvent[Any]) -> None:
        connection.execute(self._seen.insert().values(position=recorded.position))
        totals = self._totals
        if isinstance(event, Opened):
            connection.execute(totals.insert().values(account=event.account, cents=0))
            return
        if event.amount == 13:
            connection.execute(sqlalchemy.text("SELECT no_such_column FROM totals"))
        change = totals.update().where(totals.c.account == event.account)
        connection.execute(change.values(cents=totals.c.cents + int(event.amount)))

    @property
    def _totals(self) -> sqlalchemy.Table:
        return sqlalchemy.Table(
            self.table("totals").strip('"'), self._metadata,
            sqlalchemy.Column("account", sqlalchemy.Text, primary_key=True),
            sqlalchemy.Column("cents", sqlalchemy.BigInteger), extend_existing=True,
        )  # fmt: skip

    @property
    def _seen(self) -> sqlalchemy.Table:
        return sqlalchemy.Table(
            self.table("seen").strip('"'), self._metadata,
            sqlalchemy.Column("position", sqlalchemy.BigInteger, primary_key=True), extend_existing=True,
        )  # fmt: skip


KINDS = pytest.mark.parametrize("kind", [Totals, AlchemyTotals], ids=["driver", "sqlalchemy"])


@pytest.fixture
def synchronizer(engine: Engine, store: EventStore) -> ReadModelSynchronizer:
    return ReadModelSynchronizer(store, engine.read_database, batch_size=3, options=QUICK)


async def totals(engine: Engine) -> dict[str, int]:
    return dict(await engine.read_database.query("SELECT account, cents FROM totals ORDER BY account"))


async def seen(engine: Engine) -> list[int]:
    return [position for (position,) in await engine.read_database.query("SELECT position FROM seen ORDER BY position")]


@KINDS
async def test_it_writes_each_event_once_and_moves_its_checkpoint_with_it(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, url: str, kind: type
) -> None:
    synchronizer.add(kind(url))
    await write(store, opened("a"), opened("b"), *(deposited(account, 2) for account in "ababab"))
    async with running(synchronizer):
        await synchronizer.wait(8, PATIENCE)
        assert await totals(engine) == {"a": 6, "b": 6}
        assert await seen(engine) == [*range(1, 9)]
    async with running(synchronizer):
        await synchronizer.wait(await write(store, deposited("a", 1)), PATIENCE)
        assert await totals(engine) == {"a": 7, "b": 6}


@KINDS
async def test_a_statement_that_fails_parks_its_event_and_the_later_ones_of_its_key(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, url: str, kind: type
) -> None:
    synchronizer.add(kind(url))
    amounts = [("a", 1), ("a", 13), ("b", 1), ("a", 1), ("b", 1)]
    await write(store, opened("a"), opened("b"), *(deposited(*each) for each in amounts))
    async with running(synchronizer):
        await synchronizer.wait(7, PATIENCE)
        assert await totals(engine) == {"a": 1, "b": 2}
        assert await seen(engine) == [1, 2, 3, 5, 7]
        parked = await synchronizer.control("totals").parked()
        assert [(each.position, each.key) for each in parked] == [(4, '["a"]'), (6, '["a"]')]
        assert "no_such_column" in parked[0].cause
        await synchronizer.control("totals").skip(4, reason="no such thing")

        async def let_in() -> bool:
            return await totals(engine) == {"a": 2, "b": 2}

        await until(let_in)


@KINDS
async def test_a_rebuild_fills_other_tables_which_then_take_over(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, url: str, kind: type
) -> None:
    synchronizer.add(kind(url))
    await write(store, opened("a"), deposited("a", 2))
    async with running(synchronizer):
        await synchronizer.wait(2, PATIENCE)
        async with engine.read_database.transaction() as transaction:
            await transaction.run("UPDATE totals__1 SET cents = 666")
        assert await totals(engine) == {"a": 666}
        await synchronizer.rebuild_projection("totals")
        assert await totals(engine) == {"a": 2}
        await synchronizer.control("totals").roll_back()
        assert await totals(engine) == {"a": 666}
        await synchronizer.control("totals").reset()
        await synchronizer.wait(2, PATIENCE)
        assert await totals(engine) == {"a": 2}


async def test_a_lost_connection_parks_nothing(
    engine: Engine, store: EventStore, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if url.startswith("sqlite"):
        pytest.skip("a file has no connection that could be lost")
    caplog.set_level("CRITICAL")
    lost = 0

    class Losing(Totals):
        async def apply(self, event: Any, connection: Any, recorded: Any) -> None:
            nonlocal lost
            lost += 1
            if lost < 8:
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            await super().apply(event, connection, recorded)

    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    synchronizer.add(Losing(url))
    await write(store, opened("a"), deposited("a", 2))
    async with running(synchronizer):
        await synchronizer.wait(2, PATIENCE)
        assert await totals(engine) == {"a": 2}
        assert await synchronizer.control("totals").parked() == []


async def test_only_its_own_tables_have_names(url: str) -> None:
    with pytest.raises(ValueError, match="'other' is none of the tables of totals: totals, seen"):
        Totals(url).table("other")


class Mails(Reaction):
    """Sends a mail, so to speak."""

    name = "mails"

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.fails = 0
        self.away: dict[str, BaseException] = {}

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    def key(self, event: Opened) -> str:
        return event.account

    async def apply(self, event: Opened, recorded: RecordedEvent[Any]) -> None:
        if event.account == "bad" and self.fails < 100:
            self.fails += 1
            raise LookupError("no such address")
        if event.account in self.away:
            raise self.away[event.account]
        self.sent.append((event.account, recorded.position))


async def test_a_reaction_happens_for_what_comes_after_it_was_added_and_goes_on_after_a_restart(
    engine: Engine, store: EventStore
) -> None:
    await write(store, opened("before"))
    mails = Mails()
    for account in ("a", "b"):
        synchronizer = ReadModelSynchronizer(store, engine.read_database, [mails], options=QUICK)
        await synchronizer.prepare()
        async with running(synchronizer):
            await synchronizer.wait(await write(store, opened(account), deposited(account)), PATIENCE)
    assert mails.sent == [("a", 2), ("b", 4)]


async def test_a_reaction_that_fails_is_tried_again_then_parked_and_can_be_retried(
    engine: Engine, store: EventStore
) -> None:
    mails = Mails()
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [mails], options=QUICK)
    async with running(synchronizer):
        await synchronizer.prepare()
        await synchronizer.wait(await write(store, opened("a"), opened("bad"), opened("b")), PATIENCE)
        assert [each for each, _ in mails.sent] == ["a", "b"]
        assert [each.cause for each in await synchronizer.control("mails").parked()] == ["LookupError: no such address"]
        assert mails.fails == QUICK.retries + 1
        mails.fails = 100
        await synchronizer.control("mails").retry("bad")

        async def sent() -> bool:
            return len(mails.sent) == 3 and not await synchronizer.control("mails").parked()

        await until(sent)


class AwayError(Exception):
    """The error of a client that does not use Python's own for it."""


class CarefulMails(Mails):
    outages = (*Reaction.outages, AwayError)


OUTAGES = [
    ConnectionRefusedError("the mail server is away"),
    TimeoutError("no answer"),
    socket.gaierror(socket.EAI_AGAIN, "no such name for now"),
    OSError(errno.EHOSTUNREACH, "no route"),
    AwayError("says the client"),
    ExceptionGroup("several", [ConnectionResetError(), TimeoutError()]),
]


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda error: type(error).__name__)
async def test_while_what_a_reaction_talks_to_is_away_it_says_so_and_nothing_is_parked(
    engine: Engine, store: EventStore, outage: BaseException
) -> None:
    mails = CarefulMails()
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [mails], options=QUICK)
    mails.away["a"] = outage

    async def is_faulted() -> bool:
        return (await synchronizer.status())[0].state == "faulted"

    await synchronizer.prepare()
    async with running(synchronizer):
        head = await write(store, opened("before"), opened("a"), opened("b"))
        await until(is_faulted)
        [status] = await synchronizer.status()
        assert status.error is not None
        assert status.error.startswith(f"projection mails failed on event 2 (Opened): {type(outage).__name__}")
        assert await synchronizer.control("mails").parked() == []
        mails.away.clear()
        await synchronizer.wait(head, PATIENCE)
        assert [account for account, _ in mails.sent] == ["before", "a", "b"]
        assert not (await synchronizer.status())[0].problems


@pytest.mark.parametrize("error", [FileNotFoundError("template"), ExceptionGroup("some", [TimeoutError(), KeyError()])])
async def test_an_error_of_the_system_that_is_no_outage_is_the_events_own(
    engine: Engine, store: EventStore, error: Exception
) -> None:
    mails = Mails()
    mails.away["a"] = error
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [mails], options=QUICK)
    await synchronizer.prepare()
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), opened("b")), PATIENCE)
        assert [each.position for each in await synchronizer.control("mails").parked()] == [1]


async def test_an_outage_does_not_cost_a_parked_event_its_place(engine: Engine, store: EventStore) -> None:
    mails = Mails()
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [mails], options=QUICK)
    await synchronizer.prepare()
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("bad"), opened("b")), PATIENCE)
        mails.fails, mails.away["bad"] = 100, TimeoutError()
        await synchronizer.control("mails").retry("bad")

        async def is_faulted() -> bool:
            return (await synchronizer.status())[0].state == "faulted"

        await until(is_faulted)
        [parked] = await synchronizer.control("mails").parked()
        assert parked.cause == "LookupError: no such address"
        mails.away.clear()

        async def sent() -> bool:
            return len(mails.sent) == 2 and not await synchronizer.control("mails").parked()

        await until(sent)


async def test_what_a_reaction_did_is_not_done_again_by_a_rebuild(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Mails()], options=QUICK)
    await synchronizer.prepare()
    with pytest.raises(InvalidProjectionError, match="mails is a reaction; what it did elsewhere is not done again"):
        await synchronizer.rebuild_projection("mails")
    assert len(await engine.read_database.query(SQL["generations"])) == 1


async def test_a_reaction_may_follow_a_projection(engine: Engine, store: EventStore, url: str) -> None:
    shown: list[int] = []

    class Announcements(Mails):
        name = "announcements"
        follows = ("totals",)

        async def apply(self, event: Opened, recorded: RecordedEvent[Any]) -> None:
            shown.append((await totals(engine))[event.account])

    synchronizer = ReadModelSynchronizer(store, engine.read_database, batch_size=1, options=QUICK)
    synchronizer.add(Totals(url))
    synchronizer.add(Announcements(), start="beginning")
    async with running(synchronizer):
        await synchronizer.wait(await write(store, *(opened(f"a{n}") for n in range(20))), PATIENCE)
    assert shown == [0] * 20


class Booked(SqlProjection):
    """Its tables refer to each other, and are named in the order in which they cannot be dropped one by one."""

    name = "booked"
    tables = ("holders", "bookings")

    def handles(self) -> tuple[type, ...]:
        return (Opened, Deposited)

    async def create(self, connection: Any) -> None:
        await done(connection.execute(f"CREATE TABLE {self.table('holders')} (account TEXT PRIMARY KEY)"))
        await done(
            connection.execute(
                f"CREATE TABLE {self.table('bookings')} (position BIGINT PRIMARY KEY, account TEXT NOT NULL"
                f" REFERENCES {self.table('holders')} (account))"
            )
        )

    async def apply(self, event: Opened | Deposited, connection: Any, recorded: RecordedEvent[Any]) -> None:
        if isinstance(event, Opened):
            await done(connection.execute(f"INSERT INTO {self.table('holders')} VALUES ('{event.account}')"))
        else:
            row = f"({recorded.position}, '{event.account}')"
            await done(connection.execute(f"INSERT INTO {self.table('bookings')} VALUES {row}"))


async def done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def test_tables_that_refer_to_each_other_are_emptied_rebuilt_and_dropped_as_one_set(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    synchronizer.add(Booked())
    await write(store, opened("a"), deposited("a"), deposited("a"))
    async with running(synchronizer):
        await synchronizer.wait(3, PATIENCE)
        await synchronizer.control("booked").reset()
        await write(store, deposited("a"))
        await synchronizer.wait(4, PATIENCE)
        await synchronizer.rebuild_projection("booked")
        assert await synchronizer.control("booked").drop_previous()
        assert await engine.read_database.query("SELECT position FROM bookings ORDER BY position") == [(2,), (3,), (4,)]
