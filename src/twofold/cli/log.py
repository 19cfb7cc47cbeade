"""Commands for a whole log: `twofold status | migrate`."""

from __future__ import annotations

from rich.filesize import decimal
from rich.table import Table

from twofold.cli.output import Json, answer, opened, opened_read_models, out, print_table, progress, say, say_document
from twofold.engines.urls import without_secrets
from twofold.ports.maintenance import Fork, Inspection


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


async def verify(url: str, /, *, read_models: str = "", as_json: Json = False) -> None:
    """Read a whole log and check it: each event and snapshot against its checksum, the order, and what lies beneath.

    Prints the first damage, with exit code 1. It changes nothing, and may be run beside the application; on a backup
    it tells whether that can be relied on.

    Example: `twofold verify sqlite:///backup/orders.db`

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    read_models:
        The database of read models or reactions, if they live in another one: that they have read this log is checked.
    """
    async with opened(url) as log:
        with progress() as report:
            events = await verify_log(log, progress=report)
        snapshots = await verify_snapshots(log)
        async with opened_read_models(read_models or url) as database:
            await history.compare(log, database)
    and_snapshots = f", and {snapshots.intact:,} snapshots" if snapshots.intact else ""
    facts = {"events": events, "snapshots": snapshots.intact}
    answer(f"all {events:,} events are intact{and_snapshots}", facts, as_json=as_json)


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
