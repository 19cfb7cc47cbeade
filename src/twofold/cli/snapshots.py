"""Commands for stored snapshots: `twofold snapshots list | verify | delete`."""

from __future__ import annotations

from typing import Annotated, cast

from cyclopts import App, Parameter
from rich.filesize import decimal

from twofold.cli.applications import opened_store
from twofold.cli.output import Json, answer, opened, print_table, say_document
from twofold.cli.rebuilds import Code, Url
from twofold.log.integrity.snapshots import compare_snapshots, stored_snapshots
from twofold.ports.snapshots import SnapshotLog
from twofold.processes.instance import moment_of

FOLD = "Only those of this fold, as `list` shows it, such as `aggregate Order`."
SUBJECT = "Only those of this stream or event query, as `list` shows it."

app = App(
    name="snapshots",
    help=(
        "Look after stored snapshots: states that were folded from long streams and long decisions. They are a cache; "
        "whatever is deleted is folded again."
    ),
)


@app.command(name="list")
async def list_(url: str, /, *, as_json: Json = False) -> None:
    """Show which snapshots there are, and up to which event of a stream or position of the log each one goes.

    Example: `twofold snapshots list sqlite:///orders.db`

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    """
    async with opened(url) as log:
        found = [each async for each in stored_snapshots(log)]
    for each in found if as_json else ():
        say_document(
            {
                "fold": each.fold, "of": each.subject, "version": each.version, "position": each.position,
                "size": len(each.state), "saved_at": moment_of(each.saved_at),
            }
        )  # fmt: skip
    if as_json:
        return
    rows = [
        (
            each.fold, each.subject, f"{each.version:,}" if each.version else "", f"{each.position:,}",
            decimal(len(each.state)), moment_of(each.saved_at).isoformat(" ", "seconds"),
        )
        for each in found
    ]  # fmt: skip
    headings = ("fold", "of", "version", "position", "size", "saved at")
    print_table(headings, rows, numbers=("version", "position", "size"))


@app.command
async def verify(application: Code, /, *, url: Url = "", as_json: Json = False) -> None:
    """Compare the snapshots with their checksums, and those of aggregates and deciders with what their events fold to.

    Prints the first that is wrong, with exit code 1. `twofold verify` compares the checksums alone, without code.

    Example: `twofold snapshots verify orders.app:build --url sqlite:///orders.db`
    """
    async with opened_store(application, url) as store:
        found = await compare_snapshots(store)
    text = (
        f"all {found.intact:,} snapshots are intact; {found.compared:,} are what their events fold to, "
        f"{found.of_other_code:,} are of code that is not here, {found.of_other_history:,} of another history"
    )
    answer(text, found._asdict(), as_json=as_json)


@app.command
async def delete(
    url: str,
    /,
    *,
    fold: Annotated[str, Parameter(help=FOLD)] = "",
    subject: Annotated[str, Parameter(name="--of", help=SUBJECT)] = "",
    as_json: Json = False,
) -> None:
    """Delete snapshots, by default all of them. Applications may go on; they fold again what they need.

    Example: `twofold snapshots delete sqlite:///orders.db --fold "aggregate Order"`

    Parameters
    ----------
    url:
        The database, such as sqlite:///orders.db.
    """
    async with opened(url) as log:
        deleted = await cast(SnapshotLog, log).delete_snapshots(fold or None, subject or None)
    answer(f"deleted {deleted:,} snapshots", {"deleted": deleted}, as_json=as_json)
