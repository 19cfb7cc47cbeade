"""Lag: how late a segment of a read model is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from twofold.log.event_store import EventStore
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.ports.checkpoints import Checkpoint
from twofold.ports.segments import SLOTS, slot_of
from twofold.projections.keys.keyed_event import LookupEvent
from twofold.projections.runner import ProjectionRunner, decoder_for
from twofold.tenants import own_query


async def lag_of(store: EventStore, runner: ProjectionRunner, row: Checkpoint, tenant: str = "") -> timedelta:
    """Return the age of the oldest event that a segment still has to handle, by the clock of its database.

    Args:
        store: where the events are.
        runner: the projection's code.
        row: the segment, as it stands.
        tenant: whose events count; by default those of all.

    Raises:
        StorageError: the database failed.
    """
    query = EventQuery.exactly(*runner.projection.handles())
    if (held := row.held) is None:
        return await _age(store, runner, row, query, row.position)
    if tenant:
        return await _age(store, runner, row, own_query(tenant, query), held.of(tenant).position)
    ages = [
        await _age(store, runner, row, own_query(each, query), mark.position) for each, mark in held.tenants.items()
    ]
    return max(*ages, await _age(store, runner, row, query, held.ahead.position))


async def _age(
    store: EventStore, runner: ProjectionRunner, row: Checkpoint, query: EventQuery, after: int
) -> timedelta:
    """Return the age of the first matching event behind a position that is about a row of a segment."""
    is_whole = row.end - row.first == SLOTS
    limit = 1 if is_whole else store.options.lag_events
    rows, decode = await store.log.read(query, after=after, limit=limit), decoder_for(runner, store.events)
    for stored in rows:
        try:
            is_own = is_whole or _is_of(row, runner, await decode.events_of([stored]))
        except Exception:  # it cannot be read, and holds the segment up
            is_own = True
        if is_own:
            return max(timedelta(microseconds=row.now - stored.recorded_at), timedelta(microseconds=1))
    if len(rows) == limit and not is_whole:
        return max(timedelta(microseconds=row.now - rows[-1].recorded_at), timedelta(microseconds=1))
    return timedelta()


def _is_of(row: Checkpoint, runner: ProjectionRunner, events: Sequence[RecordedEvent[Any]]) -> bool:
    """Return whether events are about any row of a segment, or may be."""
    found = runner.keyed(events)
    return any(isinstance(each, LookupEvent) or row.first <= slot_of(each.text) < row.end for each in found)
