"""Consistency: what an answer must show, how far the read models have come, and what happens when it is too late."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar
from zlib import crc32

from twofold.errors import StaleReadError
from twofold.policy import Policy
from twofold.receipt import Receipt
from twofold.streams import ANY, ExpectedVersion

T_co = TypeVar("T_co", covariant=True)

Tagging = Callable[[Any], str]
"""From a query to the tag that all events carry which its answer depends on."""

MAX_MARKS = 32
"""Of more types and tags than these it is not remembered which they were."""


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


@dataclass(frozen=True)
class Answer(Generic[T_co]):
    """The answer to a query, and whether it is all that was asked for."""

    value: T_co
    stale: bool = False
    """It does not show what it had to show, or is older than a `max_lag` allows."""
    age: timedelta | None = None
    """Of a stale answer: the age of the oldest event that is missing in it; None if that is not known."""
    position: int = field(default=0, compare=False)
    """All up to this position of the log is in it, for certain."""


@dataclass(frozen=True)
class Written:
    """What an answer must show: all up to a position, of which some types and tags are known to be of interest."""

    position: int = 0
    marks: frozenset[int] | None = frozenset()
    """Check sums of the types and tags; None: there may be any. Two names with one sum only cause a needless wait."""

    @classmethod
    def of(cls, after: Receipt[Any] | Written | int) -> Written:
        """Return what a receipt stands for, or all up to a position."""
        if isinstance(after, Written):
            return after
        if isinstance(after, int):
            return cls(after, None)
        return cls(after.position, _marks(*after.types, *after.tags) if after.types else None)

    def merge(self, other: Written) -> Written:
        """Return what must be shown to show both."""
        if not self.position or not other.position:
            return other if other.position else self
        marks = None if self.marks is None or other.marks is None else self.marks | other.marks
        return Written(max(self.position, other.position), marks if len(marks or ()) <= MAX_MARKS else None)

    def concerns(self, names: Iterable[str]) -> bool:
        """Return whether something with one of these types or tags may have been written."""
        return self.marks is None or not self.marks.isdisjoint(_marks(*names))


@dataclass
class Session:
    """What one client has written and therefore wants to see, such as in one HTTP request; see `session`."""

    written: Written = Written()
    """What every answer must show. Each command adds what it writes."""
    wait: float | None = None
    """Seconds that the client will wait, instead of what the queries' policies say."""
    expected_version: ExpectedVersion = ANY
    """What the first command expects of the stream that it writes to, besides what its handler expects of it."""
    receipt: Receipt[Any] | None = None
    """The receipt of the last command."""
    asked: bool = False
    """Whether a query was answered."""
    stale: bool = False
    """Whether one of the answers was stale."""
    age: timedelta | None = None
    """Of the oldest of the stale answers, as far as it is known."""

    def note(self, receipt: Receipt[Any]) -> None:
        """Remember what a command has written."""
        self.receipt = receipt
        self.written = self.written.merge(Written.of(receipt))

    def note_answer(self, answer: Answer[Any]) -> None:
        """Remember how good an answer was."""
        self.asked, self.stale = True, self.stale or answer.stale
        self.age = max(filter(None, (self.age, answer.age)), default=None)

    def take_expected_version(self) -> ExpectedVersion:
        """Return what is expected of the stream, once."""
        expected, self.expected_version = self.expected_version, ANY
        return expected


_session: ContextVar[Session | None] = ContextVar("twofold_session", default=None)


def current_session() -> Session | None:
    """Return the session in which this code runs, if there is one."""
    return _session.get()


@contextmanager
def session(
    written: Written | Receipt[Any] | int = 0, *, wait: float | None = None, expected_version: ExpectedVersion = ANY
) -> Iterator[Session]:
    """Let all queries within the block show what was written before, and what the block's own commands write.

    Args:
        written: by earlier commands.
        wait: seconds that a query waits for it, instead of what its policy says.
        expected_version: of the stream that the first command writes to.
    """
    inner = Session(Written.of(written), wait, expected_version)
    token = _session.set(inner)
    try:
        yield inner
    finally:
        _session.reset(token)


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


def _marks(*names: str) -> frozenset[int]:
    return frozenset(crc32(name.encode()) for name in names)
