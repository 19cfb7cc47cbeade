"""Somebody damages what is stored: it is named where everybody sees it, nothing is skipped, a rebuild mends rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import pytest
import pytest_asyncio
from tests.accounts import Deposited
from tests.synchronizing import PATIENCE, QUICK, deposited, quick, running, until, write

from twofold import AwareDatetime, EventStore, Key, Projection, ReadModelSynchronizer, on
from twofold.engines.engine import Engine
from twofold.errors import DamagedRowError


@dataclass(frozen=True)
class Seen:
    account: Annotated[str, Key()]
    amounts: tuple[int, ...] = ()


class Sightings(Projection[Seen]):
    name = "sightings"

    @on(Deposited)
    def deposited(self, row: Seen | None, event: Deposited) -> Seen:
        row = row or Seen(event.account)
        return replace(row, amounts=(*row.amounts, int(event.amount)))


@pytest_asyncio.fixture
async def synchronizer(engine: Engine, store: EventStore) -> AsyncIterator[ReadModelSynchronizer]:
    """Return a synchronizer that has brought two rows to position 2, and does not run."""
    first = ReadModelSynchronizer(store, engine.read_database, [Sightings()], options=QUICK)
    async with running(first):
        await first.wait(await write(store, deposited("a"), deposited("b")), PATIENCE)
    yield ReadModelSynchronizer(store, engine.read_database, options=quick(lease=1.0))


async def test_the_events_of_a_damaged_row_wait_and_a_rebuild_mends_it(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore
) -> None:
    sightings = synchronizer.add(Sightings())
    async with engine.read_database.transaction() as transaction:
        await transaction.run("UPDATE sightings__1 SET amounts = '{}' WHERE account = 'a'")
    named = r"amounts of the Seen \('a',\) is not what was stored; build the read model again"
    with pytest.raises(DamagedRowError, match=named):
        await sightings.get("a")
    async with running(synchronizer):
        await synchronizer.wait(await write(store, deposited("a"), deposited("b"), deposited("a")), PATIENCE)
        assert await sightings.get("b") == Seen("b", (1, 1))
        first, second = await synchronizer.control("sightings").parked()
        assert first.cause.startswith("DamagedRowError: amounts of the Seen ('a',)")
        assert (first.position, second.position, second.cause) == (3, 5, "")
        assert (await synchronizer.status())[0].problems == ["2 events are parked"]
        await synchronizer.rebuild_projection("sightings")
        assert await sightings.get("a") == Seen("a", (1, 1, 1))
        assert (await synchronizer.status())[0].problems == []


NOBODY = UUID(int=1)


@dataclass(frozen=True)
class Plain:
    account: Annotated[str, Key()]
    total: Decimal = Decimal(0)
    since: AwareDatetime | None = None
    first: UUID = NOBODY


class Plains(Projection[Plain]):
    name = "plains"

    @on(Deposited)
    def deposited(self, row: Plain | None, event: Deposited) -> Plain:
        return row or Plain(event.account, Decimal("1.5"), datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("column", ["total", "since", "first"])
async def test_a_damaged_column_of_any_kind_is_named(engine: Engine, store: EventStore, url: str, column: str) -> None:
    if not url.startswith("sqlite"):
        pytest.skip("PostgreSQL keeps such values in types of their own")
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    plains = synchronizer.add(Plains())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, deposited("a"), deposited("b")), PATIENCE)
    async with engine.read_database.transaction() as transaction:
        await transaction.run(f"UPDATE plains__1 SET {column} = 'what?' WHERE account = 'b'")
    assert (await plains.get("a")) == Plain("a", Decimal("1.5"), datetime(2026, 1, 1, tzinfo=UTC))
    for question in (plains.get("b"), plains.page()):
        with pytest.raises(DamagedRowError, match=rf"{column} of the row of plains__1 \('b',\) is not what was stored"):
            await question


async def test_a_damaged_event_holds_it_up_by_name_until_somebody_decides(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    sightings = synchronizer.add(Sightings())
    head = await write(store, deposited("a", 2), deposited("a", 3), deposited("b", 4))
    async with engine.read_database.transaction() as transaction:  # the log lies in the same database
        if url.startswith("sqlite"):
            for (name,) in await transaction.run("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
                await transaction.run(f"DROP TRIGGER {name}")
        else:
            await transaction.run("ALTER TABLE twofold_events DISABLE TRIGGER ALL")
        await transaction.run("UPDATE twofold_events SET payload = '[1]' WHERE position = 4")

    async def is_faulted() -> bool:
        return (await synchronizer.status())[0].state == "faulted"

    async with running(synchronizer):
        await until(is_faulted)
        [status] = await synchronizer.status()
        assert status.problems == ["stands still: event 4 does not match its checksum: the stored bytes were changed"]
        assert status.position == 3
        assert await sightings.get("a") == Seen("a", (1, 2))
        await synchronizer.control("sightings").skip(4, reason="it cannot be had again")
        await synchronizer.wait(head, PATIENCE)
        assert await sightings.get("a") == Seen("a", (1, 2))
        assert await sightings.get("b") == Seen("b", (1, 4))
