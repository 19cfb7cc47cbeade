"""`twofold commands prune`, as an operator types it."""

from __future__ import annotations

import asyncio

import pytest
from tests.accounts import Open, wire
from tests.cli.typed import Fails, Twofold

from twofold import Application, metadata


async def write(url: str, *tenants: str) -> None:
    async with Application(url, tenants=True, synchronize=False) as app:
        wire(app)
        for tenant in tenants:
            with metadata(tenant=tenant):
                await app.commands.execute(Open(account="a"))


def test_old_records_are_counted_and_then_removed(url: str, twofold: Twofold) -> None:
    asyncio.run(write(url, "acme", "zen", "zen2"))
    assert "0 records of commands are that old" in twofold("commands", "prune", url).stdout
    assert "3 records of commands are that old" in twofold("commands", "prune", url, "--older-than", "0m").stdout
    assert "1 records" in twofold("commands", "prune", url, "--older-than", "0m", "--tenant", "zen", "--yes").stdout
    assert (
        "2 records of commands were removed" in twofold("commands", "prune", url, "--older-than", "0d", "--yes").stdout
    )
    assert "0 records" in twofold("commands", "prune", url, "--older-than", "0d", "--yes").stdout


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(("--older-than", "soon"), "write 90d"), (("--tenant", "a/b"), "cannot be the name of a tenant")],
)
def test_what_cannot_be_meant_is_refused(url: str, fails: Fails, wrong: tuple[str, str], said: str) -> None:
    asyncio.run(write(url, "acme"))
    assert said in fails("commands", "prune", url, *wrong)
