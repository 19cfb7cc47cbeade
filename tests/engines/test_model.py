"""Logs against the reference, step by step, on decisions that nobody would think of."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.engines.broken_logs import BROKEN, broken

from twofold.engines.memory import MemoryEventLog
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.options import SqliteOptions
from twofold.ports.event_log import EventLog
from twofold.testing import event_log_machine

if TYPE_CHECKING:
    from twofold.testing.model import EventLogMachine

SHORT = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


async def memory() -> EventLog:
    return MemoryEventLog()


class Sqlite:
    """Makes logs in files of their own, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def __call__(self) -> EventLog:
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "events.db"
        log = SqliteEventLog(SqliteDatabase(path, synchronous="NORMAL", options=SqliteOptions(readers=1)))
        await log.open()
        return log


def run(machine: type[EventLogMachine], limits: settings = SHORT) -> None:
    run_state_machine_as_test(machine, settings=limits)


def test_the_reference_agrees_with_itself() -> None:
    run(event_log_machine(memory))


def test_sqlite_agrees_with_the_reference(tmp_path: Path) -> None:
    run(event_log_machine(Sqlite(tmp_path)))


@pytest.mark.parametrize("bug", sorted(BROKEN))
def test_the_machine_sees_a_planted_bug(bug: str) -> None:
    async def make() -> EventLog:
        return broken(bug)

    quick = settings(SHORT, max_examples=300, phases=[Phase.generate], derandomize=True)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run(event_log_machine(make), quick)
