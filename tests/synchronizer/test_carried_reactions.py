"""Reactions go along to a copy of a log with all that says which events they have handled."""

from __future__ import annotations

from tests.accounts import Mails

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.engines.memory import MemoryDatabase, MemoryReadDatabase
from twofold.messages.mark import Mark
from twofold.ports.checkpoints import SQL, Checkpoint
from twofold.ports.held_back import HeldBack
from twofold.synchronizer.carried_reactions import as_json, carry_reactions, from_json, read_reactions, up_to


async def test_a_reaction_is_carried_with_the_tenants_that_it_holds_back(engine: Engine, store: EventStore) -> None:
    await ReadModelSynchronizer(store, engine.read_database, [Mails()]).prepare()
    held = HeldBack(Mark(9), {"acme": Mark(3), "globex": Mark(6)})
    async with engine.read_database.transaction() as transaction:
        update = "UPDATE twofold_checkpoints SET position = 3, held_back = :held_back"
        await transaction.run(update, held_back=held.text)
    reactions = from_json(as_json(await read_reactions(engine.read_database)))
    for end, expected in ((Mark(9), held), (Mark(5), HeldBack(Mark(5), {"acme": Mark(3)})), (Mark(2), None)):
        copy = MemoryReadDatabase(MemoryDatabase())
        await copy.open()
        await carry_reactions(up_to(reactions, end), copy)
        [found] = [Checkpoint(*row) for row in await copy.query(SQL["checkpoints"])]
        assert (found.position, found.held) == (min(end.position, 3), expected)
        await copy.close()
