"""An append that shares a transaction with rows: all three engines store both or neither."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.synchronizing import engine_at, opened

from twofold.engines.engine import Engine
from twofold.log.codec.event_types import EventTypes
from twofold.messages.event_query import EventQuery
from twofold.messages.ids import new_event_ids
from twofold.ports.event_log import Append, Appended, Rejected
from twofold.ports.inline import AppendEvents, Steps, WriteRows
from twofold.ports.read_database import Changes
from twofold.ports.table import Column, Kind, Table

TABLE = Table("things", (Column("id", Kind.TEXT, False), Column("at", Kind.INTEGER, True)), ("id",), ("at",), ())


@pytest_asyncio.fixture(params=["memory", "sqlite", "postgres"])
async def engine(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[Engine]:
    """Return an open engine with a table of rows, each in turn."""
    match request.param:
        case "memory":
            url = "memory://"
        case "sqlite":
            url = f"sqlite:///{tmp_path}/twofold.db"
        case _:
            url = request.getfixturevalue("new_database")(18)
    async with engine_at(url) as (engine, _):
        async with engine.read_database.transaction() as transaction:
            await transaction.create(TABLE)
        yield engine


async def test_rows_and_events_are_stored_together(engine: Engine) -> None:
    async with engine.read_database.transaction() as transaction:
        outcome = await transaction.carry_out(_write(("a", 1), ("b", None), streams=("a", "b", "a")))
    assert isinstance(outcome, Appended)
    assert [(each.stream_id, each.version) for each in await _events(engine)] == [("a", 1), ("b", 1), ("a", 2)]
    assert await _rows(engine) == [("a", 1), ("b", None)]
    assert await engine.log.wait(0, 10) == 3


async def test_rows_are_deleted_and_replaced(engine: Engine) -> None:
    async with engine.read_database.transaction() as transaction:
        await transaction.carry_out(_write(("a", 1), ("b", 1)))
    async with engine.read_database.transaction() as transaction:
        await transaction.carry_out(_write(("b", 2), gone=("a",), expected=1))
    assert await _rows(engine) == [("b", 2)]


async def test_a_rejected_append_says_why_and_the_rows_can_be_rolled_back(engine: Engine) -> None:
    class RolledBackError(Exception):
        pass

    async with engine.read_database.transaction() as transaction:
        await transaction.carry_out(_write(("a", 1)))
    with pytest.raises(RolledBackError):
        async with engine.read_database.transaction() as transaction:
            outcome = await transaction.carry_out(_write(("a", 2), expected=0))
            assert isinstance(outcome, Rejected)
            assert (outcome.stream_id, outcome.version) == ("a", 1)
            raise RolledBackError
    assert (await _rows(engine), len(await _events(engine))) == ([("a", 1)], 1)


async def test_an_append_that_is_rolled_back_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        async with engine.read_database.transaction() as transaction:
            await transaction.carry_out(_write(("a", 1)))
            raise ZeroDivisionError
    assert (await _rows(engine), await engine.log.head()) == ([], 0)
    async with engine.read_database.transaction() as transaction:  # nothing that was remembered is wrong
        assert isinstance(await transaction.carry_out(_write(("a", 1))), Appended)


async def test_the_log_goes_on_behind_it(engine: Engine) -> None:
    async with engine.read_database.transaction() as transaction:
        await transaction.carry_out(_write(("a", 1)))
    appended = await engine.log.append(_append(("a",), 1))
    assert isinstance(appended, Appended)
    assert (appended.first, appended.version) == (2, 2)


async def test_a_log_knows_whether_rows_are_with_it(engine: Engine, tmp_path: Any) -> None:
    log: Any = engine.log
    async with engine_at(f"sqlite:///{tmp_path}/other.db") as (other, _):
        assert log.is_with(engine.read_database)
        assert not log.is_with(other.read_database)


def _append(streams: tuple[str, ...], expected: int) -> Append:
    types = EventTypes()
    events = [types.encode_all([opened(stream)], new_event_ids(1), stream, "Thing", b"{}")[0] for stream in streams]
    return Append(tuple(events), tuple((stream, expected) for stream in dict.fromkeys(streams)))


def _write(
    *rows: tuple[str, int | None], gone: tuple[str, ...] = (), streams: tuple[str, ...] = (), expected: int = 0
) -> Steps[Appended | Rejected]:
    yield WriteRows(TABLE, Changes(rows, [(each,) for each in gone]))
    outcome: Appended | Rejected = yield AppendEvents(_append(streams or tuple(row[0] for row in rows), expected))
    return outcome


async def _events(engine: Engine) -> Any:
    return await engine.log.read(EventQuery.all(), limit=100)


async def _rows(engine: Engine) -> list[tuple[Any, ...]]:
    return await engine.read_database.query("SELECT id, at FROM things ORDER BY id")
