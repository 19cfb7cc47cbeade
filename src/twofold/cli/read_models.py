"""Commands for read models, which work without the application's code: `twofold projections …`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from cyclopts import App, Parameter

from twofold.cli.output import Json, Yes, answer, confirmed, opened, opened_read_models, print_table, say, say_document
from twofold.engines.urls import without_secrets
from twofold.log.event_store import EventStore
from twofold.messages.event_query import EventQuery
from twofold.options import SynchronizerOptions
from twofold.synchronizer.control import ReadModelControl
from twofold.synchronizer.status import ProjectionState, ProjectionStatus, read_status

Url = Annotated[str, Parameter(help="The database of the read models, such as sqlite:///orders.db.")]
Name = Annotated[str, Parameter(help="The projection.")]
AFTER = "It goes on with the first event behind this; 0 stands before all."
EFFECTS = "Needed for a reaction or a process, which does again, or leaves out, what it does elsewhere."
LOG = "The database of the log, if the read models live in another one."

app = App(
    name="projections",
    help=(
        "Look after read models: see where they stand, let them pause, divide them. "
        "None of this needs the code of the projections, and all of it may be done while they run.\n\n"
        "`twofold projections URL` shows where each read model stands, who works on it, and what is wrong; the exit "
        "code is 1 if anything is. How late one is, only its code could tell exactly, which knows what it handles: "
        "what is shown is the age of the first event behind its checkpoint, of whatever type.\n\n"
        "Example: `twofold projections sqlite:///orders.db`"
    ),
)

NUMBERS = ("version", "position", "behind", "lag (max.)", "parked")


@app.default
async def show(url: Url, /, *, log: Annotated[str, Parameter(help=LOG)] = "", as_json: Json = False) -> int:
    """Show where each read model stands, who works on it, and what is wrong."""
    async with opened(log or url) as events, opened_read_models(url) as database:
        store = EventStore(events)
        found = await read_status(store, database, {}, SynchronizerOptions())
        lags = [await _lag(store, each) for each in found]
    for status in found if as_json else ():
        say_document(status)
    if as_json:
        return int(any(status.problems for status in found))
    if not found:
        say(f"there are no read models in {without_secrets(url)}")
    rows = [_row(status, lag) for status, lag in zip(found, lags, strict=True)]
    print_table(("projection", "state", *NUMBERS), rows, numbers=NUMBERS)
    segments = [segment for status in found for segment in _segments(status)]
    headings = ("projection", "generation", "slots", "position", "worked on by")
    print_table(headings, segments, numbers=("generation", "slots", "position"))
    for status in found:
        for line in _held_back(status):
            say(line)
    problems = [f"{status.name}: {problem}" for status in found for problem in status.problems]
    for problem in problems:
        say(problem)
    return 1 if problems else 0


@app.command
async def pause(url: Url, name: Name, /, *, as_json: Json = False) -> None:
    """Stop a read model until it is resumed; it answers queries with the rows that it has.

    Example: `twofold projections pause sqlite:///orders.db order_views`
    """
    async with opened_read_models(url) as database:
        await ReadModelControl(database, name).pause()
    answer(
        f"{name} stands still; `twofold projections resume` lets it go on",
        {"projection": name, "state": "paused"},
        as_json=as_json,
    )


@app.command
async def resume(url: Url, name: Name, /, *, as_json: Json = False) -> None:
    """Let a read model go on that was paused.

    Example: `twofold projections resume sqlite:///orders.db order_views`
    """
    async with opened_read_models(url) as database:
        await ReadModelControl(database, name).resume()
    answer(
        f"{name} goes on, as soon as a worker takes its next turn",
        {"projection": name, "state": "resumed"},
        as_json=as_json,
    )


@app.command
async def scale(
    url: Url,
    name: Name,
    segments: Annotated[int, Parameter(help="How many, from 1 to 256.")],
    /,
    *,
    as_json: Json = False,
) -> None:
    """Divide a read model into segments, on which as many workers can work at once; they do so while they run.

    Example: `twofold projections scale sqlite:///orders.db order_views 4`
    """
    async with opened_read_models(url) as database:
        await ReadModelControl(database, name).scale(segments)
    text = f"{name} will have {segments} segments, as soon as its workers take their next turns"
    answer(text, {"projection": name, "segments": segments}, as_json=as_json)


@app.command
async def set_position(
    url: Url,
    name: Name,
    position: Annotated[int, Parameter(help=AFTER)],
    /,
    *,
    despite_effects: Annotated[bool, Parameter(help=EFFECTS, negative="")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let a read model go on behind a position, whatever it has handled; its rows stay, what is parked is forgotten.

    Use this only if you know what its rows hold. To fill them again from the log, use `twofold rebuild`.

    Example: `twofold projections set-position sqlite:///orders.db order_views 1000 --yes`
    """
    confirmed(f"{name} will forget where it stands and what is parked", yes=yes)
    async with opened_read_models(url) as database:
        await ReadModelControl(database, name).set_position(position, despite_effects=despite_effects)
    text = f"{name} goes on behind {position:,}; its rows are as they were"
    answer(text, {"projection": name, "position": position}, as_json=as_json)


