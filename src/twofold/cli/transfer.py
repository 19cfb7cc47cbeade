"""Commands that take a log to a file and back: `twofold export | import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from cyclopts import Parameter

from twofold.cli.output import opened, progress, say
from twofold.log.event_store import EventStore
from twofold.log.transfer.exporting import export_log
from twofold.log.transfer.importing import import_log
from twofold.messages.event_query import EventQuery

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print what was done as one object of JSON.")]


async def export(
    url: str,
    file: Path,
    /,
    *,
    type_: Annotated[tuple[str, ...], Parameter(name="--type", negative="")] = (),
    tag: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    first: Annotated[int, Parameter(name="--from")] = 1,
    last: Annotated[int | None, Parameter(name="--to")] = None,
    as_json: Json = False,
) -> None:
    """Write a log to a file: JSON Lines if its name ends in .jsonl, Parquet if it ends in .parquet.

    Each event keeps its position, ids, time, tags, metadata and checksum. Without filters, the records of commands come
    along. Applications may go on writing: what is appended after the start is not exported.

    Interrupted, the export goes on where it was when it is run again with the same arguments. The file gets its name
    when it is whole.

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    file:
        The file to write, such as orders.jsonl. Parquet is a folder of files, such as orders.parquet.
    type_:
        Only events of this type, by its stored name; may be repeated.
    tag:
        Only events with this tag, such as customer:c1; if repeated, with all of these tags.
    first:
        The position of the first event.
    last:
        The position of the last event; by default the head of the log.
    """
    if first < 1:
        raise ValueError(f"`--from` is a position, and these begin with 1; got {first}")
    query = EventQuery.exactly(*type_, tags=tag)
    async with opened(url) as log:
        with progress() as report:
            found = await export_log(EventStore(log), file, query=query, after=first - 1, end=last, progress=report)
    there = f", {found.already:,} of them were there already" if found.already else ""
    text = f"{file} holds {found.events:,} events up to position {found.end:,}{there}; {found.commands:,} commands"
    _tell(found, text, as_json=as_json)


async def import_(file: Path, url: str, /, *, as_json: Json = False) -> None:
    """Store the events of a file that `twofold export` has written.

    The whole file is checked first. Ids, order, times, tags and metadata stay as they are; of a whole log, positions,
    versions and the receipts of commands do so, too. Where an export leaves events out, the others follow each other
    without gaps. Read models are built from the log when the application starts.

    Interrupted, it goes on where it was when it is run again. Nothing else may write to the database while it runs.

    Parameters
    ----------
    file:
        The file to read.
    url:
        The database to write: empty, with the beginning of the file from an earlier run, or one that the file goes on.
    """
    async with opened(url, migrate=True) as log:
        with progress() as report:
            found = await import_log(EventStore(log), file, progress=report)
    new = found.events - found.already
    text = f"imported {new:,} events, {found.already:,} were there already; {found.commands:,} commands"
    _tell(found, text, as_json=as_json)


def _tell(found: NamedTuple, text: str, *, as_json: bool) -> None:
    say(msgspec.json.encode(found._asdict()).decode() if as_json else text)
