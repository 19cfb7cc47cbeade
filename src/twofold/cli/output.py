"""How all commands open a database, print tables and show progress."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, cast

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from twofold.engines.engine import connect, connect_keys
from twofold.inspection.documents import document_of
from twofold.log.keys.keyring import KeyRing
from twofold.log.verify import Progress
from twofold.ports.maintenance import PortableLog
from twofold.ports.read_database import ReadDatabase

Yes = Annotated[bool, Parameter(name="--yes", negative="", help="Do it without asking.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, one object on each line.")]

WIDE = 250
"""Columns of what goes to a file or a program, where lines are better not broken."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, highlight=False)


class InterruptedByUserError(Exception):
    """Ctrl-C, with what becomes of the work."""


@asynccontextmanager
async def opened(url: str, *, migrate: bool = False) -> AsyncIterator[PortableLog]:
    """Open the log of a database.

    Raises:
        ValueError: the URL names no engine that can be looked after.
        StorageError: it cannot be opened, or is not up to date.
    """
    log = connect(url, migrate=migrate).log
    if not hasattr(log, "restore"):
        raise ValueError(f"this command cannot work on {url.partition(':')[0]} yet")
    await log.open()
    try:
        yield cast(PortableLog, log)
    finally:
        await log.close()


@asynccontextmanager
async def opened_read_models(url: str) -> AsyncIterator[ReadDatabase]:
    """Open the read models of a database.

    Raises:
        ValueError, StorageError: as `opened`.
    """
    database = connect(url, migrate=False).read_database
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def opened_keys(url: str, keys_url: str) -> AsyncIterator[KeyRing | None]:
    """Have the keys of a log at hand, if their store is named; they are opened when they are needed.

    Raises:
        ValueError: the URL names no engine that keeps keys, or the file of the log.
    """
    keys = connect_keys(url, keys_url) if keys_url else None
    try:
        yield keys
    finally:
        if keys is not None:
            keys.close()


@contextmanager
def progress() -> Iterator[Progress]:
    """Show how far something has come, if standard error is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with ProgressBar(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        yield _reporter(bar)


def json_text(thing: object) -> str:
    """Return what was found as JSON in one line."""
    return msgspec.json.encode(document_of(thing)).decode()


def say_document(thing: object) -> None:
    """Print what was found as a line of JSON."""
    say(json_text(thing))


def answer(text: str, facts: object, *, as_json: bool) -> None:
    """Print what a command has done: as a sentence, or what there is to know of it as JSON."""
    if as_json:
        say_document(facts)
    else:
        say(text)


def say(text: str) -> None:
    """Print a line, whatever its length."""
    out.print(Text(text), soft_wrap=True)


def confirmed(what: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; without a terminal, `--yes` is the only answer.

    Raises:
        ValueError: it was not confirmed; nothing was done.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and err.is_terminal):
        raise ValueError(f"{what}, which cannot be undone; to do so, add --yes")
    if err.input(f"{what}, which cannot be undone. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ValueError("nothing was done")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """Print a table, if it has rows.

    Args:
        headings: of the columns.
        rows: their cells.
        numbers: headings of the columns that are set to the right.
    """
    if rows:
        table = Table()
        for heading in headings:
            number = heading in numbers
            table.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=number)
        for row in rows:
            table.add_row(*map(Text, row))
        out.print(table)


def _reporter(bar: ProgressBar) -> Progress:
    tasks: dict[str, TaskID] = {}

    def report(stage: str, position: int, end: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=end)
        bar.update(tasks[stage], completed=position, total=end)

    return report


class _Rate(ProgressColumn):
    """Events per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")
