"""Whatever a commit raises, each caller of its group gets an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from twofold.engines.postgres.log.lane import Lane
from twofold.errors import OutcomeUnknownError
from twofold.options import PostgresOptions
from twofold.testing.samples import append_of, new_event


class Interrupted:
    """Commits nothing: a task of the driver's own was cancelled, and let that out."""

    async def commit(self, batch: Any) -> Any:
        raise asyncio.CancelledError("of a task of the driver's own")


async def test_a_cancellation_that_is_not_the_lanes_own_leaves_no_caller_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("CRITICAL", "twofold")
    lane = Lane(Interrupted(), PostgresOptions())
    waiting = [lane.submit(append_of(new_event("Note-1"))) for _ in range(40)]
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert {type(each) for each in outcomes} == {OutcomeUnknownError}
