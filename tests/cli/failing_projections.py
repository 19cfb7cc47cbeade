"""A projection that fails, and how its read model is brought up to date between the commands of an operator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.accounts import Balance, Balances, Deposited
from tests.synchronizing import PATIENCE, QUICK, engine_at, quick, running, write

from twofold import ReadModelSynchronizer, on


class Fussy(Balances):
    """Fails on deposits of 13."""

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if event.amount == 13:
            raise ArithmeticError("unlucky")
        return super().deposited(row, event)


Work = Callable[[ReadModelSynchronizer], Awaitable[object]]


def project(url: str, projection: Any, *events: object, then: Work | None = None) -> None:
    """Append events and bring a read model up to date, in workers that have left afterwards."""

    async def work() -> None:
        async with engine_at(url) as (engine, store):
            head = await write(store, *events) if events else await store.head()
            synchronizer = ReadModelSynchronizer(store, engine.read_database, options=quick(lease=1.0))
            synchronizer.add(projection)
            async with running(synchronizer):
                await synchronizer.wait(head, PATIENCE)
                if then:
                    await then(synchronizer)

    asyncio.run(work())


def balance(url: str, account: str) -> Balance | None:
    async def get() -> Balance | None:
        async with engine_at(url) as (engine, store):
            return await ReadModelSynchronizer(store, engine.read_database, options=QUICK).add(Balances()).get(account)

    return asyncio.run(get())
