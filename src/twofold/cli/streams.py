"""Commands for one stream: `twofold stream show | close | tombstone`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Annotated

from cyclopts import App, Parameter

from twofold.cli.applications import FORM, opened_store
from twofold.cli.output import Json, Yes, answer, confirmed, json_text, opened, print_table, say, say_document
from twofold.inspection import EventSearch, document_of, masked, search_events, stream_state
from twofold.log.ending.appending import close_streams
from twofold.log.ending.tombstones import tombstone_streams
from twofold.log.event_store import EventStore
from twofold.messages.stored_event import StoredEvent
from twofold.messages.stream import RESERVED
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog

Source = Annotated[
    str, Parameter(help=f"The database, such as sqlite:///orders.db; with `--state`, the application, as {FORM}.")
]
Stream = Annotated[str, Parameter(help="The id of the stream, such as Order-7f3; with tenants, acme/Order-7f3.")]
State = Annotated[bool, Parameter(negative="", help="Show the state to which the events lead.")]
Personal = Annotated[bool, Parameter(negative="", help="Show personal fields of the state, too.")]
Version = Annotated[int | None, Parameter(help="Only up to this version of the stream.")]
Fold = Annotated[str, Parameter(help="Which aggregate or decider, if several fold such streams.")]
Url = Annotated[str, Parameter(help="With an application: its database, if the function takes one.")]
Limit = Annotated[int, Parameter(help="The most events to show.")]

Database = Annotated[str, Parameter(help="The database, such as sqlite:///orders.db.")]
Reason = Annotated[str, Parameter(help="Why; it is recorded.")]
By = Annotated[str, Parameter(help="Who asked for it; it is recorded.")]

app = App(
    name="stream",
    help="Look at one stream, and at the state of what it is about, after each of its events; and end it.",
)


@app.command
async def show(
    source: Source,
    stream: Stream,
    /,
    *,
    state: State = False,
    personal: Personal = False,
    version: Version = None,
    fold: Fold = "",
    url: Url = "",
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Show the events of a stream; with `--state`, what the application folds them to, at any version.

    Examples: `twofold stream show sqlite:///orders.db Order-7f3` and
    `twofold stream show orders.app:build Order-7f3 --url sqlite:///orders.db --state --version 3`
    """
    async with _opened(source, url) as store:
        if state:
            with nullcontext() if personal else masked():
                await _show_state(store, stream, version, fold, as_json=as_json)
        else:
            await _show_events(store, stream, version, limit, as_json=as_json)


@app.command
async def close(url: Database, stream: Stream, /, *, reason: Reason, by: By, as_json: Json = False) -> None:
    """Close a stream: it is read as before, and takes no more events.

    Example: `twofold stream close sqlite:///orders.db Order-7f3 --reason "moved away" --by ann`
    """
    async with opened(url) as log:
        end = await _end(log, stream)
        count = await close_streams(log, [stream], reason=reason, by=by, options=LogOptions())
    text = f"the stream {stream!r} is closed, at version {end.version + count:,}"
    answer(text, {"stream": stream, "closed": bool(count), "version": end.version + count}, as_json=as_json)


@app.command
async def tombstone(
    url: Database, stream: Stream, /, *, reason: Reason, by: By, yes: Yes = False, as_json: Json = False
) -> None:
    """End a stream for ever, and remove its events; only their places in the log are left.

    Projections are told by a `StreamTombstoned`. Interrupted, it goes on when it is run again.

    Example: `twofold stream tombstone sqlite:///orders.db Order-7f3 --reason "a test" --by ann`
    """
    confirmed(f"this removes all events of the stream {stream!r}", yes=yes)
    async with opened(url) as log:
        await _end(log, stream)
        count = await tombstone_streams(log, [stream], reason=reason, by=by, options=LogOptions())
    text = f"the stream {stream!r} is tombstoned, and {count:,} events are removed"
    answer(text, {"stream": stream, "removed": count}, as_json=as_json)


async def _end(log: PortableLog, stream: str) -> StoredEvent:
    """Return the last event of a stream.

    Raises:
        ValueError: there is no such stream, or it is one of Twofold's own.
    """
    if not (found := await log.find_stream_ends([stream])):
        raise ValueError(f"there is no stream {stream!r}; `twofold events search` finds what there is")
    [end] = found
    if end.stream_type.startswith(RESERVED):  # its name may begin with that of a tenant
        raise ValueError(f"{stream!r} is a stream of Twofold's own, which ends by itself")
    return end


async def _show_state(store: EventStore, stream: str, version: int | None, fold: str, *, as_json: bool) -> None:
    if not store._folds:
        raise ValueError(
            f"`--state` needs the code that folds the events: name the application, as {FORM}, and its --url"
        )
    found = await stream_state(store, stream, version=version, fold=fold)
    if as_json:
        say_document(found)
        return
    say(f"{found.fold} {stream} at version {found.version:,}:")
    shown = document_of(found.state)
    for name, value in shown.items() if isinstance(shown, dict) else [("state", shown)]:
        say(f"  {name}: {json_text(value)}")


async def _show_events(store: EventStore, stream: str, version: int | None, limit: int, *, as_json: bool) -> None:
    found = await search_events(store, EventSearch(stream=stream), limit=limit if version is None else version or 1)
    events = [each for each in found.events if version is None or each.version <= version][-limit:]
    if not events:
        raise ValueError(f"the stream {stream!r} has no such events; `twofold events search` finds what there is")
    for each in events if as_json else ():
        say_document(each)
    if not as_json:
        rows = [
            (f"{each.version:,}", f"{each.position:,}", f"{each.recorded_at:%F %T}", each.type,
             each.stored.payload.decode()) for each in events
        ]  # fmt: skip
        print_table(
            ("version", "position", "recorded at (UTC)", "type", "payload"), rows, numbers=("version", "position")
        )


@asynccontextmanager
async def _opened(source: str, url: str) -> AsyncIterator[EventStore]:
    if "://" in source:
        async with opened(source) as log:
            yield EventStore(log)
    else:
        async with opened_store(source, url) as store:
            yield store
