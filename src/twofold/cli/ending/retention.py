"""Commands for retention: `twofold retention plan | apply`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.filesize import decimal

from twofold.cli.output import (
    Json,
    Yes,
    confirmed,
    opened,
    opened_read_models,
    print_table,
    progress,
    say,
    say_document,
)
from twofold.log.event_store import EventStore
from twofold.log.retaining.retention import RulePlan, apply_retention, plan_retention
from twofold.log.retaining.rules import RetentionRule, rules_of
from twofold.ports.read_database import ReadDatabase

Url = Annotated[str, Parameter(help="The database, such as sqlite:///orders.db.")]
Rules = Annotated[Path, Parameter(help="A file of TOML with a table [[rule]] for each rule.")]
ReadModels = Annotated[
    str, Parameter(help="The database of read models or reactions, if they live in another one than the log.")
]
MayMiss = Annotated[
    tuple[str, ...],
    Parameter(negative="", help="A projection, reaction or process that need not read what is removed; repeatable."),
]
By = Annotated[str, Parameter(help="Who asked for it; it is recorded.")]

app = App(
    name="retention",
    help=(
        "End streams by rules: close those to which nothing was appended for long, archive those that are closed, and "
        "remove the events of those that are closed for long. The plan shows what would be done, and what is held up "
        "and why; applied, it is done in slices. Applications may run all the while."
    ),
)


@app.command
async def plan(
    url: Url,
    /,
    *,
    rules: Rules,
    read_models: ReadModels = "",
    may_miss: MayMiss = (),
    as_json: Json = False,
) -> None:
    """Show what rules would do now, rule by rule; it changes nothing.

    Example: `twofold retention plan sqlite:///orders.db --rules retention.toml`
    """
    async with _opened(url, read_models) as (store, databases):
        with progress() as report:
            found = await plan_retention(store, _rules(rules), databases=databases, may_miss=may_miss, progress=report)
    if as_json:
        for each in found:
            say_document(each)
        return
    _print(found)


@app.command
async def apply(
    url: Url,
    /,
    *,
    rules: Rules,
    by: By,
    read_models: ReadModels = "",
    may_miss: MayMiss = (),
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Do what the plan shows, in slices. Interrupted, it goes on when it is run again.

    Example: `twofold retention apply sqlite:///orders.db --rules retention.toml --by ann --yes`
    """
    confirmed(f"this ends the streams that `twofold retention plan {url} --rules {rules}` shows", yes=yes)
    parsed = _rules(rules)
    async with _opened(url, read_models) as (store, databases):
        with progress() as report:
            done = await apply_retention(store, parsed, by=by, databases=databases, may_miss=may_miss, progress=report)
    actions = {rule.name: rule.action for rule in parsed}
    for each in done:
        if as_json:
            say_document(each._asdict())
        else:
            archives = actions[each.rule] == "archive"
            done_to = ("archived", "payloads moved") if archives else ("ended", "events removed")
            say(f"{each.rule}: {each.streams:,} streams {done_to[0]}, {each.removed:,} {done_to[1]}")


@asynccontextmanager
async def _opened(url: str, read_models: str) -> AsyncIterator[tuple[EventStore, Sequence[ReadDatabase]]]:
    async with opened(url) as log, opened_read_models(url) as own:
        if not read_models:
            yield EventStore(log), [own]
            return
        async with opened_read_models(read_models) as other:
            yield EventStore(log), [own, other]


def _rules(file: Path) -> Sequence[RetentionRule]:
    try:
        return rules_of(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _print(found: Sequence[RulePlan]) -> None:
    rows = [
        (
            each.rule, each.action, f"{each.streams:,}", f"{each.events:,}", decimal(each.size),
            f"{each.oldest:%F %T}" if each.oldest else "", each.example,
            "; ".join(f"{count:,}: {why}" for why, count in each.held.items()),
        )
        for each in found
    ]  # fmt: skip
    headings = ("rule", "action", "streams", "events", "size", "oldest (UTC)", "for example", "held up")
    print_table(headings, rows, numbers=headings[2:5])
    for each in found:
        if each.unfinished:
            say(f"{each.rule}: the removal of {each.unfinished:,} streams was interrupted, and is completed")
