"""Commands for processes, which work without the application's code: `twofold processes …`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from twofold.cli.output import Json, Yes, answer, confirmed, print_table, progress, say, say_document
from twofold.cli.times import age
from twofold.engines.engine import connect
from twofold.engines.urls import without_secrets
from twofold.inspection.databases import opened_databases
from twofold.log.codec.unknown import raw_events
from twofold.log.event_store import EventStore
from twofold.options import ProcessOptions, SynchronizerOptions
from twofold.processes.control import ProcessControl, ProcessCounts, ProcessInstance, problems_of, processes_of
from twofold.processes.instance import moment_of
from twofold.synchronizer.status import ProjectionStatus, read_status

Url = Annotated[str, Parameter(help="The database of the log, such as sqlite:///orders.db.")]
Name = Annotated[str, Parameter(help="The process.")]
Id = Annotated[str, Parameter(help="The instance, such as the id of an order.")]
Reason = Annotated[str, Parameter(help="Why; it is recorded.")]
AGE = "How long ago the instances ended at least: 90d, 12h, 30m. By default 90 days."
YES = "Remove the rows; without it, the command only counts them."

app = App(
    name="processes",
    help=(
        "Look after processes: see what they wait for, let those go on that are stuck, end those that must not go on. "
        "None of this needs the code of the processes, and all of it may be done while they run.\n\n"
        "`twofold processes URL` shows how the instances of each process stand, and what is wrong with them and with "
        "the feed of their events; the exit code is 1 if anything is.\n\n"
        "Example: `twofold processes sqlite:///orders.db`"
    ),
)

COUNTS = ("running", "stuck", "completed", "cancelled", "ignored", "parked", "oldest timer", "oldest command")


@app.default
async def show_all(url: Url, /, *, as_json: Json = False) -> int:
    """Show how the instances of each process stand, and what is wrong."""
    problems = []
    rows = []
    async with _opened(url) as store:
        names = await processes_of(store.database)
        feeds = await read_status(store.store, store.database, {}, SynchronizerOptions())
        for feed in [each for each in feeds if each.name in names]:
            counts = await store.control(feed.name).counts()
            rows.append(_counted(feed, counts))
            if as_json:
                say_document({"process": feed.name, "counts": counts, "parked": feed.parked})
            found = [*feed.problems, *problems_of(counts, None, ProcessOptions())]
            problems += [f"{feed.name}: {each}" for each in found]
    for problem in problems if as_json else ():
        say_document({"problem": problem})
    if as_json:
        return int(bool(problems))
    if not rows:
        say(f"there are no processes in {without_secrets(url)}")
    print_table(("process", *COUNTS), rows, numbers=COUNTS)
    for problem in problems:
        say(problem)
    return 1 if problems else 0


@app.command(name="list")
async def list_(
    url: Url,
    name: Name,
    /,
    *,
    status: Annotated[str, Parameter(help="Only running, stuck, completed or cancelled ones.")] = "",
    after: Annotated[str, Parameter(help="Only those behind this id.")] = "",
    limit: Annotated[int, Parameter(help="The most instances to show.", validator=Number(gte=1))] = 100,
    as_json: Json = False,
) -> None:
    """Show the instances of a process, in the order of their ids.

    Example: `twofold processes list sqlite:///orders.db fulfil_order --status stuck`
    """
    async with _opened(url) as store:
        found = await store.control(name).list(status=status, after=after, limit=limit)
    for each in found if as_json else ():
        say_document(each)
    if as_json:
        return
    if not found:
        say(f"{name} has no such instances")
    headings = ("id", "status", "inputs", "changed (UTC)", "next (UTC)", "commands", "fails")
    print_table(headings, [_row(each) for each in found], numbers=("inputs", "commands"))


@app.command
async def show(url: Url, name: Name, process_id: Id, /, *, as_json: Json = False) -> None:
    """Show an instance: how it stands, what it took in, and what followed from each input.

    Example: `twofold processes show sqlite:///orders.db fulfil_order o1`
    """
    async with _opened(url) as store:
        instance = await store.control(name).get(process_id)
        steps = await store.control(name).steps(process_id)
    if as_json:
        say_document({"instance": instance, "steps": raw_events(steps)})
        return
    say(
        f"{name} {process_id}: {instance.status}, since {_time(instance.started_at)}, {instance.ignored} inputs ignored"
    )
    for failure in instance.failures:
        again = f"next try {_time(moment_of(failure.next_at))}" if failure.next_at is not None else "not tried again"
        say(f"fails: {failure.error} (tried {failure.attempts} times, {again})")
    rows = [(f"{each.version:,}", *_step(each.payload)) for each in steps]
    print_table(("input", "at (UTC)", "what came", "what followed"), rows, numbers=("input",))


@app.command
async def retry(
    url: Url,
    name: Name,
    process_id: Annotated[str, Parameter(help="The instance; by default, all.")] = "",
    /,
    *,
    as_json: Json = False,
) -> None:
    """Let instances go on that fail or are stuck, and parked events be tried again.

    Example: `twofold processes retry sqlite:///orders.db fulfil_order o1`
    """
    async with _opened(url) as store:
        count = await store.control(name).retry(process_id)
    if not count:
        raise ValueError(f"nothing of {name}{f' {process_id}' if process_id else ''} fails or is parked")
    text = f"{count:,} are tried again, as soon as a worker has the code"
    answer(text, {"process": name, "asked": count}, as_json=as_json)


@app.command
async def restore(url: Url, name: Name, /, *, yes: Yes = False, as_json: Json = False) -> None:
    """Let the instances go on that are in a copied log, where this copy takes the place of the original.

    Start the application once before, so that the process is known in the copy.

    Example: `twofold processes restore sqlite:///orders.db fulfil_order --yes`
    """
    confirmed(f"the instances of {name} will go on in this copy, with their timers and commands", yes=yes)
    async with _opened(url) as store:
        count = await store.control(name).restore()
    text = f"{count:,} instances of {name} are there again; `twofold processes retry` brings in what was parked"
    answer(text, {"process": name, "restored": count}, as_json=as_json)


@app.command
async def cancel(
    url: Url, name: Name, process_id: Id, /, *, reason: Reason, yes: Yes = False, as_json: Json = False
) -> None:
    """End an instance for ever: its timers and commands are dropped, and what comes later is ignored.

    Example: `twofold processes cancel sqlite:///orders.db fulfil_order o1 --reason "a test" --yes`
    """
    confirmed(f"{name} {process_id} will end for ever", yes=yes)
    async with _opened(url) as store:
        was_running = await store.control(name).cancel(process_id, reason=reason)
    text = f"{name} {process_id} is {'cancelled' if was_running else 'at its end already'}"
    answer(text, {"process": name, "id": process_id, "cancelled": was_running}, as_json=as_json)


@app.command
async def prune(
    url: Url,
    name: Name,
    /,
    *,
    older_than: Annotated[str, Parameter(help=AGE)] = "",
    yes: Annotated[bool, Parameter(help=YES, negative="")] = False,
    as_json: Json = False,
) -> None:
    """Remove the rows of instances that ended long ago; their streams stay, and what comes for them is ignored.

    The process may run on. Interrupted, it goes on when it is run again.

    Example: `twofold processes prune sqlite:///orders.db fulfil_order --older-than 30d --yes`
    """
    least = age(older_than, "--older-than") if older_than else None
    async with _opened(url) as store:
        control = store.control(name)
        counts = await control.counts()
        with progress() as report:
            count = await control.prune(
                older_than=least,
                write=yes,
                progress=lambda found: report("found", found, counts.completed + counts.cancelled),
            )
    text = f"{count:,} rows of ended instances {'were removed' if yes else 'are that old; `--yes` removes them'}"
    answer(text, {"process": name, "found": count, "removed": count if yes else 0}, as_json=as_json)


class _Opened:
    """A log with the rows of processes beside it."""

    def __init__(self, url: str) -> None:
        engine = connect(url, migrate=False)
        self.store, self.database = EventStore(engine.log), engine.read_database

    def control(self, name: str) -> ProcessControl:
        return ProcessControl(self.store.log, self.database, name)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[_Opened]:
    opened = _Opened(url)
    async with opened_databases(opened.store.log, [opened.database]):
        yield opened


def _counted(feed: ProjectionStatus, counts: ProcessCounts) -> Sequence[str]:
    numbers = (counts.running, counts.stuck, counts.completed, counts.cancelled, counts.ignored, feed.parked)
    ages = (counts.timer_late, counts.oldest_command)
    return feed.name, *(f"{each:,}" for each in numbers), *(f"{each.total_seconds():,.1f} s" for each in ages)


def _row(each: ProcessInstance) -> Sequence[str]:
    fails = "; ".join(failure.error for failure in each.failures)
    following = _time(each.next_at) if each.next_at else ""
    return each.id, each.status, f"{each.version:,}", _time(each.changed_at), following, f"{each.waiting:,}", fails


def _step(payload: bytes) -> Sequence[str]:
    """Return a step as three texts, from what is stored: the classes of what it holds need not be here."""
    step = msgspec.json.decode(payload)
    given = step["input"]
    name = given.get("type") or given.get("timer") or given.get("error") or given.get("reason") or ""
    followed = [f"sends {each['command']}" for each in step.get("sent", ())]
    followed += [f"sets {each['timer']} for {each['due_at']}" for each in step.get("timers", ())]
    followed += [f"cancels {each}" for each in step.get("cancelled", ())]
    followed += ["completes"] if step.get("completed") else []
    return step["at"], f"{given['kind']} {name}".strip(), ", ".join(followed)


def _time(moment: datetime) -> str:
    return f"{moment:%F %T}"
