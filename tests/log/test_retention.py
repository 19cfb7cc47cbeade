"""The records of commands: removed when they are old, never silently wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from tests.accounts import Deposit, Deposited, Open, Opened, wire
from tests.synchronizing import engine_at, until

from twofold import (
    Application,
    CommandBus,
    DuplicateEventIdError,
    EventQuery,
    EventStore,
    InvalidTenantError,
    Options,
    metadata,
)
from twofold.engines.engine import connect
from twofold.engines.memory import MemoryEventLog
from twofold.errors import CorruptCommandError
from twofold.log.copy import copy_log
from twofold.log.retention import Retention, prune_commands
from twofold.log.unit_of_work import UnitOfWork
from twofold.log.verify import verify_log
from twofold.messages.ids import uuid7
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog

AT_ONCE = timedelta()


@pytest_asyncio.fixture
async def log(any_url: str) -> AsyncIterator[PortableLog]:
    found = cast(PortableLog, connect(any_url).log)
    await found.open()
    yield found
    await found.close()


def bus_of(log: PortableLog, *, tenants: bool = False) -> CommandBus:
    store = EventStore(log, tenants=tenants)
    bus = CommandBus(store)
    carried_out: list[str] = []

    async def open_account(command: Open) -> str:
        carried_out.append(command.account)
        await store.append([Opened(account=command.account, owner=command.owner)])
        return f"{command.account}, {len(carried_out)}"

    async def deposit(command: Deposit) -> None:
        await store.append([Deposited(account=command.account, amount=command.amount + len(carried_out))])
        carried_out.append(command.account)

    bus.register(Open, open_account)
    bus.register(Deposit, deposit)
    return bus


async def ids(log: PortableLog) -> set[UUID]:
    return {UUID(bytes=each.command_id) for each in await log.read_commands(limit=1000)}


async def test_old_records_are_removed_and_younger_ones_and_all_events_stay(log: PortableLog) -> None:
    bus = bus_of(log)
    old, young = [Open(account=f"a{n}") for n in range(5)], [Open(account=f"b{n}") for n in range(5)]
    for command in old:
        await bus.execute(command)
    await asyncio.sleep(0.02)
    last_of_old = (await log.read(EventQuery.all(), limit=10))[-1].recorded_at
    for command in young:
        await bus.execute(command)
    pruned = await log.prune_commands(before=last_of_old + 1, limit=100, write=True)
    assert pruned is not None
    assert pruned.found == 5
    assert await ids(log) == {command.command_id for command in young}
    assert await log.head() == 10
    assert await prune_commands(log) == 0, "by default they are kept for 90 days"
    assert await verify_log(log) == 10


async def test_what_would_be_removed_is_only_counted(log: PortableLog) -> None:
    bus = bus_of(log)
    for n in range(5):
        await bus.execute(Open(account=f"a{n}"))
    assert await prune_commands(log, older_than=AT_ONCE, write=False) == 5
    assert len(await ids(log)) == 5


async def test_an_interrupted_run_is_gone_on_with_by_another_one(log: PortableLog) -> None:
    bus, options, told = bus_of(log), LogOptions(pruned_at_once=3), list[int]()
    for n in range(10):
        await bus.execute(Open(account=f"a{n}"))

    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await prune_commands(log, older_than=AT_ONCE, options=options, progress=interrupt)
    assert len(await ids(log)) == 7
    assert await prune_commands(log, older_than=AT_ONCE, options=options, progress=told.append) == 7
    assert told == [3, 6, 7]
    assert await ids(log) == set()


async def test_a_tenants_records_are_removed_by_themselves(log: PortableLog) -> None:
    bus = bus_of(log, tenants=True)
    for tenant, count in (("acme", 2), ("zen", 3)):
        with metadata(tenant=tenant):
            for n in range(count):
                await bus.execute(Open(account=f"a{n}"))
    assert await prune_commands(log, older_than=AT_ONCE, tenant="zen") == 3
    assert await prune_commands(log, older_than=AT_ONCE, tenant="acme", write=False) == 2
    with pytest.raises(InvalidTenantError):
        await prune_commands(log, older_than=AT_ONCE, tenant="a/b")


async def test_a_repeat_whose_record_is_gone_takes_no_effect_again(log: PortableLog) -> None:
    bus, same, other = bus_of(log), Open(account="a"), Deposit(account="a")
    first = await bus.execute(same)
    await bus.execute(other)
    assert await prune_commands(log, older_than=AT_ONCE) == 2
    repeat = await bus.execute(same)
    assert (repeat.repeated, repeat.position, repeat.types) == (True, first.position, first.types)
    assert repeat.value == "a, 3", "what the handler returns this time"
    with pytest.raises(DuplicateEventIdError):
        await bus.execute(other)
    assert await log.head() == 2


async def race(log: PortableLog) -> tuple[int, int]:
    """Repeat each command while its record is removed; return how many there were, and how many events there are."""
    bus, options = bus_of(log), LogOptions(pruned_at_once=5)
    commands = [Open(account=f"a{n}") for n in range(60)]

    async def write() -> None:
        for command in commands:
            await bus.execute(command)
            await bus.execute(command)

    async def prune() -> None:
        while not writing.done():
            await prune_commands(log, older_than=AT_ONCE, options=options)
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    await asyncio.gather(writing, prune(), prune())
    return len(commands), await log.head()


async def test_writers_go_on_while_records_are_removed_and_nothing_takes_effect_twice(log: PortableLog) -> None:
    sent, stored = await race(log)
    assert stored == sent


async def test_the_race_finds_repeats_that_get_fresh_event_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UnitOfWork, "event_ids", lambda self, count: [uuid7().bytes for _ in range(count)])
    sent, stored = await race(MemoryEventLog())
    assert stored > sent


def names_of_tasks() -> set[str]:
    return {each.get_name() for each in asyncio.all_tasks()}


async def is_at_work() -> bool:
    return "twofold-worker-0" in names_of_tasks()


def keeping(url: str, **options: Any) -> Application:
    """Return an application that keeps records for no time, and looks for old ones all the time."""
    app = Application(url, options=Options(log=LogOptions(commands_kept=0, pruned_every=0.02, **options)))
    wire(app)
    return app


async def test_an_application_removes_old_records_by_itself_and_a_repeat_takes_no_effect_again(
    any_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "twofold.pruning")
    app, commands = keeping(any_url, pruned_at_once=2), [Open(account=f"a{n}") for n in range(7)]
    log = cast(PortableLog, app.store.log)
    async with app:
        receipts = [await app.commands.execute(each) for each in commands]

        async def are_gone() -> bool:
            return not await ids(log)

        await until(are_gone)
        assert await app.store.head() == 7
        repeat = await app.commands.execute(commands[0])
        assert (repeat.repeated, repeat.position) == (True, receipts[0].position)
        assert await app.store.head() == 7

        async def is_told() -> bool:
            return "records of commands were removed" in caplog.text

        await until(is_told)


async def test_records_that_are_not_old_stay_and_none_is_removed_where_that_is_off(any_url: str) -> None:
    app = keeping(any_url, prunes_commands="off")
    async with app:
        await app.commands.execute(command := Open(account="a"))
        await until(is_at_work)
        assert "twofold-retention" not in names_of_tasks()
        log = cast(PortableLog, app.store.log)
        assert await Retention(log, LogOptions()).make_pass() == 0, "after 90 days"
        assert await ids(log) == {command.command_id}
        assert await Retention(log, LogOptions(commands_kept=0)).make_pass() == 1


async def test_a_role_that_may_not_delete_is_told_and_its_commands_go_on(
    new_database: Callable[[int], str], caplog: pytest.LogCaptureFixture
) -> None:
    owner = new_database(18)
    async with engine_at(owner):
        pass
    run(
        owner,
        "DROP ROLE IF EXISTS recorder; CREATE ROLE recorder LOGIN;"
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO recorder;"
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO recorder; REVOKE DELETE ON twofold_commands FROM recorder;",
    )
    url = owner.replace("//postgres@", "//recorder@")
    assert url != owner
    app = keeping(url)
    log = cast(PortableLog, app.store.log)
    try:
        async with app:
            commands = [Open(account=f"a{n}") for n in range(3)]
            for each in commands:
                await app.commands.execute(each)

            async def is_told() -> bool:
                return "no old records of commands are removed" in caplog.text

            await until(is_told)
            assert "GRANT it what Twofold's tables need" in caplog.text
            assert 'LogOptions(prunes_commands="off")' in caplog.text
            assert await ids(log) == {each.command_id for each in commands}
            assert (await app.commands.execute(Open(account="b"))).position == 4
    finally:
        run(owner, "DROP OWNED BY recorder; DROP ROLE recorder")


def test_a_share_of_the_time_is_more_than_none_of_it() -> None:
    with pytest.raises(ValueError, match="pruning_share"):
        LogOptions(pruning_share=0)


async def test_records_are_removed_in_no_other_way(url: str) -> None:
    engine = connect(url)
    async with EventStore(engine.log):
        await bus_of(cast(PortableLog, engine.log)).execute(Open(account="a"))
        for sql in ("DELETE FROM twofold_commands", "UPDATE twofold_commands SET first_position = 9"):
            with pytest.raises((sqlite3.IntegrityError, psycopg.Error), match=r"append-only|prune"):
                run(url, sql)


DAMAGES = {
    "content_hash": ("X'00'", "'\\x00'::bytea"),
    "result": ("'\"b\"'", "'\"b\"'"),
    "name": ("'Close'", "'Close'"),
    "first_position": ("2", "2"),
    "last_position": ("77", "77"),
    "record_checksum": ("record_checksum + 1", "record_checksum + 1"),
}


@pytest.mark.parametrize("column", DAMAGES)
async def test_a_damaged_record_is_an_error_that_names_the_command(url: str, column: str) -> None:
    engine, command = connect(url), Open(account="a")
    log = cast(PortableLog, engine.log)
    async with EventStore(log):
        bus = bus_of(log)
        await bus.execute(command)
        await bus.execute(Open(account="b"))
        await verify_log(log)
        damage = DAMAGES[column][0 if url.startswith("sqlite") else 1]
        mine = f"X'{command.command_id.hex}'" if url.startswith("sqlite") else f"'{command.command_id}'"
        run(url, f"UPDATE twofold_commands SET {column} = {damage} WHERE command_id = {mine}", by_force=True)
        with pytest.raises(CorruptCommandError, match=str(command.command_id)) as found:
            await bus.execute(command)
        assert found.value.command_id == command.command_id
        for reading in (verify_log(log), copy_log(log, MemoryEventLog())):
            with pytest.raises(CorruptCommandError, match=str(command.command_id)):
                await reading
        assert await log.head() == 2
        assert (await bus.execute(Open(account="c"))).position == 3


def run(url: str, sql: str, *, by_force: bool = False) -> None:
    """Run a statement as an operator does who opens the database by hand; by force, past its triggers."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            if by_force:
                connection.execute("DROP TRIGGER twofold_commands_refuse_update")
            connection.execute(sql)
        connection.close()
        return
    with psycopg.connect(url) as connection_to_server:
        if by_force:
            connection_to_server.execute("SET session_replication_role = replica")
        connection_to_server.execute(cast(Any, sql))
