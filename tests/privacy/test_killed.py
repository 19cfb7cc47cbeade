"""A process that is killed while it forgets has not begun, or the next one completes it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.privacy.guests import GUEST, hotel
from tests.synchronizing import PATIENCE, until

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("engine", "point"),
    [
        ("sqlite", "before the commit"),
        ("sqlite", "destroyed"),
        ("sqlite", "told"),
        ("sqlite", "building"),
        ("postgres", "built"),
    ],
)
async def test_a_killed_process_has_not_begun_or_the_next_one_completes_it(
    engine: str, point: str, tmp_path: Path, new_database: Callable[[int], str]
) -> None:
    url = f"sqlite:///{tmp_path}/log.db" if engine == "sqlite" else new_database(18)
    keys_url = f"sqlite:///{tmp_path}/keys.db" if engine == "sqlite" else url
    assert await killed(point, url, keys_url) == -signal.SIGKILL
    expected = GUEST["name"] if point == "before the commit" else "(forgotten)"
    async with hotel(url, keys_url) as app:

        async def completed() -> bool:
            return all(each.is_done for each in await app.privacy.forgotten())

        await until(completed)
        assert len(await app.privacy.forgotten()) == (point != "before the commit")
        await app.projections.wait(await app.store.head(), PATIENCE)
        for model in app.models.values():
            row = await model.get("g1")
            assert row is not None
            assert row.name == expected
        assert not await app.projections.control("guests").drop_previous()


async def killed(point: str, url: str, keys_url: str) -> int:
    """Return how a process ended that forgot, and was killed at a point."""
    arguments = ("-m", "tests.privacy.dying", point, url, keys_url)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, env=environment)
    try:
        return await asyncio.wait_for(process.wait(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
