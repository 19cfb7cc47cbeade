"""Commands for what is kept for repeats of commands: `twofold commands prune`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from twofold.cli.output import Json, answer, opened, progress
from twofold.cli.times import age
from twofold.log.retention import prune_commands

AGE = "How long ago the commands took effect at least: 90d, 12h, 30m. By default 90 days."
TENANT = "Only the records of this tenant."
YES = "Remove the records; without it, the command only counts them."

app = App(
    name="commands",
    help=(
        "Look after the records of commands, by which a command that is sent again takes effect once and gets the "
        "first value."
    ),
)


@app.command
async def prune(
    url: str,
    /,
    *,
    older_than: Annotated[str, Parameter(help=AGE)] = "",
    tenant: Annotated[str, Parameter(help=TENANT)] = "",
    yes: Annotated[bool, Parameter(help=YES, negative="")] = False,
    as_json: Json = False,
) -> None:
    """Remove the records of commands that took effect long ago; their events stay.

    Applications may write on. Interrupted, it goes on when it is run again. A command that is sent again afterwards
    takes no effect a second time, but no longer gets the first value.

    Example: `twofold commands prune sqlite:///orders.db --older-than 180d --yes`

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    """
    least = age(older_than, "--older-than") if older_than else None
    async with opened(url) as log:
        total = (await log.inspect()).commands
        with progress() as report:
            count = await prune_commands(
                log, older_than=least, tenant=tenant, write=yes, progress=lambda found: report("found", found, total)
            )
    text = f"{count:,} records of commands {'were removed' if yes else 'are that old; `--yes` removes them'}"
    answer(text, {"found": count, "removed": count if yes else 0}, as_json=as_json)
