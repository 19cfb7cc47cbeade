"""The command line for operators: `twofold status | migrate | verify | copy`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

from cyclopts import App, CycloptsError
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from twofold.copying import copy_log
from twofold.engines import connect
from twofold.errors import TwofoldError
from twofold.portable_log import Inspection, PortableLog
from twofold.verification import Progress, verify_log

INTERRUPTED = 130

app = App(
    name="twofold",
    help="Look after the databases of applications that are built on Twofold.",
    help_epilogue=(
        "A URL is sqlite:///relative/path.db, sqlite:////absolute/path.db or postgresql://user@host/database. "
        "The exit code is 0 if all is well, 1 if not, 2 if the command was not understood."
    ),
)
out, err = Console(highlight=False), Console(stderr=True, highlight=False)


@app.command
async def status(url: str, /) -> None:
    """Show what a database holds: the head of the log, events by type, and how far each projection has come.

    It changes nothing, and may be run beside the application.

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    """
    async with _opened(url) as log:
        _print_status(url, await log.inspect())


@app.command
async def migrate(url: str, /) -> None:
    """Bring a database up to date with this release, or make a new one.

    An application does so by itself when it starts. Run it before, if the application may not change the schema, or
    to be done with it at a time of your choosing. Processes of an older release refuse the database afterwards.

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    """
    async with _opened(url, migrate=True) as log:
        found = await log.inspect()
    out.print(f"{url} is at migration {found.migration}, up to date", soft_wrap=True)


@app.command
async def verify(url: str, /) -> None:
    """Read a whole log and check it: every event against its checksum, the order of all, and what lies beneath.

    Prints the first damage, with exit code 1. It changes nothing, and may be run beside the application; on a backup
    it tells whether that can be relied on.

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    """
    async with _opened(url) as log:
        with _progress() as progress:
            events = await verify_log(log, progress=progress)
    out.print(f"all {events:,} events are intact")


@app.command
async def copy(source: str, target: str, /) -> None:
    """Copy a whole log to another database, of the same engine or another, and compare both.

    Positions, ids, times and the receipts of commands stay as they are, so that checkpoints of subscribers stay
    valid; read models are built anew from the copy. To change the engine: copy while the application runs, stop it,
    copy again (only what is new is copied), and start it with the other URL.

    Interrupted, it goes on where it was when it is run again. Nothing else may write to the target meanwhile.

    Parameters
    ----------
    source:
        The database to read, such as sqlite:///orders.db.
    target:
        The database to write: empty, or with the beginning of the source from an earlier run.
    """
    if source == target:
        raise ValueError("source and target are the same database")
    async with _opened(source) as original, _opened(target, migrate=True) as duplicate:
        with _progress() as progress:
            copied = await copy_log(original, duplicate, progress=progress)
    new = copied.events - copied.already
    out.print(f"copied {new:,} events, {copied.already:,} were there already; {copied.commands:,} commands")
    out.print(f"both logs are alike up to position {copied.events:,}, with digest {copied.digest}", soft_wrap=True)


def run(arguments: Sequence[str]) -> int:
    """Run a command; what goes wrong outside of the program is told in one line. Return the exit code."""
    try:
        command, bound, _ = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), 2)
    try:
        outcome = command(*bound.args, **bound.kwargs)
        if asyncio.iscoroutine(outcome):
            asyncio.run(cast("Coroutine[Any, Any, None]", outcome))
    except KeyboardInterrupt:
        return _complain("interrupted; what was done so far is kept", INTERRUPTED)
    except (TwofoldError, ValueError, ModuleNotFoundError, OSError) as error:
        return _complain(str(error), 1)
    return 0


def _complain(text: str, code: int) -> int:
    err.print(Text(f"twofold: {text}"), soft_wrap=True)
    return code


@asynccontextmanager
async def _opened(url: str, *, migrate: bool = False) -> AsyncIterator[PortableLog]:
    log = connect(url, migrate=migrate).log
    if not hasattr(log, "restore"):
        raise ValueError(f"this command cannot work on {url.partition(':')[0]} yet")
    await log.open()
    try:
        yield cast(PortableLog, log)
    finally:
        await log.close()


@contextmanager
def _progress() -> Any:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with ProgressBar(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        yield _reporter(bar)


def _reporter(bar: ProgressBar) -> Progress:
    tasks: dict[str, Any] = {}

    def report(stage: str, position: int, end: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=end)
        bar.update(tasks[stage], completed=position)

    return report


class _Rate(ProgressColumn):
    """Events per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def _print_status(url: str, found: Inspection) -> None:
    out.print(Text(url), soft_wrap=True)
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("head", f"{found.head:,}"),
        ("commands", f"{found.commands:,}"),
        ("size", decimal(found.size)),
        ("migration", str(found.migration)),
    ):
        facts.add_row(name, value)
    out.print(facts)
    _print_table(("events of type", "count"), [(name, f"{count:,}") for name, count in found.types.items()])
    checkpoints = [
        (name, str(version), f"{position:,}", f"{found.head - position:,}")
        for name, version, position in found.checkpoints
    ]
    _print_table(("projection", "version", "checkpoint", "behind"), checkpoints)


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        table = Table()
        for place, heading in enumerate(headings):
            table.add_column(heading, justify="right" if place else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        out.print(table)
