"""Many rows with few statements are the rows that they are one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from twofold.engines.sqlite.writing import MARKS, write_rows

INSERT = "INSERT INTO notes VALUES (?, CAST(? AS TEXT))"
UPSERT = f"{INSERT} ON CONFLICT (id) DO UPDATE SET text = excluded.text"


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT")
        yield connection


def stored(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    return connection.execute("SELECT * FROM notes ORDER BY id").fetchall()


@pytest.mark.parametrize("count", [0, 1, MARKS // 2 - 1, MARKS // 2, MARKS // 2 + 1, 3 * MARKS])
def test_all_rows_are_written(connection: sqlite3.Connection, count: int) -> None:
    rows = [(number, f"note {number}".encode()) for number in range(count)]
    write_rows(connection, INSERT, rows)
    assert stored(connection) == [(number, text.decode()) for number, text in rows]


def test_of_several_rows_of_one_key_the_last_remains(connection: sqlite3.Connection) -> None:
    write_rows(connection, UPSERT, [(number % 10, str(number)) for number in range(MARKS)])
    assert stored(connection) == [(number, str(MARKS - 10 + number)) for number in range(10)]


def test_a_row_that_cannot_be_stored_is_an_error(connection: sqlite3.Connection) -> None:
    rows = [(number, "note") for number in range(MARKS)]
    with pytest.raises(sqlite3.IntegrityError):
        write_rows(connection, INSERT, [*rows, (0, "again")])
    with pytest.raises(sqlite3.IntegrityError):
        write_rows(connection, UPSERT, [(0, None), *rows])


def test_rows_wider_than_a_statement_are_written_one_by_one(connection: sqlite3.Connection) -> None:
    width = MARKS + 1
    connection.execute("CREATE TABLE wide (" + ", ".join(f"c{number}" for number in range(width - 1)) + ")")
    marks = ", ".join("?" * (width - 1))
    write_rows(connection, f"INSERT INTO wide VALUES ({marks})", [tuple(range(width - 1))] * 3)
    assert connection.execute("SELECT count(*) FROM wide").fetchone() == (3,)
