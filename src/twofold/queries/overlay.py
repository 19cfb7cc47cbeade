"""Overlays: rows that are more recent than what is stored, by folding what is missing over them when they are read."""

from __future__ import annotations

from typing import Any

from twofold.errors import StaleReadError
from twofold.log.codec.unknown import decoder
from twofold.log.event_store import EventStore
from twofold.messages.event_query import EventQuery
from twofold.options import QueryOptions
from twofold.ports.checkpoints import SQL
from twofold.ports.read_database import Lookup, ReadDatabase, Source
from twofold.ports.skips import Skips
from twofold.projections.folding import fold_in_slices
from twofold.projections.keys.keyed_event import KeyedEvent, LookupEvent, key_text, without_skipped
from twofold.projections.projection import KeyValues
from twofold.projections.runner import RowRunner
from twofold.queries.serving import ServingGeneration


class Overlay:
    """Answers what a projection will show of a row once it has caught up with the log, exactly.

    1. Read the row, the position of its segment and whether events of it are parked, from one snapshot.
    2. If some are parked, return the row: no event comes in until they are retried.
    3. Read the projection's events behind that position, without those that were skipped.
    4. Fold those of the row over it.

    Args:
        store: where the events are.
        database: where the rows are.
        runner: what folds them.
        serving: tells which generation answers.
        options: how many events it looks through.
    """

    def __init__(
        self,
        store: EventStore,
        database: ReadDatabase,
        runner: RowRunner,
        serving: ServingGeneration,
        options: QueryOptions = QueryOptions(),  # noqa: B008 - it is immutable
    ) -> None:
        self._store = store
        self._database = database
        self._runner = runner
        self._rows = runner.projection.stored_rows()
        self._serving = serving
        self._options = options

    async def get(self, key: KeyValues) -> Any:
        """Return the row with this key as the log has it now, or None.

        Raises:
            StaleReadError: too many events are missing.
            ReadModelBuildingError: the read model is being built.
            StorageError: a database failed.
        """
        generation = (await self._serving.find()).generation
        tenant = str(key[0]) if self._runner.projection._of_tenants else ""
        source = Source(generation.name, generation.number, key_text(key), tenant)
        lookup = Lookup((self._rows.dump_key(key),))
        found = await self._database.read(self._runner.table(generation.suffix), lookup, source)
        row = self._rows.load(found.answer[0]) if found.answer else None
        if found.has_parked:
            return row
        events = await self._missing(key, found.position)
        before = {} if row is None else {key: row}
        folded, _ = await fold_in_slices(self._runner.projection, before, events, options=self._runner.folding)
        return folded.rows.get(key, row)

    async def _missing(self, key: KeyValues, position: int) -> list[KeyedEvent]:
        """Return the events of a row behind a position, and those that may find it."""
        limit = self._options.overlay_events
        query = EventQuery.exactly(*self._runner.projection.handles())
        rows = await self._store.log.read(query, after=position, limit=limit)
        if len(rows) == limit:
            raise StaleReadError(rows[-1].position, {self._runner.name: position})
        skipped = await self._database.query(SQL["skipped"], name=self._runner.name, after=position)
        skips = Skips(self._runner.name, skipped)
        decoded = await decoder(self._store.events, query=query).events_of(skips.without(rows))
        events = without_skipped(self._runner.keyed(decoded), skips)
        return [each for each in events if isinstance(each, LookupEvent) or each.key == key]
