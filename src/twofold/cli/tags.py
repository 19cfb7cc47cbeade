"""Commands for the tags of events: `twofold tags add`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from twofold.cli.applications import opened_store
from twofold.cli.output import Json, answer, progress
from twofold.cli.rebuilds import Code, Url
from twofold.log.add_tags import AddedTags, add_tags

Type = Annotated[str, Parameter(help="The type of the events, by its stored name.")]
YES = "Write the tags; without it, the command only shows what it would do."

app = App(
    name="tags",
    help=(
        "Look after the tags of events. A `Tag` that is added to a field does not find the events that are stored "
        "already, until `twofold tags add` has added it to them."
    ),
)


@app.command
async def add(
    application: Code,
    type_name: Type,
    /,
    *,
    url: Url = "",
    yes: Annotated[bool, Parameter(help=YES, negative="")] = False,
    as_json: Json = False,
) -> None:
    """Add to all stored events of a type the tags that its class declares today.

    Applications may go on reading and writing. Interrupted, it goes on when it is run again. Events of processes whose
    class is older lack the tags again: run it once more when none of them is left.

    Example: `twofold tags add orders.app:build OrderPlaced --url sqlite:///orders.db --yes`
    """
    async with opened_store(application, url) as store:
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
