"""A reaction publishes to a real broker while both are killed again and again: nothing is lost or out of order."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.campaigns.broker.nats import (
    PATIENCE,
    Message,
    NatsServer,
    connected,
    create_stream,
    nats_server,
    read_stream,
)
from tests.campaigns.broker.victim import Published
from tests.campaigns.planted import assert_finds
from tests.debian import ProgramMissingError
from tests.synchronizing import deposited, engine_at, write

from twofold import ReadModelSynchronizer

ACCOUNTS = "abcd"


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[NatsServer]:
    try:
        with nats_server(tmp_path / "nats") as server:
            async with connected(server.port) as connection:
                await create_stream(connection)
            yield server
    except ProgramMissingError as error:
        pytest.skip(str(error))


async def publish_all(
    url: str, broker: NatsServer, seed: int, *, events: int, kills: int, planted: bool = False
) -> list[Message]:
    """Publish a log by processes that are killed one after the other, and the broker once; return what it has then."""
    chance = random.Random(seed)
    command = [sys.executable, "-m", "tests.campaigns.broker.victim", url, str(broker.port), *(["planted"] * planted)]
    async with engine_at(url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database, [Published(broker.port)])
        await synchronizer.prepare()
        last, part = 0, events // (kills + 1)
        for number in range(kills + 1):
            victim = subprocess.Popen(command)  # noqa: ASYNC220  # it only starts
            try:
                last = await write(store, *(deposited(chance.choice(ACCOUNTS)) for _ in range(part)))
                if number == kills:
                    await until_published(synchronizer, last)
                else:
                    await until_published(synchronizer, last - chance.randrange(part))
                    if number == kills // 2:
                        broker.kill()
                        broker.start()
                    await asyncio.sleep(chance.random() / 50)
            finally:
                victim.kill()
                victim.wait()
        async with connected(broker.port) as connection:
            return await read_stream(connection)


async def until_published(synchronizer: ReadModelSynchronizer, position: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (await synchronizer.status())[0].position < position:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def faults(found: list[Message], events: int) -> list[str]:
    """Return what is wrong with what the broker has."""
    positions = Counter(int(each.data) for each in found)
    wrong = [f"{position} is lost" for position in range(1, events + 1) if not positions[position]]
    wrong += [f"{position} is there {count} times" for position, count in positions.items() if count > 1]
    for account in ACCOUNTS:
        own = [int(each.data) for each in found if each.subject.endswith(f".{account}")]
        wrong += [f"{account} is out of order"] * (own != sorted(own))
    return wrong


async def test_the_broker_has_each_event_once_and_in_the_order_of_its_key(url: str, broker: NatsServer) -> None:
    found = await publish_all(url, broker, seed=1, events=120, kills=2)
    assert faults(found, 120) == []


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
async def test_the_broker_has_each_event_once_for_long(url: str, broker: NatsServer, seed: int) -> None:
    found = await publish_all(url, broker, seed, events=4000, kills=40)
    assert faults(found, 4000) == []


async def test_the_campaign_finds_a_checkpoint_that_moves_before_the_events_are_published(
    tmp_path: Path, broker: NatsServer
) -> None:
    async def attempt(seed: int) -> None:
        with nats_server(tmp_path / f"nats{seed}") as server:
            async with connected(server.port) as connection:
                await create_stream(connection)
            url = f"sqlite:///{tmp_path}/lost{seed}.db"
            found = await publish_all(url, server, seed, events=200, kills=3, planted=True)
        assert faults(found, 200) == []

    await assert_finds(attempt, "is lost")
