"""The disk under a read model is full: it says so, nothing is parked, and it goes on as soon as there is space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from tests.accounts import Deposited
from tests.mounts import mounted
from tests.synchronizing import PATIENCE, deposited, quick, running, until, write

from twofold import EventStore, Key, Projection, ReadModelSynchronizer, on
from twofold.engines.engine import connect
from twofold.engines.sqlite import SqliteDatabase, SqliteReadDatabase


@dataclass(frozen=True)
class Wide:
    account: Annotated[str, Key()]
    count: int
    text: str = "x" * 20_000


class Widths(Projection[Wide]):
    name = "widths"

    @on(Deposited)
    def deposited(self, row: Wide | None, event: Deposited) -> Wide:
        return Wide(event.account, row.count + 1 if row else 1)


async def test_a_full_disk_under_a_read_model_is_named_and_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    log = connect(f"sqlite:///{tmp_path}/log.db").log
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=20m", "tmpfs") as disk:
        database = SqliteReadDatabase(SqliteDatabase(disk / "reads.db"))
        await log.open()
        await database.open()
        store = EventStore(log)
        synchronizer = ReadModelSynchronizer(store, database, options=quick(0.1, lease=1.0))
        widths = synchronizer.add(Widths())
        spare = disk / "spare"
        spare.write_bytes(bytes(17 << 20))  # the rows need more than the rest, even in one step

        async def is_faulted() -> bool:
            return (await synchronizer.status())[0].state == "faulted"

        try:
            async with running(synchronizer):
                head = await write(store, *(deposited(f"a{number % 200}") for number in range(400)))
                await until(is_faulted)
                [problem] = (await synchronizer.status())[0].problems
                assert problem.endswith("the disk is full; nothing was stored, free some space and try again")
                spare.unlink()
                await synchronizer.wait(head, PATIENCE)
                assert await synchronizer.control("widths").parked() == []
                assert (await synchronizer.status())[0].problems == []
                counts = [row.count for row in (await widths.page(page_size=1000)).items]
                assert counts == [2] * 200
        finally:
            await database.close()
            await log.close()
