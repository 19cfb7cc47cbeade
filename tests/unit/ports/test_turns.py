"""Callers who wait for a database that does not answer wait once; and no other lock makes one wait for another's."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import twofold
from twofold.errors import OutcomeUnknownError, StorageUnavailableError
from twofold.ports.turns import Turns

SOURCE = Path(twofold.__file__).parent
LOCKS = {
    "engines/archive_folder.py ArchiveFolder.__init__": "within, DuckDB is opened in memory: no server is waited for",
    "engines/duckdb/database.py DuckDbDatabase.open": "the file is this process's own: no server is waited for",
    "engines/memory/database.py MemoryDatabase.open": "it is in memory",
    "engines/sqlite/log/event_log.py SqliteEventLog.__init__": "its waiters have one deadline: `joined` counts it down",
    "processes/ledger.py Ledger.__init__": "two background tasks take turns, the feed and the sweep; no caller waits",
    "ports/turns.py Turns.__init__": "it is what the others take",
}
"""Where a lock is made that one caller may hold while another waits, and why no wait follows upon another."""


async def refused(turns: Turns, error: Exception, asked: list[str]) -> None:
    async with turns:
        asked.append("asked")
        await asyncio.sleep(0)
        raise error


@pytest.mark.parametrize("error", [StorageUnavailableError("it is away"), OutcomeUnknownError("it is away")])
async def test_those_who_wait_for_their_turn_fail_with_the_one_whose_turn_it_is(error: Exception) -> None:
    turns, asked = Turns(), list[str]()
    waiting = [asyncio.create_task(refused(turns, error, asked)) for _ in range(5)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert asked == ["asked"]
    assert type(outcomes[0]) is type(error)
    assert {type(each) for each in outcomes[1:]} == {StorageUnavailableError}
    assert all("it is away" in str(each) for each in outcomes)


async def test_who_comes_later_asks_for_itself() -> None:
    turns, asked = Turns(), list[str]()
    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            await refused(turns, StorageUnavailableError("it is away"), asked)
    assert asked == ["asked", "asked"]


async def test_another_error_and_a_cancellation_concern_no_other_caller() -> None:
    turns, asked = Turns(), list[str]()
    cancelled = asyncio.create_task(refused(turns, ValueError("mine"), asked))
    waiting = [asyncio.create_task(refused(turns, ValueError("mine"), asked)) for _ in range(2)]
    await asyncio.sleep(0)
    cancelled.cancel()
    outcomes = await asyncio.gather(cancelled, *waiting, return_exceptions=True)
    assert [type(each) for each in outcomes] == [asyncio.CancelledError, ValueError, ValueError]
    assert len(asked) == 3


def test_every_lock_shares_its_waits_or_has_a_reason_not_to() -> None:
    found = set(locks())
    assert found - LOCKS.keys() == set(), "take `twofold.ports.turns.Turns`, or write down why no server is waited for"
    assert LOCKS.keys() - found == set(), "these make no lock any more"


def locks() -> Iterator[str]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE)
        if name.parts[0] != "testing":
            yield from (f"{name.as_posix()} {where}" for where in places(ast.parse(path.read_text("utf-8")), ()))


def places(node: ast.AST, within: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        within = (*within, node.name)
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("asyncio.Lock", "asyncio.Semaphore", "Lock"):
        yield ".".join(within)
    for child in ast.iter_child_nodes(node):
        yield from places(child, within)
