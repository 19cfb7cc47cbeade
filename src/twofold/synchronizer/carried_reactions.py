"""Takes reactions along to a copy of a log: they go on there behind what they have done, and do nothing again.

1. `read_reactions` reads where the reactions of a database stand, before its log is copied: so none stands behind the
   end of the copy. In a file, they stand as JSON.
2. `up_to` sets those back that stand behind the end of a file with the beginning of a log.
3. `carry_reactions` writes that beside the copy, unless a reaction is further there already.

Read models are not taken along: they are built again from the copy. Nor are processes, whose timers are elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from twofold.messages.mark import Mark
from twofold.ports.checkpoints import LEASE_TABLE, SQL, Checkpoint, Generation, GenerationState, generations_of
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.projections.fingerprint import is_reaction


class CarriedReaction(NamedTuple):
    """Where a reaction stands: how far each of its segments has come, and which events it has parked or skipped."""

    generation: Generation
    segments: Sequence[Checkpoint]
    parked: Sequence[tuple[Any, ...]]
    skipped: Sequence[tuple[Any, ...]]

    @property
    def position(self) -> int:
        """The lowest position of its segments."""
        return min((each.position for each in self.segments), default=0)


async def read_reactions(database: ReadDatabase) -> list[CarriedReaction]:
    """Return where the reactions of a database stand.

    Raises:
        StorageError: the database failed.
    """
    found = []
    for row in await database.query(SQL["generations"]):
        generation = Generation(*row)
        if generation.role == "serving" and is_reaction(msgspec.json.decode(generation.fingerprint)):
            found.append(await _read(database, generation))
    return found


async def _read(database: ReadDatabase, generation: Generation) -> CarriedReaction:
    of = {"name": generation.name, "generation": generation.number}
    # In this order: what is parked later stands behind these positions, and is handled there.
    segments = [Checkpoint(*row) for row in await database.query(SQL["checkpoints_of"], **of)]
    parked = await database.query(SQL["parked"], **of, limit=2**31 - 1)
    skipped = await database.query(SQL["decisions"], name=generation.name)
    return CarriedReaction(generation, segments, parked, skipped)


def as_json(reactions: Sequence[CarriedReaction]) -> msgspec.Raw:
    """Return reactions as they stand in a file. stored: version with care."""
    return msgspec.Raw(msgspec.json.encode(reactions))


def from_json(stored: msgspec.Raw) -> list[CarriedReaction]:
    """Return what `as_json` has made; none of a file without.

    Raises:
        ValueError: it is something else.
    """
    return msgspec.json.decode(stored, type=list[CarriedReaction] | None) or []


def up_to(reactions: Sequence[CarriedReaction], end: Mark) -> list[CarriedReaction]:
    """Return reactions as they stood when they had come to a mark, as far as they are further now."""
    return [
        reaction._replace(
            segments=[_no_further(each, end) for each in reaction.segments],
            parked=[each for each in reaction.parked if each[0] <= end.position],
            skipped=[each for each in reaction.skipped if each[0] <= end.position],
        )
        for reaction in reactions
    ]


def paused(reactions: Sequence[CarriedReaction]) -> list[CarriedReaction]:
    """Return reactions that stand still until they are resumed."""
    return [each._replace(generation=each.generation._replace(state=GenerationState.PAUSED)) for each in reactions]


def _no_further(segment: Checkpoint, end: Mark) -> Checkpoint:
    if (held := segment.held) is not None:
        held = held.up_to(end)
        return segment._replace(position=held.mark.position, event_id=held.mark.text, held_back=held.text)
    return segment if segment.position <= end.position else segment._replace(position=end.position, event_id=end.text)


async def carry_reactions(reactions: Sequence[CarriedReaction], database: ReadDatabase) -> list[str]:
    """Let reactions go on beside a copy of their log as they stand; return the names of those for which that was done.

    One that is further there is left alone: it has worked on the copy already.

    Raises:
        StorageError: the database failed; each reaction is carried as a whole or not at all.
    """
    carried = []
    for reaction in reactions:
        async with database.transaction() as transaction:
            await transaction.lock(reaction.generation.name)
            await transaction.lock(LEASE_TABLE)
            if await _is_behind(transaction, reaction):
                await _write(transaction, reaction)
                carried.append(reaction.generation.name)
    return carried


async def _is_behind(transaction: ReadTransaction, reaction: CarriedReaction) -> bool:
    """Return whether a reaction is not there, or not further; what is there of it is then forgotten."""
    there = await generations_of(transaction, reaction.generation.name)
    for generation in there:
        of = {"name": generation.name, "generation": generation.number}
        [(position,)] = await transaction.run(SQL["position_of"], **of)
        if position is not None and position > reaction.position:
            return False
    for generation in there:
        of = {"name": generation.name, "generation": generation.number}
        for statement in ("forget_parked", "forget_segments", "forget_generation"):
            await transaction.run(SQL[statement], **of)
    return True


async def _write(transaction: ReadTransaction, reaction: CarriedReaction) -> None:
    generation = reaction.generation
    of = {"name": generation.name, "generation": generation.number}
    await transaction.run(
        SQL["make_generation"], **of, version=generation.version, suffix=generation.suffix, state=str(generation.state),
        segments=generation.segments, fingerprint=generation.fingerprint, kind=generation.kind,
    )  # fmt: skip
    for each in reaction.segments:
        place = {"first": each.first, "end": each.end, "position": each.position, "event_id": each.event_id}
        await transaction.run(SQL["put_segment"], **of, **place, held_back=each.held_back, epoch=1)
    for position, event_id, slot, key, cause, traceback, _, _ in reaction.parked:
        event = {
            "position": position,
            "event_id": event_id,
            "slot": slot,
            "key": key,
            "cause": cause,
            "traceback": traceback,
        }
        await transaction.run(SQL["park"], **of, **event)
    for position, event_id, key, cause, reason, _ in reaction.skipped:
        skipped = {"position": position, "event_id": event_id, "key": key, "cause": cause, "reason": reason}
        await transaction.run(SQL["skip"], name=generation.name, **skipped)
