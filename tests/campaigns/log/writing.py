"""Processes that write while something happens to them, or to what they write to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.child_processes import CONTEXT

from twofold.testing.race import Race, run_writer


@contextmanager
def writing(plan: Race) -> Iterator[list[BaseProcess]]:
    """Start the writers of a race, wait until something is stored, and kill those that are left at the end."""
    before, end = written(plan), time.time() + plan.seconds
    processes: list[BaseProcess] = [
        CONTEXT.Process(target=run_writer, args=(plan, number, end)) for number in range(plan.writers)
    ]
    for process in processes:
        process.start()
    try:
        until(lambda: any(map(_has_stored_since, _ledgers(plan), before)), processes)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def until_all_go_on(plan: Race, processes: list[BaseProcess]) -> None:
    """Wait until every writer has been told that something more is stored."""
    paths, before = _ledgers(plan), written(plan)
    until(lambda: all(map(_has_stored_since, paths, before)), processes)


def until(condition: Callable[[], bool], processes: list[BaseProcess]) -> None:
    """Wait for what processes do.

    Raises:
        AssertionError: one of them has ended, or it takes a minute.
    """
    deadline = time.monotonic() + 60
    while not condition():
        assert all(process.is_alive() for process in processes), "a writer has failed; its error stands above"
        assert time.monotonic() < deadline, "the writers do not go on"
        time.sleep(0.002)


def written(plan: Race) -> list[int]:
    """Return the sizes of the ledgers of all writers."""
    return [path.stat().st_size if path.exists() else 0 for path in _ledgers(plan)]


def _ledgers(plan: Race) -> list[Path]:
    return [plan.folder / f"writer-{number}" for number in range(plan.writers)]


def _has_stored_since(ledger: Path, size: int) -> bool:
    if not ledger.exists():
        return False
    with ledger.open("rb") as file:
        file.seek(size)
        return b'"told": "stored"' in file.read()
