"""Segments are dealt out evenly among the workers that are there, and change hands without a gap or an overlap."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from decimal import Decimal
from itertools import pairwise

import pytest
from tests.accounts import Balance, Balances
from tests.synchronizing import PATIENCE, deposited, opened, running, until, write

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.errors import SegmentsApartError
from twofold.messages.mark import Mark
from twofold.options import SynchronizerOptions
from twofold.ports.checkpoints import SQL, Checkpoint, Generation, GenerationState
from twofold.ports.held_back import HeldBack
from twofold.ports.segments import SLOTS, Segment, bounds, slot_of
from twofold.projections.keyed_runner import KeyedRunner
from twofold.projections.kinds import ASYNCHRONOUS
from twofold.synchronizer.leases import Leases, LeaseTable, is_gone, merge, new_worker, segment_of, shares

HELD_BACK = HeldBack(Mark(3), {"acme": Mark(1)})
CODE = frozenset({("a", 1), ("b", 1)})


def table_of(
    *rows: Checkpoint,
    workers: str = "xyz",
    segments: int = 4,
    state: GenerationState = GenerationState.SERVING,
) -> LeaseTable:
    generations = [
        Generation(name, 1, 1, "__1", state, segments, "{}", "", 0) for name in sorted({row[0] for row in rows})
    ]
    return LeaseTable(generations, rows, dict.fromkeys(workers, CODE))


def row(first: int, end: int, owner: str = "", *, name: str = "a", leased: bool = True) -> Checkpoint:
    return Checkpoint(name, 1, first, end, 0, "", 1, owner, 10 if leased and owner else 0, 0, "", 0, 5)


def quarters(owners: str = "    ", name: str = "a") -> list[Checkpoint]:
    edges = bounds(4)
    return [row(edges[n], edges[n + 1], owner.strip(), name=name) for n, owner in enumerate(owners)]


def dealt(table: LeaseTable) -> dict[str, int]:
    return {worker: len(segments) for worker, segments in shares(table).items()}


def test_segments_are_dealt_out_evenly() -> None:
    assert dealt(table_of(*quarters(), workers="x")) == {"x": 4}
    assert dealt(table_of(*quarters(), workers="xy")) == {"x": 2, "y": 2}
    assert dealt(table_of(*quarters(), *quarters(name="b"), workers="xyz")) == {"x": 3, "y": 3, "z": 2}
    assert dealt(table_of(row(0, 256), workers="xy")) == {"x": 1, "y": 0}
    assert dealt(table_of(*quarters(), workers="")) == {}


def test_segments_stay_where_they_are_as_far_as_that_is_even() -> None:
    kept = shares(table_of(*quarters("yxxy"), workers="xy"))
    assert [sorted(each.first for each in kept[worker]) for worker in "xy"] == [[64, 128], [0, 192]]
    moved = shares(table_of(*quarters("xxxx"), workers="xy"))
    assert len(moved["y"]) == 2


def test_all_workers_come_to_the_same_result_and_none_gets_what_it_has_no_code_for() -> None:
    one = LeaseTable(
        [Generation("a", 1, 2, "", GenerationState.SERVING, 1, "{}", "", 0)],
        [row(0, 256)],
        {"x": CODE, "y": frozenset({("a", 2)})},
    )
    assert dealt(one) == {"x": 0, "y": 1}


def test_a_paused_read_model_is_nobodys() -> None:
    assert dealt(table_of(*quarters(), workers="x", state=GenerationState.PAUSED)) == {"x": 0}


def test_a_worker_whose_lease_ran_out_although_it_is_there_loses_the_segment_to_another() -> None:
    stuck = row(0, 256, "x", leased=False)
    assert dealt(table_of(stuck, workers="xy")) == {"x": 0, "y": 1}
    assert dealt(table_of(stuck, workers="x")) == {"x": 1}


def test_neighbours_that_shall_be_one_go_to_one_worker() -> None:
    assert sorted(dealt(table_of(*quarters("xyxy"), workers="xy", segments=1)).values()) == [0, 4]
    assert dealt(table_of(*quarters("xyxy"), workers="xy", segments=2)) == {"x": 2, "y": 2}


def test_what_a_takeover_has_seized_is_left_alone() -> None:
    assert dealt(table_of(row(0, 256, f"takeover:{new_worker()}"), workers="x")) == {"x": 0}


def test_a_process_of_this_machine_that_is_no_more_is_noticed() -> None:
    machine, pid, _ = new_worker().rsplit(":", 2)
    assert int(pid) == os.getpid()
    assert not is_gone(new_worker())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_gone(f"{machine}:{ended.pid}:abc")
    assert is_gone(f"takeover:{machine}:{ended.pid}:abc")
    assert not is_gone(f"elsewhere:{ended.pid}:abc")
    assert not is_gone("anything")


@pytest.mark.parametrize("segments", [1, 2, 3, 7, 255, 256])
def test_segments_cover_all_slots(segments: int) -> None:
    edges = bounds(segments)
    assert (edges[0], edges[-1], len(set(edges))) == (0, SLOTS, segments + 1)
    assert slot_of('["a"]') == 12  # stored: it must never change


async def test_a_turn_keeps_only_what_is_worked_on(engine: Engine) -> None:
    await ReadModelSynchronizer(EventStore(engine.log), engine.read_database, [Balances()]).prepare()
    stuck, other = (Leases(engine.read_database, new_worker(), [("balances", 1)], 0.2) for _ in range(2))
    [held] = (await stuck.take_round([])).held
    assert held.segment == Segment("balances", 1)
    assert (await other.take_round([])).held == []

    async def taken_over() -> bool:
        assert len((await stuck.take_round([])).held) <= 1  # it is there, and its work does not go on
        return bool((await other.take_round([])).held)

    await until(taken_over)
    found = [Checkpoint(*row) for row in await engine.read_database.query(SQL["checkpoints"])]
    [row] = [each for each in found if each.name == "balances"]
    assert row.position == 0
    assert row.epoch > held.epoch


async def segments(synchronizer: ReadModelSynchronizer) -> list[tuple[int, int]]:
    return [(each.first, each.end) for each in (await synchronizer.status())[0].segments]


async def test_a_read_model_is_divided_and_joined_again_while_it_runs(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(
        store, engine.read_database, batch_size=7, options=SynchronizerOptions(lease=1.5)
    )
    balances = synchronizer.add(Balances())
    accounts = [f"account {number}" for number in range(20)]
    await write(store, *map(opened, accounts))
    await synchronizer.prepare()
    total, done = 0, asyncio.Event()

    async def keep_writing() -> None:
        nonlocal total
        while not done.is_set():
            position = await write(store, *map(deposited, accounts))
            total += 1
            await synchronizer.wait(max(position - 200, 0), PATIENCE)

    async with running(synchronizer):
        writing = asyncio.create_task(keep_writing())
        for wanted in (4, 3, 8, 1):
            await synchronizer.control("balances").scale(wanted)

            async def has(wanted: int = wanted) -> bool:
                edges = bounds(wanted)
                return await segments(synchronizer) == list(pairwise(edges))

            await until(has)
        done.set()
        await writing
        await synchronizer.wait(await store.head(), PATIENCE)
        rows = (await balances.page(page_size=100)).items
        assert list(rows) == [Balance(account, "ann", Decimal(total), total) for account in sorted(accounts)]


async def hold_back(engine: Engine, first: int, held_back: str) -> None:
    """Let a segment hold tenants back, as a step would."""
    async with engine.read_database.transaction() as transaction:
        held = "UPDATE twofold_checkpoints SET held_back = :held_back WHERE first_slot = :first"
        await transaction.run(held, first=first, held_back=held_back)


async def test_segments_keep_the_tenants_that_they_hold_back_when_they_are_divided_and_are_not_joined(
    engine: Engine, store: EventStore
) -> None:
    synchronizer, held_back = ReadModelSynchronizer(store, engine.read_database, [Balances()]), HELD_BACK.text
    await synchronizer.prepare()
    await hold_back(engine, 0, held_back)
    leases = Leases(engine.read_database, new_worker(), [("balances", 1)], 60.0)
    [whole] = (await leases.take_round([])).held
    await synchronizer.control("balances").scale(2)
    left, right = (await leases.take_round([whole.segment])).held
    found = [Checkpoint(*row) for row in await engine.read_database.query(SQL["checkpoints"])]
    assert [each.held_back for each in found] == [held_back, held_back]
    for of_left, of_right in ((held_back, held_back), (held_back, ""), ("", held_back)):
        await hold_back(engine, left.segment.first, of_left)
        await hold_back(engine, right.segment.first, of_right)
        with pytest.raises(SegmentsApartError):
            async with engine.read_database.transaction() as transaction:
                await merge(transaction, left, right)
    await hold_back(engine, right.segment.first, "")
    async with engine.read_database.transaction() as transaction:
        await merge(transaction, left, right)
    assert await segments(synchronizer) == [(0, SLOTS)]


async def test_where_an_operator_sets_the_position_no_tenant_is_held_back(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()])
    await synchronizer.prepare()
    await hold_back(engine, 0, HELD_BACK.text)
    await synchronizer.control("balances").set_position(1)
    [found] = [Checkpoint(*row) for row in await engine.read_database.query(SQL["checkpoints"])]
    assert (found.position, found.held) == (1, None)


async def test_workers_share_the_segments_and_take_over_from_those_that_leave(
    engine: Engine, store: EventStore
) -> None:
    workers = [
        ReadModelSynchronizer(store, engine.read_database, options=SynchronizerOptions(lease=0.6)) for _ in range(3)
    ]
    balances, *_ = [worker.add(Balances()) for worker in workers]
    await workers[0].prepare()
    await workers[0].control("balances").scale(6)

    async def owners() -> list[int]:
        status = (await workers[0].status())[0]
        names = [each.worker for each in status.segments]
        return sorted(names.count(name) for name in set(names) if name)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(workers[0]))
        await stack.enter_async_context(running(workers[1]))
        async with running(workers[2]):
            await until(lambda: _equal(owners(), [2, 2, 2]))
            await workers[0].wait(await write(store, *(opened(f"a{n}") for n in range(30))), PATIENCE)
        await until(lambda: _equal(owners(), [3, 3]))
        await workers[0].wait(await write(store, *(deposited(f"a{n}") for n in range(30))), PATIENCE)
    assert [row.changes for row in (await balances.page(page_size=50)).items] == [1] * 30


async def _equal(found: object, wanted: list[int]) -> bool:
    return await found == wanted  # type: ignore[misc, no-any-return]


def test_a_checkpoint_tells_its_segment() -> None:
    assert segment_of(row(3, 9)) == Segment("a", 1, 3, 9)


async def test_code_of_another_version_does_not_work_on_it(engine: Engine, store: EventStore) -> None:
    await ReadModelSynchronizer(store, engine.read_database, [Balances()]).prepare()
    runner = KeyedRunner(engine.read_database, Balances(), 1, ASYNCHRONOUS)
    other = Leases(engine.read_database, new_worker(), [(runner.name, 2)], 1.0)
    assert (await other.take_round([])).held == []
