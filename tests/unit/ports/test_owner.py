"""What one event loop has opened is used there and nowhere else: the three ways to get that wrong have names."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import pytest

from twofold.errors import OwnershipError
from twofold.ports.owner import Owner


async def opened() -> Owner:
    return Owner("the database orders.db")


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(OwnershipError) as refused:
        action()
    return str(refused.value)


def in_a_child(action: Callable[[], str]) -> str:
    """Return what an action returns in a process that is forked off here."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(write, action().encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


async def test_its_own_loop_may_use_it() -> None:
    (await opened()).check()


def test_another_event_loop_is_refused() -> None:
    owner = asyncio.run(opened())

    async def use() -> None:
        assert "the database orders.db was opened in another event loop" in refusal(owner.check)

    asyncio.run(use())


async def test_a_thread_with_a_loop_of_its_own_or_without_any_is_refused_by_its_name() -> None:
    owner = await opened()

    async def use() -> str:
        return refusal(owner.check)

    said: list[str] = []
    for run in (lambda: said.append(asyncio.run(use())), lambda: said.append(refusal(owner.check))):
        thread = threading.Thread(target=run, name="foreign")
        thread.start()
        thread.join()
    assert len(said) == 2
    assert all("this is thread 'foreign'" in text for text in said)


def test_a_child_is_refused_also_if_it_goes_on_with_the_same_loop() -> None:
    loop = asyncio.new_event_loop()
    owner = loop.run_until_complete(opened())

    async def use() -> str:
        return refusal(owner.check)

    here = f"was opened in process {os.getpid()}, and this is process"
    assert here in in_a_child(lambda: loop.run_until_complete(use()))
    assert here in in_a_child(lambda: asyncio.run(use()))
    loop.close()
