"""`twofold demo`: kill a shop while it takes orders, start it again, and count.

1. A child process takes orders as fast as it can, and prints each one that was acknowledged.
2. This process keeps the list, and kills the child with SIGKILL in the middle of its work.
3. The next child begins at the first order that was not acknowledged: it sends many of them for the second time.
4. At the end the list is compared with the log, and the log with the read model.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple, cast

from cyclopts import Parameter

from twofold import Application
from twofold.cli.output import Json, say, say_document
from twofold.cli.starting.serving import Port, require_server, serve
from twofold.cli.starting.teashop import GetSales, OrderTaken, build
from twofold.log.verify import verify_log
from twofold.ports.maintenance import PortableLog

PATIENCE = 120.0
"""Seconds for a child to start, and for the read model to count the orders."""


class Found(NamedTuple):
    """What the count came to."""

    acknowledged: int
    stored: int
    lost: int
    """Orders that were acknowledged and are not in the log."""
    doubled: int
    """Orders that are in the log more than once."""
    counted: int
    """Orders that the read model has counted."""
    kills: int

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost or doubled, and the read model shows each order once."""
        return not self.lost and not self.doubled and self.counted == self.stored


def demo(
    *,
    seconds: Annotated[float, Parameter(help="For how long orders are taken.")] = 16.0,
    kills: Annotated[int, Parameter(help="How often the shop is killed.")] = 4,
    serve_it: Annotated[bool, Parameter(name="--serve", negative="", help="Show the dashboard at the end.")] = False,
    port: Port = 8765,
    as_json: Json = False,
) -> int:
    """Kill a shop with kill -9 while it takes orders, start it again, and count: nothing lost, nothing doubled.

    It takes some twenty seconds in a temporary folder, and leaves nothing behind. The exit code is 1 if an
    acknowledged order is missing, or one is there twice.

    Example: `twofold demo --serve`
    """
    if kills < 1 or seconds <= 0:
        raise ValueError("--kills is 1 or more, and --seconds more than 0")
    if serve_it:
        require_server()
    with TemporaryDirectory(prefix="twofold-demo-") as folder:
        return asyncio.run(_demonstrate(Path(folder), seconds / kills, kills, port if serve_it else None, as_json))


async def _demonstrate(folder: Path, seconds: float, kills: int, port: int | None, as_json: bool) -> int:
    url = f"sqlite:///{folder / 'shop.db'}"
    acknowledged: set[int] = set()
    for number in range(1, kills + 1):
        before = len(acknowledged)
        await _take_orders_and_kill(url, seconds, acknowledged)
        if not as_json:
            say(f"kill -9, number {number}: {len(acknowledged) - before:,} more orders were acknowledged until then")
    app = build(url)
    async with app:
        found = await _count(app, acknowledged, kills)
    _tell(found, as_json=as_json)
    if port is not None:
        await serve(build(url), port, as_json=as_json)
    elif not as_json:
        say("see what such a log holds: twofold demo --serve; begin a project of your own: twofold new NAME")
    return int(not found.is_good)


async def _take_orders_and_kill(url: str, seconds: float, acknowledged: set[int]) -> None:
    """Let a child take orders for some time, and kill it; add what it has acknowledged."""
    first = 1
    while first in acknowledged:
        first += 1
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "twofold.cli.starting.customers", url, str(first), stdout=asyncio.subprocess.PIPE
    )
    said = cast(asyncio.StreamReader, child.stdout)
    try:
        async with asyncio.timeout(PATIENCE):
            acknowledged.update(_number(await said.readline()))
        await _listen(said, seconds, acknowledged)
    finally:
        if child.returncode is None:
            child.kill()
    async for line in said:  # what it said before it died
        acknowledged.update(_number(line))
    if await child.wait() != -9:
        raise OSError("the shop ended before it was killed; what it said stands above")


async def _listen(said: asyncio.StreamReader, seconds: float, acknowledged: set[int]) -> None:
    try:
        async with asyncio.timeout(seconds):
            async for line in said:
                acknowledged.update(_number(line))
    except TimeoutError:
        pass


def _number(line: bytes) -> list[int]:
    """Return the number that a line names; none, if the kill has cut it off."""
    return [int(line)] if line.endswith(b"\n") else []


async def _count(app: Application, acknowledged: set[int], kills: int) -> Found:
    await verify_log(cast(PortableLog, app.store.log))
    stored: Counter[int] = Counter()
    async for recorded in app.store.read():
        stored[cast(OrderTaken, recorded.event).number] += 1
    await app.projections.wait(await app.store.head(), PATIENCE)
    sales = await app.queries.dispatch(GetSales())
    return Found(
        acknowledged=len(acknowledged),
        stored=stored.total(),
        lost=len(acknowledged - stored.keys()),
        doubled=sum(number > 1 for number in stored.values()),
        counted=sum(row.orders for row in sales),
        kills=kills,
    )


def _tell(found: Found, *, as_json: bool) -> None:
    if as_json:
        say_document(found._asdict())
        return
    say(f"{found.acknowledged:,} orders were acknowledged; {found.stored:,} are in the log, and all are intact")
    if cut_off := found.stored - found.acknowledged:
        say(f"({cut_off:,} of them were stored when the kill cut their acknowledgement off)")
    say(f"the read model, which was killed with the shop, counts {found.counted:,}")
    lost = f"{found.lost:,} orders lost" if found.lost else "nothing lost"
    doubled = f"{found.doubled:,} orders doubled" if found.doubled else "nothing doubled"
    say(f"{lost}, {doubled}")
