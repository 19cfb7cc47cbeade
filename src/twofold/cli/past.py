"""`twofold at`: what the log, a stream or a read model was at an earlier moment."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from twofold.application import Application
from twofold.cli.applications import looked_at
from twofold.cli.output import Json, answer, json_text, progress, say
from twofold.cli.rebuilds import Code, Url
from twofold.inspection import masked, stream_state
from twofold.log.folding.as_of import AsOf
from twofold.messages.context import metadata
from twofold.messages.position import Position
from twofold.queries.read_model import ReadModel
from twofold.tenants import all_tenants

When = Annotated[str, Parameter(help="A position, or a time with its zone, such as 2026-01-31T12:00Z.")]
Stream = Annotated[str, Parameter(help="Show what the application folds this stream to.")]
Fold = Annotated[str, Parameter(help="Which aggregate or decider, if several fold such streams.")]
Model = Annotated[
    str, Parameter(name="--read-model", help="Show the rows of this read model, a line of JSON for each.")
]
KEY = "Only the row with this key: a1, or as JSON, such as [5], if it is no single text."
Key = Annotated[str, Parameter(help=KEY)]
Tenant = Annotated[
    str, Parameter(help="Only what is this tenant's; needed for a row by its key, if there are tenants.")
]

Personal = Annotated[bool, Parameter(negative="", help="Show personal fields, too.")]


async def at(
    when: When,
    application: Code,
    /,
    *,
    url: Url = "",
    stream: Stream = "",
    fold: Fold = "",
    read_model: Model = "",
    key: Key = "",
    tenant: Tenant = "",
    personal: Personal = False,
    as_json: Json = False,
) -> None:
    """Show what was at an earlier moment, exactly: what was answered when the log ended there, by today's code.

    Personal fields are masked, as if all persons were forgotten, unless --personal is given.

    It changes nothing, and may be run beside the application. A time means the last position that was recorded by
    then, which is printed. A row is folded from its own events, a whole read model from the beginning of the log, in a
    temporary file.

    Example: `twofold at 2026-01-31T12:00Z orders.app:build --read-model order_views --key o1`
    """
    if key and not read_model:
        raise ValueError("--key names a row; say of which read model: --read-model NAME")
    moment = _moment(when)
    async with looked_at(application, url) as app:
        position = await app.store.position_at(moment)
        if not stream and not read_model:
            await _say_position(app, position, as_json=as_json)
        with nullcontext() if personal else masked():
            if stream:
                found = await stream_state(app.store, stream, fold=fold, as_of=position)
                text = f"{found.fold} {stream} at version {found.version:,}: {json_text(found.state)}"
                answer(text, found, as_json=as_json)
            if read_model:
                with metadata(tenant=tenant) if tenant else all_tenants():
                    await _say_rows(app, read_model, key, position)


async def _say_position(app: Application, position: Position, *, as_json: bool) -> None:
    last = [each async for each in app.store.read(before=position + 1, limit=1, backwards=True, unknown="raw")]
    text = "".join(f", recorded at {each.recorded_at.isoformat(' ')}: {each.type}" for each in last)
    head, at = await app.store.head(), last[0].recorded_at if last else None
    facts = {"position": int(position), "head": head, "recorded_at": at}
    answer(f"position {int(position):,} of {head:,}{text}", facts, as_json=as_json)


async def _say_rows(app: Application, name: str, key: str, position: Position) -> None:
    model = app.projections.read_model(name)
    if key:
        [runner] = [each for each in app.projections.runners if each.name == name]
        row = await model.get(*runner.projection.row_type().key_from_text(_as_json(key)), as_of=position)
        say("there is no such row" if row is None else _json(row))
        return
    with progress() as report:
        async with model.as_of(position, progress=lambda done, end: report(f"folding {name}", done, end)) as past:
            await _say_all(past, app.store.options.whole_log_chunk)


async def _say_all(model: ReadModel[Any], at_once: int) -> None:
    page = await model.page(page_size=at_once)
    while page.items:
        for row in page.items:
            say(_json(row))
        if not page.next_cursor:
            return
        page = await model.page(page_size=at_once, cursor=page.next_cursor)


def _moment(when: str) -> AsOf:
    """Return the moment that a text says.

    Raises:
        ValueError: it says none.
    """
    try:
        return Position.parse(when)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(when)
    except ValueError:
        raise ValueError(f"{when!r} is no position and no time; write 1200 or 2026-01-31T12:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"{when} has no time zone; write {when}Z for UTC, or {when}+01:00")
    return moment.astimezone(UTC)


def _as_json(key: str) -> str:
    try:
        msgspec.json.decode(key, type=list[object])
    except msgspec.DecodeError:
        return msgspec.json.encode([key]).decode()
    return key


def _json(row: object) -> str:
    return msgspec.json.encode(row).decode()
