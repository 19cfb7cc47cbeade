"""A client that appends in several streams, each append until it is stored, and tells of every failure."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from twofold.errors import OutcomeUnknownError, StorageError
from twofold.ports.event_log import Append, EventLog, Rejected
from twofold.testing.race import Ledger, conditions, outcome_facts
from twofold.testing.samples import append_of, new_event

STREAMS, EVENTS = 4, 2
PATIENCE = 60.0
"""Seconds in which what was disturbed must work again: a server recovers, on a busy machine."""

Told = Callable[[Exception], None]


async def append_all(log: EventLog, folder: Path, more: Callable[[int], bool], told: Told, filling: str = "") -> None:
    """Append in every stream one after the other, and note in a ledger in the folder what was said.

    Args:
        log: where; it is opened and closed.
        folder: where the ledger lies.
        more: whether a stream that has had so many appends gets a further one.
        told: is called with each error.
        filling: makes the events as large as wanted.
    """
    await _opened(log)
    ledger = Ledger(folder / "writer-0")

    async def one_stream(name: str) -> None:
        for number in itertools.takewhile(more, itertools.count()):
            version = number * EVENTS
            texts = [f"{name}-{version + n}{filling}" for n in range(EVENTS)]
            append = append_of(*(new_event(name, "x", text=text) for text in texts), expected={name: version})
            await _until_stored(log, ledger, append, told)

    try:
        await asyncio.gather(*(one_stream(f"Note-{n}") for n in range(STREAMS)))
    finally:
        await log.close()


async def _opened(log: EventLog) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await log.open()
        except StorageError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"the log never opens: {error!r}") from error
            await asyncio.sleep(0.01)


async def _until_stored(log: EventLog, ledger: Ledger, append: Append, told: Told) -> None:
    ids = [str(UUID(bytes=event.event_id)) for event in append.events]
    ledger.write(told="about to", ids=ids)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            outcome = await log.append(append)
        except (StorageError, OutcomeUnknownError) as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"an append is never stored: {error!r}") from error
            told(error)
            await asyncio.sleep(0.01)
            continue
        if isinstance(outcome, Rejected):  # never, unless an earlier one was acknowledged and is not there
            ledger.write(told="refused", ids=ids)
        else:
            ledger.write(told="stored", ids=ids, **outcome_facts(outcome), **conditions(append))
        return
