"""Commands for parked events, which work without the application's code: `twofold parked …`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from twofold.cli.output import Json, Yes, confirmed, opened, opened_read_models, print_table, say, say_document
from twofold.inspection import ParkedGroup, parked_groups
from twofold.log.event_store import EventStore
from twofold.options import SynchronizerOptions
from twofold.ports.read_database import ReadDatabase
from twofold.projections.keys.keyed_event import key_text
from twofold.synchronizer.control import ReadModelControl
from twofold.synchronizer.status import read_status

Url = Annotated[str, Parameter(help="The database of the read models, such as sqlite:///orders.db.")]
Name = Annotated[str, Parameter(help="The projection, reaction or process.")]
Reason = Annotated[str, Parameter(help="Why; it is recorded.")]
LOG = "The database of the log, if the read models live in another one."
Log = Annotated[str, Parameter(help=LOG)]
AS_SHOWN = '["a1"] as `show` shows it, or a1, if the key is a single text.'
Limit = Annotated[int, Parameter(help="The most events to look at, of each projection.", validator=Number(gte=1))]
Wait = Annotated[
    float,
    Parameter(help="Seconds to wait until a worker has tried them again; 0: not at all.", validator=Number(gte=0)),
]
PAUSE = 0.1

app = App(
    name="parked",
    help=(
        "Decide on events that failed. An event on which a projection, a reaction or a process fails is parked with "
        "the later ones of its row, and all others go on. Once the code is mended, have them tried again; or leave one "
        "out for ever. None of this needs the code, and all of it may be done while workers run."
    ),
)


@app.command(name="list")
async def list_(url: Url, /, *, log: Log = "", limit: Limit = 1000, as_json: Json = False) -> int:
    """Show what is parked, by cause: the kind of error and the place in your code. The exit code is 1 if anything is.

    Example: `twofold parked list sqlite:///orders.db`
    """
    async with opened(log or url) as events, opened_read_models(url) as database:
        status = await read_status(EventStore(events), database, {}, SynchronizerOptions())
        counts = {each.name: each.parked for each in status if each.parked}
        groups = [(name, group) for name in counts for group in await _groups(database, name, limit)]
    for name, group in groups if as_json else ():
        say_document({"projection": name, "group": group})
    if as_json:
        return int(bool(counts))
    headings = ("projection", "failed", "waiting", "error", "in", "first", "last", "since (UTC)", "for example")
    print_table(headings, [_row(name, group) for name, group in groups], numbers=("failed", "waiting", "first", "last"))
    for name, count in counts.items():
        seen = f"; of {count:,} events the first {limit:,} are grouped" if count > limit else ""
        say(f"{name}: `twofold parked show URL {name}` shows each{seen}")
    if not counts:
        say("nothing is parked")
    return int(bool(counts))


@app.command
async def show(
    url: Url,
    name: Name,
    /,
    *,
    traceback: Annotated[bool, Parameter(help="Show where in the code each failed.", negative="")] = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Show the events that a projection failed on, and those that wait behind them, in order.

    Example: `twofold parked show sqlite:///orders.db order_views --traceback`
    """
    async with opened_read_models(url) as database:
        found = await ReadModelControl(database, name).parked(limit=limit)
    for each in found if as_json else ():
        say_document(each)
    if as_json:
        return
    if not found:
        say(f"nothing of {name} is parked")
    rows = [(f"{each.position:,}", each.key, each.cause or "waits", f"{each.parked_at:%F %T}") for each in found]
    print_table(("position", "key", "cause", "since (UTC)"), rows, numbers=("position",))
    for each in found if traceback else ():
        if each.traceback:
            say(f"\nevent {each.position:,}:\n{each.traceback.rstrip()}")


@app.command
async def retry(
    url: Url,
    name: Name,
    /,
    *,
    key: Annotated[str, Parameter(help=f"Only those of this row, {AS_SHOWN}")] = "",
    wait: Wait = 0.0,
    as_json: Json = False,
) -> int:
    """Have parked events tried again, in order; those that fail again stay parked, with the later ones of their row.

    With `--wait`, the exit code is 0 if all came in, and 1 if some failed again, or no worker came in time.

    Example: `twofold parked retry sqlite:///orders.db order_views --wait 30`
    """
    async with opened_read_models(url) as database:
        control = ReadModelControl(database, name)
        asked = await control.retry(*(_key(key) if key else ()))
        if not asked:
            raise ValueError(f"nothing of {name} is parked{f' under {key_text(_key(key))}' if key else ''}")
        untried = await _tried(control, wait) if wait else asked
        left = await _left(control, key) if wait else asked
    if as_json:
        say_document({"projection": name, "asked": asked, "untried": untried, "parked": left})
    elif not wait:
        say(f"{asked:,} events are tried again, as soon as a worker has the code")
    elif untried:
        say(f"{untried:,} events were not tried within {wait:g} s; run a worker that has the code of {name}")
    else:
        say(f"{asked:,} events were tried again; {left:,} are parked, as `twofold parked list` shows")
    return int(bool(wait and left))


