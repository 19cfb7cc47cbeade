"""Commands that take a log to a file and back: `twofold export | import`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import replace

from twofold.cli.moving import DRY_RUN, import_foreign
from twofold.cli.output import Json, answer, opened, opened_read_models, progress, say
from twofold.log.event_store import EventStore
from twofold.log.importers.importing import StoreKind
from twofold.log.transfer.exporting import export as write_file
from twofold.log.transfer.exporting import header_of
from twofold.log.transfer.formats import checked_path, reader
from twofold.log.transfer.importing import import_log
from twofold.messages.event_query import EventQuery
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog
from twofold.synchronizer.carried_reactions import as_json as reactions_as_json
from twofold.synchronizer.carried_reactions import carry_reactions, from_json, read_reactions, up_to
from twofold.tasks import run_in_thread

FROM = "Which other store the events are those of."
MAP = "A file of Python whose function `transform` returns what each event of the other store becomes."
TABLE = "The table of the other store, with its schema in front if need be; by default the usual one."


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

    Example: `twofold export sqlite:///orders.db orders.jsonl --type OrderPlaced`

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
    place, options = checked_path(file), LogOptions()
    async with opened(url) as log, opened_read_models(url) as beside:
        reactions = await read_reactions(beside)  # before the header, so that none stands behind its end
        header = replace(await header_of(log, query, first - 1, last), beside=reactions_as_json(reactions))
        with progress() as report:
            found = await write_file(log, place, header, last, report, options)
    there = f", {found.already:,} of them were there already" if found.already else ""
    text = f"{file} holds {found.events:,} events up to position {found.end:,}{there}; {found.commands:,} commands"
    answer(text, found._asdict(), as_json=as_json)


async def import_(
    file: str,
    url: str,
    /,
    *,
    store: Annotated[StoreKind | None, Parameter(name="--from", help=FROM)] = None,
    mapping: Annotated[Path | None, Parameter(name="--map", help=MAP)] = None,
    table: Annotated[str, Parameter(help=TABLE)] = "",
    dry_run: Annotated[bool, Parameter(negative="", help=DRY_RUN)] = False,
    as_json: Json = False,
) -> None:
    """Store the events of a file that `twofold export` has written, or those of another store.

    The whole file is checked first. Ids, order, times, tags and metadata stay as they are; of a whole log, positions,
    versions and the receipts of commands do so, too, and reactions that live beside the log go on where they stand.
    Where an export leaves events out, the others follow each other without gaps. Read models are built from the log
    when the application starts.

    With --from, the events are those of `eventsourcing`, message-db or Marten; order and times stay as they are.

    Interrupted, it goes on where it was when it is run again. Nothing else may write to the database while it runs.

    Example: `twofold import orders.jsonl postgresql://app@db/orders`

    Parameters
    ----------
    file:
        The file to read; with --from, the database of the other store.
    url:
        The database to write, such as sqlite:///orders.db: empty, with the beginning of the file from an earlier run,
        or one that the file goes on.
    """
    if store is not None:
        await import_foreign(store, file, url, mapping, table, dry_run=dry_run, as_json=as_json)
    elif mapping or table or dry_run:
        raise ValueError("`--map`, `--table` and `--dry-run` are about other stores; say which with `--from`")
    else:
        await _import_file(Path(file), url, as_json=as_json)


async def _import_file(file: Path, url: str, *, as_json: bool) -> None:
    async with opened(url, migrate=True) as log:
        with progress() as report:
            found = await import_log(EventStore(log), file, progress=report)
        carried = await _carry_reactions(log, file, url)
    new = found.events - found.already
    text = f"imported {new:,} events, {found.already:,} were there already; {found.commands:,} commands"
    answer(text, found._asdict(), as_json=as_json)
    if carried and not as_json:
        say(f"reactions that go on where they stand: {', '.join(carried)}")


async def _carry_reactions(log: PortableLog, file: Path, url: str) -> Sequence[str]:
    """Let the reactions of a file go on beside the log, if it has become a copy of the one that was exported."""
    header, beginning = (await run_in_thread(reader, file, LogOptions())).header, await log.mark(0)
    if beginning is None or beginning.text != header.log or not header.query.is_all:
        return ()
    end = await log.mark(header.end)
    async with opened_read_models(url) as beside:
        return await carry_reactions(up_to(from_json(header.beside), end or beginning), beside)
