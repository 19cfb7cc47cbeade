"""Overlays: rows that are more recent than what is stored, by folding what is missing over them when they are read."""

from __future__ import annotations

from typing import Any

from twofold.errors import StaleReadError
from twofold.log.event_store import EventStore
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.read_database import ReadDatabase
from twofold.ports.segments import slot_of
from twofold.projections.folding import KeyedEvent, fold_in_slices, key_text
from twofold.projections.projection import KeyValues
from twofold.projections.runner import RowRunner
from twofold.queries.serving import Place

MAX_EVENTS = 10_000
"""An overlay looks at so many events, at most, for those of its row."""
TRIES = 10
"""How often a row is read together with its checkpoint, while that moves, before nobody may move it meanwhile."""


class Overlay:
    """Answers what a projection will show of a row once it has caught up with the log as it is now, exactly."""

    def __init__(self, store: EventStore, database: ReadDatabase, runner: RowRunner, place: Place) -> None:
        self._store = store
        self._database = database
        self._runner = runner
        self._place = place

    async def get(self, key: KeyValues) -> Any:
        """Return the row with this key as it is by now, or None.

        Raises:
            StaleReadError: too many events are missing.
            ReadModelBuildingError: the read model is being built.
            StorageError: a database failed.
        """
        generation = await self._place.find()
        text = key_text(key)
        row, position, parked = await self._stored(generation, key, text)
        if parked:
            return row  # nothing comes in until it is retried
        events = [KeyedEvent(each, key) for each in await self._missing(key, position)]
        folded, _ = await fold_in_slices(self._runner.projection, {} if row is None else {key: row}, events)
        return folded.rows.get(key, row)

    async def _stored(self, generation: Generation, key: KeyValues, text: str) -> tuple[Any, int, bool]:
        """Return a stored row, the position up to which it is complete, and whether events of it are parked."""
        rows = self._runner.projection.row_type()
        table, wanted = self._runner.table(generation.suffix), [rows.dump_key(key)]
        of = {"name": generation.name, "generation": generation.number, "key": text, "slot": slot_of(text)}
        position = 0
        for _ in range(TRIES):
            before = await self._database.query(SQL["state_of_row"], **of)
            found = await self._database.load(table, wanted)
            if before and before == await self._database.query(SQL["state_of_row"], **of):
                [(position, parked)] = before
                return (rows.load(found[0]) if found else None), position, bool(parked)
        raise StaleReadError(position + 1, {self._runner.name: position})

    async def _missing(self, key: KeyValues, position: int) -> list[RecordedEvent[Any]]:
        """Return the events of a row behind a position."""
        query = EventQuery.of(*self._runner.projection.handles())
        rows = await self._store.log.read(query, after=position, limit=MAX_EVENTS)
        if len(rows) == MAX_EVENTS:
            raise StaleReadError(rows[-1].position, {self._runner.name: position})
        over = await self._database.query(SQL["passed_over"], name=self._runner.name, after=position)
        passed_over = {position for (position,) in over}
        events = self._store.events.decode([row for row in rows if row.position not in passed_over])
        return [event for event, its in zip(events, self._runner.keys(events), strict=True) if its == key]