@app.command
async def skip(
    url: Url,
    name: Name,
    position: Annotated[int, Parameter(help="Of the event.")],
    /,
    *,
    reason: Reason,
    log: Log = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Leave an event out for ever, in rebuilds too, and have the later ones of its row tried again.

    What comes to stand at its position when the log is restored to an older state is another event, and not skipped.

    Example: `twofold parked skip sqlite:///orders.db order_views 42 --reason "booked twice" --yes`
    """
    confirmed(f"{name} will leave event {position} out for ever", yes=yes)
    async with opened(log or url) as events, opened_read_models(url) as database:
        await ReadModelControl(database, name).skip(position, reason=reason, log=events)
    if as_json:
        say_document({"projection": name, "skipped": position, "reason": reason})
    else:
        say(f"{name} skips event {position:,}")


@app.command
async def skip_row(
    url: Url,
    name: Name,
    key: Annotated[str, Parameter(help=f"Of the row, {AS_SHOWN}")],
    /,
    *,
    reason: Reason,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Leave all parked events of a row out for ever, in rebuilds too, and let its later ones in.

    Example: `twofold parked skip-row sqlite:///orders.db order_views o1 --reason "a test order" --yes`
    """
    confirmed(f"{name} will leave all parked events of {key_text(_key(key))} out for ever", yes=yes)
    async with opened_read_models(url) as database:
        skipped = await ReadModelControl(database, name).skip_row(*_key(key), reason=reason)
    if not skipped:
        raise ValueError(f"nothing of {name} is parked under {key_text(_key(key))}")
    if as_json:
        say_document({"projection": name, "key": key_text(_key(key)), "skipped": skipped, "reason": reason})
    else:
        say(f"{name} skips {skipped:,} events of {key_text(_key(key))}")


@app.command
async def skipped(url: Url, name: Name, /, *, as_json: Json = False) -> None:
    """Show the events that operators have skipped, and why.

    Example: `twofold parked skipped sqlite:///orders.db order_views`
    """
    async with opened_read_models(url) as database:
        found = await ReadModelControl(database, name).skipped()
    for each in found if as_json else ():
        say_document(each)
    if as_json:
        return
    if not found:
        say(f"nothing of {name} is skipped")
    rows = [
        (f"{each.position:,}", str(each.event_id), each.key, each.cause, each.reason, f"{each.skipped_at:%F %T}")
        for each in found
    ]
    print_table(("position", "event", "key", "cause", "reason", "on (UTC)"), rows, numbers=("position",))


async def _groups(database: ReadDatabase, name: str, limit: int) -> Sequence[ParkedGroup]:
    return parked_groups(await ReadModelControl(database, name).parked(limit=limit))


async def _tried(control: ReadModelControl, patience: float) -> int:
    """Wait until workers have tried again what was asked for; return how many events none of them has tried."""
    end = asyncio.get_running_loop().time() + patience
    while (untried := await control.retrying()) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
        await asyncio.sleep(PAUSE)  # another process tries them, and signals nothing
    return untried


async def _left(control: ReadModelControl, key: str) -> int:
    wanted = key_text(_key(key)) if key else ""
    return sum(not wanted or each.key == wanted for each in await control.parked())


def _row(name: str, group: ParkedGroup) -> Sequence[str]:
    example = f"{group.example.key} {group.example.cause}"
    return (
        name, f"{group.failed:,}", f"{group.waiting:,}", group.error, group.place, f"{group.first:,}",
        f"{group.last:,}", f"{group.since:%F %T}", example,
    )  # fmt: skip


def _key(text: str) -> tuple[object, ...]:
    """Return a key, whether it was given as JSON or as a plain text."""
    try:
        return tuple(msgspec.json.decode(text, type=list[object]))
    except msgspec.DecodeError:
        return (text,)
