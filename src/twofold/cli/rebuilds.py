"""Commands that need the application's code: `twofold rebuild | roll-back | cancel-rebuild`."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from twofold.cli.applications import FORM, load
from twofold.cli.output import InterruptedByUserError, Json, Yes, answer, confirmed, progress
from twofold.synchronizer.rebuild_progress import RebuildProgress

Code = Annotated[str, Parameter(help=f"An `Application`, or a function that returns one, as {FORM}.")]
Name = Annotated[str, Parameter(help="The projection.")]
Url = Annotated[str, Parameter(help="The database, if the function takes one.")]
SAME = "Refuse it if any row differs from the one that serves, as after a change that should change nothing."


async def rebuild(
    application: Code,
    name: Name,
    /,
    *,
    url: Url = "",
    expect_same: Annotated[bool, Parameter(help=SAME, negative="")] = False,
    as_json: Json = False,
) -> None:
    """Rebuild a read model from the log, verify it, and let it serve; the earlier generation serves until then.

    This process and all workers of the application share the work. Interrupted, it goes on wherever workers run;
    run it again to see how far it is. The earlier read model is kept for `twofold roll-back`, until
    `twofold projections drop-previous` or the next rebuild.

    Example: `twofold rebuild orders.app:build order_views --url sqlite:///orders.db`
    """
    app = load(application, url)
    async with app:
        with progress() as report:

            def tell(found: RebuildProgress) -> None:
                report(f"building {name}", found.position, found.head)

            try:
                done = await app.projections.rebuild_projection(name, expect_same=expect_same, progress=tell)
            except asyncio.CancelledError:
                raise InterruptedByUserError(
                    f"the rebuild of {name} goes on wherever workers run; `twofold rebuild` follows it again, "
                    f"`twofold cancel-rebuild` drops it"
                ) from None
    rows = f": {done.rows_after:,} rows, {done.sampled} compared with the log" if done.rows_after is not None else ""
    facts = {"projection": name, "rows": done.rows_after, "compared": done.sampled}
    answer(f"the new read model {name} serves{rows}", facts, as_json=as_json)


async def roll_back(application: Code, name: Name, /, *, url: Url = "", as_json: Json = False) -> None:
    """Let the read model serve again that served before the last rebuild, as complete as the present one.

    The present one is kept in its place, so that this can be undone in the same way.

    Example: `twofold roll-back orders.app:build order_views --url sqlite:///orders.db`
    """
    app = load(application, url)
    async with app:
        await app.projections.control(name).roll_back()
    answer(f"the earlier read model {name} serves again", {"projection": name}, as_json=as_json)


async def cancel_rebuild(
    application: Code, name: Name, /, *, url: Url = "", yes: Yes = False, as_json: Json = False
) -> None:
    """Drop a read model that is being built, or that failed its verification; the one that serves is not touched.

    Example: `twofold cancel-rebuild orders.app:build order_views --url sqlite:///orders.db --yes`
    """
    confirmed(f"what is built of {name} will be dropped", yes=yes)
    app = load(application, url)
    async with app:
        cancelled = await app.projections.control(name).cancel_rebuild()
    text = f"the rebuild of {name} is cancelled" if cancelled else f"no rebuild of {name} is under way"
    answer(text, {"projection": name, "cancelled": cancelled}, as_json=as_json)
