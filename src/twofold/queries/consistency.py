"""Consistency: what an answer must show, how far the read models have come, and what happens when it is too late."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import Any, Protocol

from twofold.errors import StaleReadError
from twofold.messages.read_policy import Policy
from twofold.messages.session import Written

Tagging = Callable[[Any], str]
"""From a query to the tag that all events carry which its answer depends on."""


class Progress(Protocol):
    """How far the read models have come, and how to wait for them, in whichever process they are kept in step."""

    def projections(self) -> Collection[str]:
        """Return the names of the projections, in this process or elsewhere, that this process knows."""

    def handled(self, projection: str) -> frozenset[str]:
        """Return the stored names, aliases included, of the types of events that a projection handles."""

    def max_lag(self, projection: str) -> timedelta | None:
        """Return how far behind the log a projection may be; None if that was not declared."""

    def policy(self, projection: str) -> Policy | None:
        """Return the policy of the queries that read a projection; None if it declares none."""

    def reached(self, projection: str) -> int:
        """Return the position that a projection has passed for certain, as far as this process knows; asks nobody."""

    async def lag(self, projection: str) -> timedelta:
        """Return the age of the oldest event that a projection handles and has not handled yet; 0 if there is none.

        Cheap: it is asked before each query on a read model that has a `max_lag`.

        Raises:
            StorageError: the database failed.
        """

    async def wait(self, position: int, timeout: float, projections: Collection[str] | None = None) -> None:
        """Wait until the projections (by default all) have passed a position; `reached` is not below it then.

        With a `timeout` of 0 or less, look once.

        Raises:
            StaleReadError: they had not after `timeout` seconds.
            StorageError: the database failed.
        """

    async def head(self) -> int:
        """Return the head of the log.

        Raises:
            StorageError: the database failed.
        """


async def catch_up(
    progress: Progress, reads: Collection[str], written: Written, tag: str | None, timeout: float
) -> StaleReadError | None:
    """Wait until read models show what was written, and none is behind by more than its `max_lag`.

    Only those are waited for that handle one of the types that were written; and none, if the query is about one tag
    only and that was not written.

    Returns:
        What is missing, if the time is over.

    Raises:
        StorageError: the database failed.
    """
    deadline = time.monotonic() + timeout
    if written.position and (tag is None or written.concerns([tag])):
        concerned = [name for name in reads if written.concerns(progress.handled(name))]
        if reached_by(progress, concerned) < written.position:
            try:
                await progress.wait(written.position, timeout, concerned)
            except StaleReadError as late:
                return late
    if lagging := await _lagging(progress, reads):
        try:
            await progress.wait(await progress.head(), deadline - time.monotonic(), lagging)
        except StaleReadError as late:
            return late if await _lagging(progress, lagging) else None
    return None


def reached_by(progress: Progress, reads: Iterable[str]) -> int:
    """Return the position that all of these projections have passed for certain; 0 if there are none."""
    return min(map(progress.reached, reads), default=0)


async def age_of(progress: Progress, reads: Collection[str]) -> timedelta | None:
    """Return the age of the oldest event that one of the read models misses; None if they miss none.

    Raises:
        StorageError: the database failed.
    """
    return max([await progress.lag(name) for name in reads], default=timedelta(0)) or None


async def _lagging(progress: Progress, reads: Collection[str]) -> list[str]:
    limits = {name: limit for name in reads if (limit := progress.max_lag(name)) is not None}
    return [name for name, limit in limits.items() if await progress.lag(name) > limit]
