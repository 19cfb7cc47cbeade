"""Folding a few rows of a read model again, from the beginning of the log to a position."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from twofold.log.chunks import Rows, pace_of_all, scan_chunks
from twofold.log.codec.unknown import Decoding, readable
from twofold.log.event_store import EventStore
from twofold.messages.mark import START
from twofold.ports.checkpoints import SQL
from twofold.ports.read_database import ReadDatabase
from twofold.ports.skips import Skips
from twofold.projections.folding import Folded, fold_in_slices
from twofold.projections.keys.keyed_event import FailedEvent, LookupEvent, without_skipped
from twofold.projections.projection import KeyValues
from twofold.projections.runner import RowRunner, decoder_for
from twofold.synchronizer.aside.events_of_rows import RowsQuery

Look = Callable[[Rows, Sequence[FailedEvent]], object]
"""Called with each chunk of events that was read, and those of them that failed for one of the rows; may raise."""


async def fresh_rows(
    store: EventStore,
    database: ReadDatabase,
    runner: RowRunner,
    queries: Sequence[RowsQuery],
    end: int,
    look: Look = lambda *_: None,
) -> Mapping[KeyValues, Any]:
    """Return what the events of some rows make of these, and of others with the same events, by the rows' own keys.

    Args:
        store: where the events are.
        database: where the read model's skips are.
        runner: the projection's code.
        queries: find the events.
        end: the position up to which they are folded.
        look: sees what is read.

    Raises:
        HistoryChangedError: the log was put back to an older state while it was read.
        StorageError: a database failed.
        Exception: an event cannot be read.
    """
    skips = Skips(runner.name, await database.query(SQL["skipped"], name=runner.name, after=0))
    decoding, options = Decoding(decoder_for(runner, store.events)), store.options
    fresh = dict[KeyValues, Any]()
    for query, keys in queries:
        pace = pace_of_all(options)
        async with aclosing(scan_chunks(store.log, query, START, end, pace)) as chunks:
            async for rows in chunks:
                decoded, _, failure = await readable(decoding, skips.without(rows))
                if failure is not None:
                    raise failure
                found = without_skipped(runner.keyed(decoded), skips)
                events = [each for each in found if isinstance(each, LookupEvent) or each.key in keys]
                folded, _ = await fold_in_slices(runner.projection, fresh, events, options=runner.folding)
                fresh |= folded.rows
                look(rows, folded.failures)
    return runner.rows_by_key(Folded(fresh))
