"""Commands that look at events, which work without the application's code: `twofold events …` and `twofold trace`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter
from rich.text import Text
from rich.tree import Tree

from twofold.cli.output import Json, opened, out, print_table, say, say_document
from twofold.cli.times import moment
from twofold.inspection import (
    EventSearch,
    Trace,
    TracedCommand,
    TracedEvent,
    find_event,
    follow_events,
    search_events,
    trace,
)
from twofold.inspection.searching import Recorded, position_or_id
from twofold.log.event_store import EventStore

Url = Annotated[str, Parameter(help="The database, such as sqlite:///orders.db.")]
Which = Annotated[str, Parameter(help="The position of the event, or its id.")]
Stream = Annotated[str, Parameter(help="Only events of this stream, such as Order-7f3.")]
StreamType = Annotated[str, Parameter(help="Only events of streams of this type, such as Order.")]
Types = Annotated[
    tuple[str, ...], Parameter(name="--type", negative="", help="Only of this type, by its stored name. Once for each.")
]
Tags = Annotated[
    tuple[str, ...], Parameter(name="--tag", negative="", help="Only with this tag, such as customer:c1; with each.")
]
Correlation = Annotated[UUID | None, Parameter(help="Only what followed from this id: of a request, command or event.")]
User = Annotated[str, Parameter(help="Only what was done for this user.")]
Since = Annotated[str, Parameter(help="Only recorded since: a time such as 2026-05-31T12:30, or an age such as 2h.")]
Until = Annotated[str, Parameter(help="Only recorded before: a time or an age.")]
After = Annotated[int, Parameter(help="Only behind this position.")]
Before = Annotated[int | None, Parameter(help="Only before this position.")]
Newest = Annotated[bool, Parameter(negative="", help="The newest first.")]
Limit = Annotated[int, Parameter(help="The most events to show.")]
Last = Annotated[int, Parameter(help="Events that there are already and that are shown first, at most.")]
Ends = Annotated[int, Parameter(help="Events after which it ends; 0: it goes on.")]

app = App(
    name="events",
    help="Look at the events of a log, as they are stored. None of this changes anything or needs the code.",
)


@app.command
async def show(url: Url, which: Which, /, *, as_json: Json = False) -> None:
    """Show one event: where it stands, what it holds, and on whose behalf it was recorded.

    Example: `twofold events show sqlite:///orders.db 42`
    """
    async with opened(url) as log:
        found = await find_event(EventStore(log), position_or_id(which))
    if as_json:
        say_document(found)
        return
    facts = [
        ("event", f"{found.position:,}  {found.type} (schema version {found.schema_version})"),
        ("id", str(found.event_id)),
        ("stream", f"{found.stored.stream_id} version {found.version:,}" if found.stream_id else "none"),
        ("recorded at", f"{found.recorded_at:%F %T.%f} UTC"),
        ("tags", ", ".join(found.stored_tags)),
        ("metadata", found.stored.metadata.decode()),
        ("payload", found.stored.payload.decode()),
    ]
    for name, value in facts:
        say(f"{name:12} {value}")


@app.command
async def search(
    url: Url,
    /,
    *,
    stream: Stream = "",
    stream_type: StreamType = "",
    types: Types = (),
    tags: Tags = (),
    correlation: Correlation = None,
    user: User = "",
    since: Since = "",
    until: Until = "",
    after: After = 0,
    before: Before = None,
    newest_first: Newest = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> int:
    """Show the events for which all that is given holds. The exit code is 1 if there is none.

    Streams, types, tags and times are found by indexes; for the others the log is looked through, up to a million
    events at once.

    Example: `twofold events search sqlite:///orders.db --type OrderPlaced --since 2h --newest-first`
    """
    wanted = EventSearch(
        stream=stream, stream_type=stream_type, types=types, tags=tags, correlation=correlation, user=user,
        since=moment(since, "--since") if since else None, until=moment(until, "--until") if until else None,
        after=after, before=before, newest_first=newest_first,
    )  # fmt: skip
    async with opened(url) as log:
        found = await search_events(EventStore(log), wanted, limit=limit)
    if as_json:
        for each in found.events:
            say_document(each)
        return int(not found.events)
    print_table(
        ("position", "recorded at (UTC)", "type", "stream", "payload"), [_row(each) for each in found.events],
        numbers=("position",),
    )  # fmt: skip
    if found.next is not None:
        more = f"`--before {found.next}`" if newest_first else f"`--after {found.next}`"
        say(f"there may be more: go on with {more}")
    elif not found.events:
        say("no event is like that")
    return int(not found.events)


@app.command
async def tail(
    url: Url,
    /,
    *,
    stream: Stream = "",
    stream_type: StreamType = "",
    types: Types = (),
    tags: Tags = (),
    correlation: Correlation = None,
    user: User = "",
    after: After = 0,
    last: Last = 10,
    limit: Ends = 0,
    as_json: Json = False,
) -> int:
    """Follow the log: show the last events, and each further one when it is appended, until Ctrl-C.

    Example: `twofold events tail sqlite:///orders.db --stream-type Order --json`
    """
    wanted = EventSearch(
        stream=stream, stream_type=stream_type, types=types, tags=tags, correlation=correlation, user=user, after=after
    )
    shown = 0
    async with opened(url) as log:
        try:
            async with aclosing(follow_events(EventStore(log), wanted, last=last)) as events:
                async for each in events:
                    if as_json:
                        say_document(each)
                    else:
                        say("  ".join(_row(each)))
                    shown += 1
                    if shown == limit:
                        return 0
        except asyncio.CancelledError:
            return 0  # Ctrl-C is how it ends
    return 0


async def show_trace(url: Url, which: Which, /, *, as_json: Json = False) -> None:
    """Show what caused an event, and all that followed from it: commands, events and steps of processes, as a tree.

    It follows the metadata, across streams, processes and reactions, and asks no code. A command is shown by its
    name, or by its id if its record was removed, and may be asked for by its id.

    Example: `twofold trace sqlite:///orders.db 42`
    """
    async with opened(url) as log:
        found = await trace(EventStore(log), position_or_id(which))
    if as_json:
        say_document(found)
        return
    out.print(_tree(found), soft_wrap=True)
    if not found.is_complete:
        say("the trace is cut off: more follows, or may follow further behind in the log")


def _row(found: Recorded) -> tuple[str, str, str, str, str]:
    stream = f"{found.stored.stream_id} @{found.version}" if found.stream_id else ""
    payload = found.stored.payload.decode()
    return f"{found.position:,}", f"{found.recorded_at:%F %T}", found.type, stream, payload


def _tree(found: Trace) -> Tree:
    """Return a trace in the form in which it is drawn."""
    tree = Tree(Text(f"correlation {found.correlation_id}"))
    branches = [tree]
    for node in found.nodes:
        del branches[node.depth + 1 :]
        branches.append(branches[-1].add(_label(node, found)))
    return tree


def _label(node: TracedCommand | TracedEvent, found: Trace) -> Text:
    if isinstance(node, TracedEvent):
        label = Text("  ".join(_row(node.event)[:4]), style="bold" if node.event.event_id == found.of else "")
        return label.append(f"  {node.event.stored.payload.decode()}", style="dim")
    label = Text(
        f"command {node.name or node.command_id}", style="bold cyan" if node.command_id == found.of else "cyan"
    )
    return label.append(f"  refused: {node.refusal}", style="red") if node.refusal else label
