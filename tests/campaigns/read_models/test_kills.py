"""Processes that append and project are killed at random points; nothing is lost, and nothing is applied twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from tests.accounts import Balance, Balances, Open
from tests.campaigns.killing import kill_many
from tests.campaigns.planted import assert_finds
from tests.campaigns.read_models.victim import ACCOUNTS, bus, work_until_killed
from tests.child_processes import CONTEXT
from tests.synchronizing import engine_at

from twofold import EventStore, ReadModel, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.projections.folding import fold
from twofold.projections.keys.keyed_event import keyed
from twofold.projections.runner import ProjectionKind

LONGEST_LIFE = 0.06
"""Seconds after which a process is killed, at the latest."""


def _kill_many(
    url: str, chance: random.Random, kills: int, kind: ProjectionKind = "asynchronous", *, planted: bool = False
) -> list[bytes]:
    def program(there: Connection) -> BaseProcess:
        arguments = (url, chance.random(), there, kind, planted)
        return CONTEXT.Process(target=work_until_killed, args=arguments, daemon=True)

    return kill_many(program, chance, kills // 2, longest_life=LONGEST_LIFE)


async def campaign(url: str, seed: int, kills: int, *, planted: bool = False) -> None:
    """Kill processes, then compare the log with the acknowledgements and the read model with a fold of the log.

    Raises:
        AssertionError: they differ.
    """
    async with engine_at(url) as (engine, store):
        for number in range(ACCOUNTS):
            await bus(store).dispatch(Open(account=f"a{number}"))
        await ReadModelSynchronizer(store, engine.read_database, [Balances()]).prepare()
    acknowledged = await asyncio.to_thread(_kill_many, url, random.Random(seed), kills, planted=planted)
    async with engine_at(url) as (engine, store):
        store.events.register(*Balances().handles())
        events = [recorded async for recorded in store.read()]
        stored = Counter(recorded.metadata.command_id.bytes for recorded in events if recorded.metadata.command_id)
        assert set(acknowledged) <= set(stored), f"seed {seed}: an acknowledged command was lost"
        assert set(stored.values()) == {1}, f"seed {seed}: a command took effect twice"
        assert [recorded.position for recorded in events] == [*range(1, len(events) + 1)]
        runner = ReadModelSynchronizer(store, engine.read_database)
        balances = runner.add(Balances())
        task = asyncio.create_task(runner.run())
        await runner.wait(len(events), 60)
        task.cancel()
        expected = fold(Balances(), {}, keyed(Balances(), events)).rows
        assert {(row.account,): row for row in await rows(balances)} == expected, f"seed {seed}"
        assert len(acknowledged) > kills, "the processes hardly lived"


async def inline_campaign(url: str, seed: int, kills: int, *, planted: bool = False) -> None:
    """Kill processes that append; whenever none lives, the inline read model equals a fold of the log.

    Raises:
        AssertionError: it does not.
    """
    async with engine_at(url) as (engine, store):
        for number in range(ACCOUNTS):
            await bus(store).dispatch(Open(account=f"a{number}"))
    chance, acknowledged = random.Random(seed), set[bytes]()
    for _ in range(kills // 2):
        acknowledged.update(await asyncio.to_thread(_kill_many, url, chance, 2, "inline", planted=planted))
        async with engine_at(url) as (engine, store):
            await compare_as_it_stands(engine, store, acknowledged, seed)
    assert len(acknowledged) > kills, "the processes hardly lived"


async def compare_as_it_stands(engine: Engine, store: EventStore, acknowledged: set[bytes], seed: int) -> None:
    """Compare a read model, on which nobody works, with a fold of the log and with the acknowledgements.

    Raises:
        AssertionError: they differ.
    """
    projection = Balances()
    store.events.register(*projection.handles())
    balances = ReadModelSynchronizer(store, engine.read_database).add(projection)
    head = -1
    while head != await store.head():  # the server may still be committing what a process sent before it died
        events = [recorded async for recorded in store.read()]
        found = await rows(balances)
        head = len(events)
    stored = {each.metadata.command_id.bytes for each in events if each.metadata.command_id}
    assert acknowledged <= stored, f"seed {seed}: an acknowledged command was lost"
    expected = fold(projection, {}, keyed(projection, events)).rows
    assert {(row.account,): row for row in found} == expected, f"seed {seed}"


async def rows(balances: ReadModel[Balance]) -> list[Balance]:
    return list((await balances.page(page_size=1000)).items)


async def test_read_model_and_log_survive_kills(url: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await campaign(url, seed, kills=40)


@pytest.mark.soak
async def test_read_model_and_log_survive_very_many_kills(url: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await campaign(url, seed, kills=10_000)


async def test_a_checkpoint_in_a_second_transaction_is_found_out(tmp_path: Path) -> None:
    await assert_finds(
        lambda seed: campaign(f"sqlite:///{tmp_path}/{seed}.db", seed, kills=20, planted=True), r"^seed \d+"
    )


async def test_an_inline_read_model_equals_a_fold_of_the_log_whenever_its_processes_are_killed(url: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await inline_campaign(url, seed, kills=20)


@pytest.mark.soak
async def test_an_inline_read_model_survives_very_many_kills(url: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await inline_campaign(url, seed, kills=3_000)


async def test_rows_in_a_second_transaction_after_the_append_are_found_out(tmp_path: Path) -> None:
    await assert_finds(
        lambda seed: inline_campaign(f"sqlite:///{tmp_path}/{seed}.db", seed, kills=10, planted=True), r"^seed \d+"
    )
