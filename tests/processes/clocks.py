"""The clock of a database, moved: what takes months takes a test no time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.synchronizing import engine_at

from twofold.engines.sqlite import database

MoveClock = Callable[[timedelta], Awaitable[None]]


class ShiftedTime:
    """The module `time`, whose calendar is some time off; what measures durations is right."""

    def __init__(self, shift: timedelta) -> None:
        self._shift = int(shift.total_seconds() * 1e9)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def time_ns(self) -> int:
        """Return the time of this clock."""
        return time.time_ns() + self._shift


def clock_of(url: str, monkeypatch: pytest.MonkeyPatch) -> MoveClock:
    """Return a function that sets the database's clock to some time off the true one."""

    async def move(shift: timedelta) -> None:
        if url.startswith("sqlite"):
            monkeypatch.setattr(database, "time", ShiftedTime(shift))
        else:
            await _move_postgres(url, shift)

    return move


async def _move_postgres(url: str, shift: timedelta) -> None:
    moved = f"(extract(epoch FROM clock_timestamp()) * 1000000)::bigint + {int(shift.total_seconds() * 1e6)}"
    async with engine_at(url) as (engine, _), engine.read_database.transaction() as transaction:
        await transaction.run(
            f"CREATE OR REPLACE FUNCTION twofold_now() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT {moved}'"
        )
