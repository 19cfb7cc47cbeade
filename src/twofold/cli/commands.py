"""The command `twofold`: what it is made of, and how it tells what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from cyclopts import App, CycloptsError
from rich.text import Text

from twofold.cli import (
    checks,
    doctor,
    events,
    log,
    moving,
    parked,
    past,
    processes,
    read_models,
    rebuilds,
    snapshots,
    streams,
    transfer,
    upkeep,
)
from twofold.cli.ending import retention
from twofold.cli.output import InterruptedByUserError, err, json_text
from twofold.cli.persons import privacy
from twofold.cli.starting import agents, demonstration, new_project, serving, working
from twofold.engines.urls import hide_secrets
from twofold.errors import TwofoldError
from twofold.tenants import all_tenants

INTERRUPTED = 130

app = App(
    name="twofold",
    help="Begin, run and look after applications that are built on Twofold, and their databases.",
    help_epilogue=(
        "A URL is sqlite:///relative/path.db, sqlite:////absolute/path.db or postgresql://user@host/database. "
        "The exit code is 0 if all is well, 1 if not, 2 if the command was not understood, 130 after Ctrl-C. "
        "With --json, what a command finds or does is printed as JSON, one object on each line; what went wrong is "
        "printed as JSON on standard error. A code at the end of an error, such as TE403, is explained by "
        "`twofold explain`. What cannot be undone asks first, or needs --yes. NO_COLOR switches colours off; "
        "`twofold --install-completion` completes commands in your shell."
    ),
)
app.command(new_project.new)
app.command(demonstration.demo)
app.command(serving.run)
app.command(working.worker)
app.command(agents.mcp)
app.command(log.status)
app.command(log.migrate)
app.command(log.verify)
app.command(log.anchor)
app.command(moving.copy)
app.command(moving.fork)
app.command(transfer.export)
app.command(transfer.import_, name="import")
app.command(checks.check)
app.command(doctor.doctor)
app.command(checks.explain_code, name="explain")
app.command(events.app)
app.command(streams.app)
app.command(retention.app)
app.command(events.show_trace, name="trace")
app.command(parked.app)
app.command(past.at)
app.command(read_models.app)
app.command(processes.app)
app.command(checks.schemas, name="schema")
app.command(upkeep.tags_app)
app.command(snapshots.app)
app.command(upkeep.commands_app)
app.command(privacy.app)
app.command(rebuilds.rebuild)
app.command(rebuilds.roll_back)
app.command(rebuilds.cancel_rebuild)
app.register_install_completion_command()


def run(arguments: Sequence[str]) -> int:
    """Run a command; what goes wrong outside of the program is told in one line. Return the exit code."""
    try:
        command, bound, _ = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), 2, arguments)
    try:
        with all_tenants():  # who has the command line and the database looks after all of it
            outcome = command(*bound.args, **bound.kwargs)
            if asyncio.iscoroutine(outcome):
                outcome = asyncio.run(cast("Coroutine[Any, Any, int | None]", outcome))
    except InterruptedByUserError as interrupted:
        return _complain(f"interrupted; {interrupted}", INTERRUPTED)
    except KeyboardInterrupt:
        return _complain("interrupted; what was done so far is kept", INTERRUPTED)
    except (TwofoldError, ValueError, ModuleNotFoundError, OSError) as error:
        return _complain(str(error), 1, arguments, error.code if isinstance(error, TwofoldError) else "")
    return outcome if isinstance(outcome, int) else 0


def _complain(text: str, exit_code: int, arguments: Sequence[str] = (), error_code: str = "") -> int:
    """Say on standard error what went wrong, as JSON if the command was to print JSON. Return the exit code."""
    for each in arguments:
        text = hide_secrets(text, each)
    if "--json" in arguments:
        err.print(Text(json_text({"error": text, "code": error_code or None})), soft_wrap=True)
    else:
        err.print(Text(f"twofold: {text}{f' [{error_code}]' if error_code else ''}"), soft_wrap=True)
    return exit_code
