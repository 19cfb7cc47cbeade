"""Imports the events of another store into a log: `twofold import --from`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from twofold.arguments import check_choice, check_function, check_instance, check_text, check_whole
from twofold.errors import StorageError
from twofold.log.event_store import EventStore
from twofold.log.importers.eventsourcing import Eventsourcing
from twofold.log.importers.foreign_source import ForeignSource, ForeignStore, table_of
from twofold.log.importers.marten import Marten
from twofold.log.importers.message_db import MessageDb
from twofold.log.importers.tables import open_tables, quoted
from twofold.log.moving.moving import Stored, move, preview
from twofold.log.moving.plain_event import Transform, unchanged
from twofold.log.moving.renumbering import Renumbering
from twofold.log.moving.report import Moved, Report
from twofold.log.moving.transforming import Transforming
from twofold.log.transfer.formats import portable
from twofold.log.verify import Progress, no_progress
from twofold.options import LogOptions

StoreKind = Literal["eventsourcing", "message-db", "marten"]
"""Stores whose events can be imported."""
_STORES: Mapping[StoreKind, Callable[[], ForeignStore]] = {
    "eventsourcing": Eventsourcing,
    "message-db": MessageDb,
    "marten": Marten,
}


async def import_events(
    kind: StoreKind,
    url: str,
    target: EventStore | None,
    *,
    transform: Transform = unchanged,
    table: str = "",
    examples: int = 3,
    progress: Progress = no_progress,
) -> Moved:
    """Import the events of another store into an empty log, in their order, with their times.

    Ids stay where the store has ids of events; else they follow from stream and version. Streams keep the order of
    their events, and get versions from 1. What was stored is read again and compared. The other store is read in one
    transaction, and nothing in it is changed.

    Interrupted, also by a crash, it goes on when it is run again: what the target holds is compared. Run later, it adds
    what the store has got since. Nothing else may write to the target. Memory stays flat.

    Args:
        kind: which store it is.
        url: its database, `sqlite:///dogs.db` or `postgresql://…`.
        target: an open store whose log is empty, or holds what an earlier run has stored. None stores nothing: what is
            returned is what would be done.
        transform: makes the events of the application of those that the default mapping gives; see `Transform`. The
            columns of the row are in `source.columns`.
        table: the table, with its schema in front if need be; by default that of the store, which is found.
        examples: of each type, how many changes of the transform are returned.
        progress: told how far it has come.

    Raises:
        TypeError, ValueError: an argument cannot work.
        ForeignEventError: a row cannot be understood; it names the row.
        TransformFailedError: the transform raised, or returned what cannot be stored; it names the event.
        LogsDifferError: the target holds other events, or another program writes to it.
        StorageError: a database failed, or lacks the table; run it again to go on.
        ModuleNotFoundError: PostgreSQL needs its extra, `twofold[postgres]`.
    """
    check_choice("kind", kind, StoreKind)
    check_text("url", url)
    if target is not None:
        check_instance("target", target, EventStore)
    check_function("transform", transform)
    check_text("table", table, may_be_empty=True)
    check_whole("examples", examples)
    check_function("progress", progress)
    store, report = _STORES[kind](), Report(examples)
    given = quoted(table) if table else ""
    options = target.options if target else LogOptions()
    async with open_tables(url) as tables:
        name = given or await table_of(tables, store)
        source = ForeignSource(tables, store, name, options)
        end = await source.end()
        with Renumbering() as renumbering:
            transforming = Transforming(transform, renumbering, report)
            if target is None:
                await preview(source, end, transforming, progress)
                stored = Stored(renumbering.position, 0, "")
            else:
                stored = await move(source, end, portable(target), transforming, progress, options)
        if (count := await source.count(end)) != report.read:
            raise StorageError(f"{name} has {count} events up to row {end}, and {report.read} were read")
    return Moved(report.read, stored.last, stored.already, 0, 0, stored.digest, report.types, report.examples)
