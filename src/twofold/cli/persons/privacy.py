"""Commands for the persons of whom an application keeps data: `twofold privacy …`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated

from cyclopts import App, Parameter

from twofold.application import Application
from twofold.cli.applications import load
from twofold.cli.output import Json, Yes, answer, confirmed, opened, print_table, progress, say_document
from twofold.cli.rebuilds import Code, Url
from twofold.log.event_store import EventStore
from twofold.log.keys.master_key import new_master_key
from twofold.messages.context import metadata
from twofold.privacy.sealing import seal_log

TENANT = "Whose subject it is, in an application with tenants."
REASON = "Why; it is recorded. Name no person."
BY = "Who asked for it; it is recorded."
Tenant = Annotated[str, Parameter(help=TENANT)]

app = App(
    name="privacy",
    help=(
        "Tell, export and forget what an application knows of persons. The master key is in TWOFOLD_MASTER_KEY or in "
        "the file TWOFOLD_MASTER_KEY_FILE."
    ),
)


@app.command(name="new-key")
def new_key(*, as_json: Json = False) -> None:
    """Print a new master key. Keep it where secrets are kept, and apart from the databases.

    Example: `twofold privacy new-key `
    """
    key = new_master_key()
    answer(key, {"key": key}, as_json=as_json)


@app.command(name="list")
async def list_(application: Code, /, *, tenant: Tenant = "", url: Url = "", as_json: Json = False) -> None:
    """Show the persons of whom there may be personal data, and those that were forgotten, by their digests.

    Example: `twofold privacy list orders.app:build --url sqlite:///orders.db`
    """
    async with _opened(application, url) as store:
        with _of(tenant):
            known, forgotten = await store.privacy.subjects(), await store.privacy.forgotten()
    rows = [(each.subject, f"{each.since:%Y-%m-%d}", "known", "", "") for each in known]
    rows += [
        (each.digest, f"{each.at:%Y-%m-%d}", "forgotten" if each.is_done else "being forgotten", each.reason, each.by)
        for each in forgotten
    ]
    headings = ("subject", "since", "state", "reason", "by")
    if as_json:
        for row in rows:
            say_document(dict(zip(headings, row, strict=True)))
    else:
        print_table(headings, rows)


@app.command
async def export(
    application: Code, subject: str, /, *, tenant: Tenant = "", url: Url = "", as_json: Json = True
) -> None:
    """Print all events that hold personal data of a person, as JSON Lines: the answer to a request for access.

    Example: `twofold privacy export orders.app:build c1 --url sqlite:///orders.db`

    Parameters
    ----------
    subject:
        The value of the field that is marked with Subject().
    """
    async with _opened(application, url) as store:
        with _of(tenant):
            async for each in store.privacy.export(subject):
                say_document(each)


@app.command
async def forget(
    application: Code,
    subject: str,
    /,
    *,
    reason: Annotated[str, Parameter(help=REASON)],
    by: Annotated[str, Parameter(help=BY)],
    tenant: Tenant = "",
    url: Url = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Forget a person: the key is destroyed, and what was made of the personal data is made again without it.

    It cannot be undone. The command runs as one more process of the application until that is done. Interrupted, it is
    completed by the next process of the application that starts.

    Example: `twofold privacy forget orders.app:build c1 --reason "request of 3 May" --by support --yes`

    Parameters
    ----------
    subject:
        The value of the field that is marked with Subject().
    """
    confirmed(f"all that is known of {subject} will be forgotten", yes=yes)
    async with load(application, url) as app:
        with _of(tenant):
            report = await app.privacy.forget(subject, reason=reason, by=by)
    built = ", ".join(report.read_models) or "none"
    text = (
        f"forgotten as number {report.number}, digest {report.digest}: {report.events:,} events in {report.streams:,} "
        f"streams; read models built again: {built}; snapshots deleted: {report.snapshots:,}"
    )
    answer(text, report, as_json=as_json)


@app.command
async def rotate(application: Code, /, *, url: Url = "", as_json: Json = False) -> None:
    """Wrap all keys with the present master key; the former ones are in TWOFOLD_FORMER_MASTER_KEYS, with commas.

    Applications may go on if they know both keys. Destroy the former master key afterwards: backups of the key store
    that were made before, with keys of persons who are forgotten, cannot be read then.

    Example: `twofold privacy rotate orders.app:build --url sqlite:///orders.db`
    """
    async with _opened(application, url) as found:
        count = await found.privacy.rewrap()
    answer(f"{count:,} keys were wrapped again", {"wrapped": count}, as_json=as_json)


@app.command
async def seal(application: Code, target: str, /, *, url: Url = "", as_json: Json = False) -> None:
    """Copy a log that holds personal data in plain text into a new one, with the personal fields encrypted.

    Interrupted, it goes on when it is run again. Destroy the old log and its backups when the copy is in use.

    Example: `twofold privacy seal orders.app:build sqlite:///sealed.db --url sqlite:///orders.db`

    Parameters
    ----------
    target:
        The database to write, such as sqlite:///sealed.db.
    """
    async with _opened(application, url) as found, opened(target, migrate=True) as log:
        with progress() as report:
            moved = await seal_log(found.store, EventStore(log), progress=report)
    answer(f"{target} holds {moved.written:,} events", {"events": moved.written}, as_json=as_json)


@asynccontextmanager
async def _opened(name: str, url: str) -> AsyncIterator[Application]:
    """Load an application and open its log and its keys, and nothing else of it."""
    found = load(name, url)
    async with found.store:
        yield found


@contextmanager
def _of(tenant: str) -> Iterator[None]:
    if tenant:
        with metadata(tenant=tenant):
            yield
    else:
        yield
