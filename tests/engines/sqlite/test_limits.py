"""What SQLite itself would take, or give back, although it is wrong: named errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from twofold import EventStore
from twofold.engines.sqlite import SqliteEventLog
from twofold.errors import CorruptEventError, LimitExceededError, NewerStorageError
from twofold.ports.event_log import Append
from twofold.testing.samples import append_of, new_event, span


async def test_storage_newer_than_the_code_is_refused_and_left_as_it_is(file: Path, log: SqliteEventLog) -> None:
    await log.append(append_of(new_event("Note-1")))
    await log.close()
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO twofold_migrations VALUES (99, 'from_the_future')")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(NewerStorageError, match="upgrade twofold"):
        await log.open()
    assert file.read_bytes() == before
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM twofold_migrations WHERE number = 99")
    connection.close()
    await log.open()
    assert span(await log.append(append_of(new_event("Note-1")))) == (2, 2)


@pytest.mark.parametrize(
    "bad",
    [
        new_event("Note-1")._replace(schema_version=2**63),
        new_event("Note-1")._replace(payload=b"\xff\xfe"),
        new_event("Note-1")._replace(metadata=b"\xff"),
        new_event("Note-1", "x")._replace(stream_id="\ud800"),
        new_event("Note-1")._replace(tag_names=("\ud800",)),
    ],
)
async def test_a_row_that_sqlite_cannot_keep_is_refused_with_its_whole_append(log: SqliteEventLog, bad: object) -> None:
    with pytest.raises(LimitExceededError, match="nothing was stored"):
        await log.append(Append((new_event("Note-1"), bad)))  # type: ignore[arg-type]
    assert await log.head() == 0
    assert span(await log.append(append_of(new_event("Note-1")))) == (1, 1)


async def test_a_row_whose_value_has_another_type_is_corrupt(file: Path, log: SqliteEventLog) -> None:
    await log.append(append_of(new_event("Note-1")))
    await log.close()
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TRIGGER twofold_events_refuse_update")
        connection.execute("UPDATE twofold_events SET payload = '[]'")
    connection.close()
    async with EventStore(log) as store:
        with pytest.raises(CorruptEventError, match="event 1 does not match its checksum"):
            _ = [each async for each in store.read()]
