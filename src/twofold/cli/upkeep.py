"""Commands for what is stored with the events: `twofold tags add` and `twofold commands prune`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from twofold.cli.applications import opened_store
from twofold.cli.output import Json, answer, opened, progress
from twofold.cli.rebuilds import Code, Url
from twofold.cli.times import age
from twofold.log.add_tags import AddedTags, add_tags
from twofold.log.retention import prune_commands

Type = Annotated[str, Parameter(help="The type of the events, by its stored name.")]
YES_TAGS = "Write the tags; without it, the command only shows what it would do."

tags_app = App(
    name="tags",
    help=(
        "Look after the tags of events. A `Tag` that is added to a field does not find the events that are stored "
        "already, until `twofold tags add` has added it to them."
    ),
)


@tags_app.command
async def add(
    application: Code,
    type_name: Type,
    /,
    *,
    url: Url = "",
    yes: Annotated[bool, Parameter(help=YES_TAGS, negative="")] = False,
    as_json: Json = False,
) -> None:
    """Add to all stored events of a type the tags that its class declares today.

    Applications may go on reading and writing. Interrupted, it goes on when it is run again. Events of processes whose
    class is older lack the tags again: run it once more when none of them is left.

    Example: `twofold tags add orders.app:build OrderPlaced --url sqlite:///orders.db --yes`
    """
    async with opened_store(application, url, looks=not yes) as store:
        with progress() as report:
            found = await add_tags(store, type_name, write=yes, progress=report)
    answer(_told(type_name, found, yes), found._asdict(), as_json=as_json)


def _told(type_name: str, found: AddedTags, is_done: bool) -> str:
    if not found.lacking:
        end = "; the log records that" if is_done else "; `--yes` records that"
        return f"all {found.events:,} events of the type {type_name} carry their tags{end}"
    counts = f"{found.lacking:,} of {found.events:,} events of the type {type_name}"
    example = f"event {found.first} {'got' if is_done else 'would get'} {', '.join(found.tags)}"
    return f"{counts} got tags: {example}" if is_done else f"{counts} lack tags: {example}; `--yes` adds them"


AGE = "How long ago the commands took effect at least: 90d, 12h, 30m. By default 90 days."
TENANT = "Only the records of this tenant."
YES = "Remove the records; without it, the command only counts them."

commands_app = App(
    name="commands",
    help=(
        "Look after the records of commands, by which a command that is sent again takes effect once and gets the "
        "first value."
    ),
)


@commands_app.command
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
