"""The life of a generation: what is in the table of changes is possible, and nothing else is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.accounts import Balances

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.errors import InvalidChangeError
from twofold.messages.mark import Mark
from twofold.ports.checkpoints import (
    LEASE_TABLE,
    ROLES,
    STANDING_STILL,
    Generation,
    GenerationState,
    checkpoints_of,
    generations_of,
)
from twofold.ports.held_back import HeldBack
from twofold.synchronizer.generations import CHANGES, DROPPABLE, change, divide, forget_records


@pytest.fixture
async def generation(engine: Engine, store: EventStore) -> Generation:
    await ReadModelSynchronizer(store, engine.read_database, [Balances()]).prepare()
    return await stored(engine)


async def stored(engine: Engine) -> Generation:
    async with engine.read_database.transaction() as transaction:
        [found] = await generations_of(transaction, "balances")
    return found


async def put(engine: Engine, state: GenerationState) -> Generation:
    async with engine.read_database.transaction() as transaction:
        await transaction.run("UPDATE twofold_projections SET state = :state", state=state.value)
    return await stored(engine)


async def test_each_change_leads_from_the_states_before_to_the_state_after_and_no_other_is_possible(
    engine: Engine, generation: Generation
) -> None:
    assert generation.state == GenerationState.SERVING
    for name, table in CHANGES.items():
        for before in GenerationState:
            found = await put(engine, before)
            if before in table:
                async with engine.read_database.transaction() as transaction:
                    assert await change(transaction, found, name) == table[before]
                assert (await stored(engine)).state == table[before]
            else:
                with pytest.raises(InvalidChangeError, match=f"is {before}, .* '{name}' is not possible"):
                    async with engine.read_database.transaction() as transaction:
                        await change(transaction, found, name)
                assert (await stored(engine)).state == before


async def test_a_change_that_another_process_made_first_is_noticed(engine: Engine, generation: Generation) -> None:
    await put(engine, GenerationState.PAUSED)
    with pytest.raises(InvalidChangeError):
        async with engine.read_database.transaction() as transaction:
            await change(transaction, generation, "step back")


async def test_what_serves_is_never_dropped(engine: Engine, generation: Generation) -> None:
    for state in (GenerationState.SERVING, GenerationState.PAUSED):
        found = await put(engine, state)
        with pytest.raises(InvalidChangeError, match="'drop' is not possible"):
            async with engine.read_database.transaction() as transaction:
                await forget_records(transaction, found)


async def test_segments_that_are_divided_go_on_holding_tenants_back_and_unequal_ones_stay_apart(
    engine: Engine, generation: Generation
) -> None:
    held_back = HeldBack(Mark(3), {"acme": Mark(1)}).text

    async def divided(segments: int, held: Mapping[int, str]) -> list[tuple[int, str]]:
        async with engine.read_database.transaction() as transaction:
            await transaction.lock(LEASE_TABLE)
            for first, text in held.items():
                put = "UPDATE twofold_checkpoints SET held_back = :text WHERE first_slot = :first"
                await transaction.run(put, text=text, first=first)
            await divide(transaction, generation, segments)
            return [(row.first, row.held_back) for row in await checkpoints_of(transaction, generation)]

    assert await divided(2, {}) == [(0, ""), (128, "")]
    assert await divided(4, {0: held_back}) == [(0, held_back), (128, "")], "their events are not equally complete"
    halves = {0: held_back, 128: held_back}
    assert await divided(4, halves) == [(first, held_back) for first in (0, 64, 128, 192)]


def test_each_state_has_a_role_a_way_in_and_a_way_out() -> None:
    reached = {after for table in CHANGES.values() for after in table.values()}
    assert reached | {GenerationState.BUILDING} == set(GenerationState) == set(ROLES)
    left = {before for table in CHANGES.values() for before, after in table.items() if before != after}
    assert left | DROPPABLE == set(GenerationState)
    assert set(GenerationState) >= STANDING_STILL