@app.command
async def rewind(
    url: Url,
    name: Name,
    /,
    *,
    to: Annotated[int | None, Parameter(help=f"{AFTER} By default the last one that both are known to have.")] = None,
    log: Annotated[str, Parameter(help=LOG)] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Set a reaction or a projection by SQL back to where it and the log have the same history, after a restore.

    What it has made of events that the log has lost stays. A keyed read model is built again by `twofold rebuild`.

    Example: `twofold projections rewind sqlite:///orders.db mails --yes`
    """
    confirmed(f"{name} will be set back, and handle again what follows", yes=yes)
    async with opened(log or url) as events, opened_read_models(url) as database:
        position = await ReadModelControl(database, name).rewind(to, log=events)
    text = f"{name} goes on behind {position:,}"
    answer(text, {"projection": name, "position": position}, as_json=as_json)


@app.command
async def drop_previous(url: Url, name: Name, /, *, yes: Yes = False, as_json: Json = False) -> None:
    """Drop the read model that the last rebuild replaced; there is no rolling back afterwards.

    Example: `twofold projections drop-previous sqlite:///orders.db order_views --yes`
    """
    confirmed(f"the previous read model {name} will be dropped", yes=yes)
    async with opened_read_models(url) as database:
        dropped = await ReadModelControl(database, name).drop_previous()
    text = f"the earlier read model {name} is dropped" if dropped else f"no earlier read model {name} is kept"
    answer(text, {"projection": name, "dropped": dropped}, as_json=as_json)


async def _lag(store: EventStore, status: ProjectionStatus) -> timedelta:
    """Return the age of the first event behind a checkpoint, of whatever type."""
    rows = await store.log.read(EventQuery.all(), after=status.position, limit=1)
    return timedelta(microseconds=time.time_ns() // 1000 - rows[0].recorded_at) if rows else timedelta()


def _row(status: ProjectionStatus, lag: timedelta) -> Sequence[str]:
    return (
        status.name, _state(status), str(status.version), f"{status.position:,}", f"{status.behind:,}",
        f"{max(lag.total_seconds(), 0):,.1f} s", f"{status.parked:,}",
    )  # fmt: skip


def _state(status: ProjectionStatus) -> str:
    if status.building is not None:
        return f"{status.state}, another one built up to {status.building:,}"
    return ProjectionState.CATCHING_UP if status.state is ProjectionState.LIVE and status.behind else status.state


def _segments(status: ProjectionStatus) -> Sequence[Sequence[str]]:
    place = status.name, str(status.generation)
    return [
        (*place, f"{each.first}-{each.end - 1}", f"{each.position:,}", each.worker or "none")
        for each in status.segments
    ]


def _held_back(status: ProjectionStatus) -> Sequence[str]:
    return [
        f"{status.name} holds back {each.tenant}, whose events flood it: they are in up to {each.position:,}, those of "
        f"the others up to {each.ahead:,}"
        for segment in status.segments
        for each in segment.held_back
    ]
