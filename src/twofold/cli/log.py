"""Commands for a whole log: `twofold status | migrate | verify | anchor`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from twofold.cli.applications import FORM, load
from twofold.cli.output import (
    InterruptedByUserError,
    Json,
    answer,
    err,
    opened,
    opened_keys,
    opened_read_models,
    out,
    print_table,
    progress,
    say,
    say_document,
)
from twofold.engines.urls import without_secrets
from twofold.log.event_store import EventStore
from twofold.log.integrity.anchor_file import append_anchors, read_anchors
from twofold.log.integrity.archives import damaged_archives
from twofold.log.integrity.chain import differing, new_anchors
from twofold.log.integrity.damage import Damage
from twofold.log.integrity.events import damaged_events
from twofold.log.integrity.keys import damaged_keys
from twofold.log.integrity.records import damaged_commands, damaged_storage
from twofold.log.integrity.snapshots import damaged_snapshots, differing_snapshots, verify_snapshots
from twofold.log.verify import Progress
from twofold.options import LogOptions
from twofold.ports.maintenance import Fork, Inspection, PortableLog
from twofold.synchronizer.history import differing_checkpoints

ReadModels = Annotated[
    str, Parameter(help="The database of read models or reactions, if they live in another one than the log.")
]
Code = Annotated[
    str,
    Parameter(help=f"Compare tags and snapshots with what this application makes of the events, too: {FORM}."),
]
AnchorFile = Annotated[
    Path | None, Parameter(name="--anchor", help="Compare the log with the anchors in this file, too.")
]
After = Annotated[
    int,
    Parameter(help="Check the events behind this position only, as after an interruption.", validator=Number(gte=0)),
]
Keys = Annotated[
    str,
    Parameter(
        help="The key store of the log: check the keys of persons, and that they open what is encrypted, too. The "
        "master key comes from the environment."
    ),
]
Most = Annotated[int, Parameter(help="Stop when as many damages are found.", validator=Number(gte=1))]
Every = Annotated[
    int | None,
    Parameter(help="Events between two anchors; there is one at the head besides.", validator=Number(gte=1)),
]


async def status(url: str, /, *, as_json: Json = False) -> None:
    """Show what a database holds: the head of the log, events by type, and how far each projection has come.

    It changes nothing, and may be run beside the application.

    Example: `twofold status sqlite:///orders.db`

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    """
    async with opened(url) as log:
        found, fork = await log.inspect(), await log.fork()
    if as_json:
        checkpoints = [each._asdict() for each in found.checkpoints]
        say_document({**found._asdict(), "checkpoints": checkpoints, "fork": str(fork) if fork else None})
    else:
        _print_status(url, found, fork)


async def migrate(url: str, /, *, as_json: Json = False) -> None:
    """Bring a database up to date with this release, or make a new one.

    An application does so by itself when it starts. Run it before, if the application may not change the schema, or
    to be done with it at a time of your choosing. Processes of an older release refuse the database afterwards.

    Example: `twofold migrate postgresql://owner@db/orders`

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    """
    async with opened(url, migrate=True) as log:
        found = await log.inspect()
    text = f"{without_secrets(url)} is at migration {found.migration}, up to date"
    answer(text, {"migration": found.migration}, as_json=as_json)


async def verify(
    url: str,
    /,
    *,
    read_models: ReadModels = "",
    code: Code = "",
    anchors: AnchorFile = None,
    keys: Keys = "",
    after: After = 0,
    most: Most = 100,
    as_json: Json = False,
) -> int:
    """Read a whole log and check it: each event, command and snapshot against its checksum, the order, what is beneath.

    Checkpoints are compared with the log's history; with `--code`, tags with payloads, and snapshots with what their
    events fold to; with `--anchor`, all events with what was anchored; with `--keys`, or code that has them, the keys
    of persons with what they encrypt. Each damage is named, with exit code 1. It
    changes nothing, and may be run beside the application; on a backup it tells whether that can be relied on.

    Example: `twofold verify sqlite:///backup/orders.db --code orders.app:build`

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    """
    options, found, place = LogOptions(), list[Damage](), [after]
    async with (
        opened(url) as log,
        opened_read_models(read_models or url) as database,
        opened_keys(url, keys) as ring,
    ):
        store = _store(log, code, url)
        head = await log.head()
        with progress() as report:
            checks = [
                damaged_archives(log),
                damaged_events(
                    log, head, after=after, known=store.events if code else None, options=options,
                    reached=lambda position: _reached(report, place, position, head),
                ),
                damaged_commands(log, options.whole_log_chunk),
                damaged_storage(log),
                damaged_snapshots(log),
                differing_checkpoints(log, database),
            ]  # fmt: skip
            if code:
                checks.append(differing_snapshots(store))
            if ring := ring or store.keys:
                of_keys = lambda position: report("verifying keys", position, head)  # noqa: E731
                checks.append(damaged_keys(log, ring, head, after=after, reached=of_keys, options=options))
            if anchors is not None:
                told = lambda position, end: report("comparing anchors", position, end)  # noqa: E731
                checks.append(differing(log, await read_anchors(anchors), reached=told, options=options))
            try:
                for check in checks:
                    async with aclosing(check):
                        async for damage in check:
                            found.append(damage)
                            _tell(damage, as_json=as_json)
                            if len(found) >= most:
                                return _stopped(most, as_json=as_json)
            except asyncio.CancelledError:
                raise InterruptedByUserError(
                    f"the events up to position {place[0]} were checked; `--after {place[0]}` goes on behind them"
                ) from None
        snapshots = 0 if found else (await verify_snapshots(log)).intact
    if as_json:
        say_document({"events": head - after, "snapshots": snapshots} | ({"damages": len(found)} if found else {}))
    elif not found:
        behind = f" behind position {after:,}" if after else ""
        and_snapshots = f", and {snapshots:,} snapshots" if snapshots else ""
        out.print(f"all {head - after:,} events{behind} are intact{and_snapshots}")
    return int(bool(found))


async def anchor(url: str, file: Path, /, *, every: Every = None, as_json: Json = False) -> None:
    """Add to a file what proves later that no event of today's log was changed, removed, added or moved.

    It goes on from the last anchor in the file, so only what was appended since is read, and appends cost nothing
    more. Keep the file where those who can write to the database cannot write; `twofold verify --anchor` compares.

    Example: `twofold anchor sqlite:///orders.db /mnt/elsewhere/anchors.jsonl`

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    file:
        The file of anchors, one line of JSON for each; it is made if it is not there.
    """
    options = LogOptions()
    count, position = 0, 0
    async with opened(url) as log:
        known = await read_anchors(file, may_be_absent=True)
        last = known[-1] if known else None
        with progress() as report:
            told = lambda done, end: report("anchoring", done, end)  # noqa: E731
            made = new_anchors(log, last, every or options.anchored_every, reached=told, options=options)
            async with aclosing(append_anchors(file, made)) as appended:
                async for each in appended:
                    count, position = count + 1, each.position
    position = position or (last.position if last else 0)
    text = f"nothing was appended since the last anchor, at position {position:,}"
    if count:
        text = f"added {count:,} anchors; the last one is at position {position:,}"
    answer(text, {"anchors": count, "position": position}, as_json=as_json)


def _print_status(url: str, found: Inspection, fork: Fork | None) -> None:
    say(without_secrets(url))
    if fork:
        say(f"{fork}: reactions and processes stand still until they are resumed")
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("head", f"{found.head:,}"),
        ("commands", f"{found.commands:,}"),
        ("size", decimal(found.size)),
        ("migration", str(found.migration)),
    ):
        facts.add_row(name, value)
    out.print(facts)
    types = [(name, f"{count:,}") for name, count in found.types.items()]
    print_table(("events of type", "count"), types, numbers=("count",))
    checkpoints = [
        (name, str(version), f"{position:,}", f"{found.head - position:,}")
        for name, version, position in found.checkpoints
    ]
    headings = ("projection", "version", "checkpoint", "behind")
    print_table(headings, checkpoints, numbers=headings[1:])


def _store(log: PortableLog, code: str, url: str) -> EventStore:
    """Return a store on the log, with the classes and folds of the application, if one is named."""
    if not code:
        return EventStore(log)
    try:
        app = load(code, url)
    except ValueError:  # a function that takes no URL, or none at all
        app = load(code)
    store = EventStore(log, app.store.events, options=app.store.options, keys=app.store.keys)
    store._folds |= app.store._folds
    return store


def _reached(report: Progress, place: list[int], position: int, head: int) -> None:
    place[0] = position
    report("verifying", position, head)


def _tell(damage: Damage, *, as_json: bool) -> None:
    if as_json:
        facts = {"check": damage.check, "where": damage.where, "text": str(damage.error)}
        say_document(facts)
    else:
        err.print(Text(f"twofold: {damage.error}"), soft_wrap=True)


def _stopped(most: int, *, as_json: bool) -> int:
    if not as_json:
        err.print(Text(f"twofold: stopped after {most:,} damages; `--most` raises that"), soft_wrap=True)
    return 1
