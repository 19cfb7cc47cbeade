"""`twofold worker`: runs the projections, processes and timers of an application until a signal ends it.

1. The application is loaded and started; what cannot work is told, with exit code 1, before anything runs.
2. Its synchronizer runs, also if the application was made with `synchronize=False`: that is what this process is for.
3. A line says how the read models stand, whenever that has changed; a database that is away ends nothing.
4. The first SIGINT or SIGTERM ends the work of the moment and gives the leases back; a second one kills.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from twofold.application import Application
from twofold.cli.applications import FORM, load
from twofold.cli.output import Json, say, say_document
from twofold.cli.starting.log_lines import log_to_stderr
from twofold.errors import TwofoldError
from twofold.synchronizer.status import ProjectionStatus
from twofold.tenants import all_tenants

Code = Annotated[str, Parameter(help=f"An `Application`, or a function that returns one, as {FORM}.")]
Url = Annotated[str, Parameter(help="The database, if the function takes one.")]
Every = Annotated[float, Parameter(help="Seconds between two looks at the read models.", validator=Number(gt=0))]

Tell = Callable[[Sequence[ProjectionStatus], Sequence[str]], None]
"""Is told how the read models stand, and what is wrong."""


def worker(application: Code, /, *, url: Url = "", every: Every = 5.0, as_json: Json = False) -> int:
    """Keep the read models and processes of an application in step with its log, until Ctrl-C or SIGTERM.

    Start one beside the web processes, or several: they share the work, and another one takes over what one leaves.
    The exit code is 0 after a signal, and 1 if the application cannot start or its synchronizer has ended. Warnings go
    to standard error; with --json they are JSON, too.

    Example: `twofold worker orders.app:build --url sqlite:///orders.db`
    """
    log_to_stderr(as_json=as_json)
    return in_a_context_of_its_own(_work(application, url, every, as_json=as_json))


def in_a_context_of_its_own(work: Coroutine[Any, Any, int]) -> int:
    """Run the code of an application as a web process would run it, and not on behalf of all tenants."""
    return Context().run(asyncio.run, work)


@contextmanager
def signalled() -> Iterator[asyncio.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; a second one does what it does without this block."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def restore() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    def handle() -> None:
        stop.set()
        restore()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, handle)
    try:
        yield stop
    finally:
        restore()


async def keep_in_step(app: Application, stop: asyncio.Event, every: float, tell: Tell) -> int:
    """Run the synchronizer of a started application until an event is set; return the exit code."""
    app.projections.begin()
    told: object = None
    while not stop.is_set():
        found, problems = await _standing(app)
        facts = [(each.name, each.state, each.position) for each in found], problems
        if facts != told:
            tell(found, problems)
            told = facts
        if not app.projections.is_running:
            return 1
        await _pause(stop, every)
    return 0


def say_standing(found: Sequence[ProjectionStatus], problems: Sequence[str]) -> None:
    """Print how the read models stand in one line, and each problem in another."""
    behind = [f"{each.name} is {each.behind:,} behind" for each in found if each.behind > 0]
    head = max((each.head for each in found), default=0)
    say(f"{', '.join(behind) or 'in step'}: {len(found):,} read models, {head:,} events in the log")
    for problem in problems:
        say(f"  {problem}")


def say_standing_as_json(found: Sequence[ProjectionStatus], problems: Sequence[str]) -> None:
    """Print how the read models stand, and what is wrong, as a line of JSON."""
    models = [
        {"name": each.name, "state": each.state, "behind": each.behind, "lag": each.lag.total_seconds()}
        for each in found
    ]
    say_document({"head": max((each.head for each in found), default=0), "projections": models, "problems": problems})


async def _work(application: str, url: str, every: float, *, as_json: bool) -> int:
    app = load(application, url)
    async with app:
        with signalled() as stop:
            code = await keep_in_step(app, stop, every, say_standing_as_json if as_json else say_standing)
    if not code:
        end = "ended by a signal; other workers and the next start go on from here"
        say_document({"ended": "signal"}) if as_json else say(end)
    return code


async def _standing(app: Application) -> tuple[Sequence[ProjectionStatus], Sequence[str]]:
    """Return how the read models stand, and what is wrong; a log that cannot be read is a problem and no end."""
    try:
        with all_tenants():
            found = await app.projections.status()
    except (TwofoldError, OSError) as error:
        return (), (f"the databases cannot be asked: {error}",)
    return found, [f"{each.name} {problem}" for each in found for problem in each.problems]


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
