"""What an answer must show, and what came of waiting for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, Self

from twofold.errors import StaleReadError
from twofold.messages.event import ANY_TYPE
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.messages.session import Session, WriteToken, current_session
from twofold.queries.scope import Scope
from twofold.queries.serving import Serving

Tagging = Callable[[Any], str]
"""From a query to the tag that all events carry which its answer depends on."""


class Progress(Protocol):
    """How far one read model has come where it answers, and waiting for it, whichever process keeps it in step."""

    name: str
    """Of the projection."""

    async def fault(self) -> str:
        """Return what holds the read model up, in this process or in another one; empty if nothing does.

        Raises:
            StorageError: the database failed.
        """

    @property
    def handled(self) -> frozenset[str]:
        """The stored names, aliases included, of the types of events that the projection handles."""

    @property
    def policy(self) -> ReadPolicy | None:
        """The policy of the questions to it; None if the projection declares none."""

    @property
    def reached(self) -> int:
        """The position that it has passed, as far as this process knows; no database is asked."""

    def at_hand(self) -> AtHand | None:
        """Return the generation that answers, if it is known, and known not to be late; nothing is waited for.

        None says that a database has to be asked first, as `find` and `is_late` do.
        """

    async def find(self) -> Serving:
        """Return the generation that answers.

        Raises:
            UnknownProjectionError: nothing was prepared.
            ReadModelBuildingError: it is being built, and what serves has other columns.
            StorageError: a database failed.
        """

    async def approach(self, position: int, deadline: float, poll: float | None = None) -> Serving:
        """Return the generation that answers, once this process believes that it has passed a position.

        A belief is no proof: the position counts that is read together with the rows. After `deadline`, by
        `time.monotonic`, the generation is looked up once more and returned as it stands. It is also looked up each
        `poll` seconds, by default as often as the options say.

        Raises:
            UnknownProjectionError, ReadModelBuildingError, StorageError: as `find`.
        """

    def correct(self, serving: Serving, position: int) -> None:
        """Give up a belief: the generation was read, and had come only to this position."""

    async def still_serves(self, serving: Serving) -> bool:
        """Look up whether a generation answers yet.

        Raises:
            StorageError: the database failed.
        """

    async def misses_nothing(self, position: int, end: int) -> bool:
        """Return whether the log holds no event of the projection's types behind one position and up to another.

        A log that ends before the other position was restored since that was read: what it held there is not known.

        Raises:
            StorageError: the database failed.
        """

    async def wait(self, position: int, deadline: float) -> int:
        """Wait until the generation that answers has passed a position; return how far it has come.

        That is read after the call began: what this process saw earlier may be of a history that the log has lost.

        Raises:
            UnknownProjectionError, ReadModelBuildingError, StorageError: as `find`.
        """

    async def lag(self) -> timedelta:
        """Return the age of the oldest event that the read model misses; 0 if it misses none.

        Raises:
            StorageError: a database failed.
        """

    async def is_late(self) -> bool:
        """Return whether the read model is further behind the log than its `max_lag` allows.

        Raises:
            StorageError: a database failed.
        """

    async def compare(self, position: int) -> None:
        """Make sure that a position which an answer must show is of the log's history.

        Raises:
            InvalidTokenError: it is not.
            StorageError: the database failed.
        """

    async def head(self) -> int:
        """Return the head of the log.

        Raises:
            StorageError: the database failed.
        """

    async def refuse_parked(self, key: str) -> None:
        """Raise if the read model does not answer at all while events of a row (or, if empty, of any) are parked.

        Raises:
            ProjectionFailedError: it does not.
            StorageError: a database failed.
        """


class AtHand(NamedTuple):
    """The generation that answers, as far as this process knows it without asking a database."""

    serving: Serving
    reached: int
    """The position that it has passed."""


class Need(NamedTuple):
    """What one answer waits for."""

    written: int = 0
    """The position that it must show."""
    position: int = 0
    """The position that is waited for: a later one if the read model is behind by more than its `max_lag`."""


class Asking:
    """One query, while it is answered: what its read models must show, how long they may take, and what came of it.

    `with asking:` lets the read models that are asked within the block show that, and notes what came of it.

    Args:
        written: what the answer must show.
        policy: the query's own; by default that of the projection whose read model is asked.
        default: for projections that declare none.
        timeout: seconds to wait, at most, instead of what the policies say.
    """

    def __init__(
        self,
        written: WriteToken,
        *,
        policy: ReadPolicy | None = None,
        default: ReadPolicy = ReadPolicy(),  # noqa: B008 - it is immutable
        timeout: float | None = None,
    ) -> None:
        self.written = written
        self.asked: dict[str, Progress] = {}
        """The read models that were asked, by name."""
        self.is_watched = False
        """Whether the asker wants to know the scopes."""
        self.scopes: list[Scope] = []
        """The events on which the answer depends, with their tags if it is watched."""
        self.questions = 0
        """How many questions were answered."""
        self.stale = False
        self.age: timedelta | None = None
        self.position: int | None = None
        """The lowest position of what the read models showed; None before one was asked."""
        self.is_over = False
        """Whether the query was answered: what its handler left running asks for itself."""
        self._policy = policy
        self._default = default
        self._timeout = timeout
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self.is_over, self._token = False, _asking.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        _asking.reset(self._token)

    @property
    def needs_tags(self) -> bool:
        """Whether it matters which tags the events have that an answer depends on."""
        return self.is_watched or self.written.position > 0

    def policy_of(self, progress: Progress) -> ReadPolicy:
        """Return the policy of questions to a read model."""
        return self._policy or progress.policy or self._default

    def folds(self, progress: Progress) -> bool:
        """Return whether what a row of a read model lacks is folded over it when it is late."""
        return self.policy_of(progress).then is WhenLate.OVERLAY

    def deadline(self, progress: Progress) -> float:
        """Return until when a read model is waited for, by `time.monotonic`."""
        return self._started + (self.policy_of(progress).wait if self._timeout is None else self._timeout)

    async def need(
        self, progress: Progress, tags: Mapping[str, Collection[str]] | None = None, tenant: str = ""
    ) -> Need:
        """Return what an answer of a read model waits for.

        Args:
            progress: of the read model.
            tags: for types of events, by stored name, the tags that their events have if the answer depends on them;
                types that are not named may matter whatever their tags are.
            tenant: whose events the answer depends on; by default anybody's.

        Raises:
            InvalidTokenError: what it must show is of another history of the log.
            StorageError: a database failed.
        """
        self.scopes.append(Scope(progress.handled, tags or {}, tenant))
        written = self.written.position if self.written.position and self._concerns(progress, tags or {}) else 0
        if written:
            await progress.compare(written)
        return Need(written, max(written, await progress.head()) if await progress.is_late() else written)

    def _concerns(self, progress: Progress, tags: Mapping[str, Collection[str]]) -> bool:
        return any(
            (name == ANY_TYPE or self.written.concerns([name])) and self.written.concerns_tags(tags.get(name, ()))
            for name in progress.handled
        )

    async def judge(self, progress: Progress, need: Need, reached: int) -> bool:
        """Return whether an answer of a read model is stale.

        Raises:
            StaleReadError: it is, and its policy is to refuse then.
            InvalidTokenError: what it must show is of another history of the log by now.
            StorageError: a database failed.
        """
        if need.written:
            await progress.compare(need.written)
        is_stale = reached < need.position and (reached < need.written or await progress.is_late())
        if is_stale and self.policy_of(progress).then is WhenLate.REFUSE:
            raise StaleReadError(need.position, {progress.name: reached}, {progress.name: await progress.fault()})
        return is_stale

    def note(self, progress: Progress, position: int, *, stale: bool = False, age: timedelta | None = None) -> None:
        """Take note of what a read model has answered."""
        self.asked[progress.name] = progress
        self.note_position(position, stale=stale, age=age)

    def note_position(self, position: int, *, stale: bool, age: timedelta | None = None) -> None:
        """Take note of an answer: the position of the log that it is of, and whether it is stale."""
        self.questions += 1
        if stale:
            self.stale = True
            self.age = max(filter(None, (self.age, age)), default=None)
        self.position = position if self.position is None else min(self.position, position)

    def include(self, other: Asking) -> None:
        """Take note of what another query has asked on behalf of this one."""
        self.scopes += other.scopes
        for progress in other.asked.values():
            self.note(progress, other.position or 0, stale=other.stale, age=other.age)


class _SessionAsking(Asking):
    """A question to a read model within a session, past the query bus."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.written, timeout=session.wait)
        self._session = session

    def note_position(self, position: int, *, stale: bool, age: timedelta | None = None) -> None:
        super().note_position(position, stale=stale, age=age)
        self._session.note_answer(self)


_asking: ContextVar[Asking | None] = ContextVar("twofold_asking", default=None)


def current_asking() -> Asking | None:
    """Return what questions to read models must show here and now: the query's, or else the session's, if there is."""
    asking = _asking.get()
    if asking is not None and asking.is_over:
        asking = None
    if asking is None and (session := current_session()) and session.written.position:
        return _SessionAsking(session)
    return asking


async def wait_for(progresses: Collection[Progress], position: int, deadline: float) -> None:
    """Wait until read models have passed a position, as it was read.

    Raises:
        StaleReadError: some had not by the deadline.
        StorageError: a database failed.
    """
    reached = await asyncio.gather(*(each.wait(position, deadline) for each in progresses))
    behind = {each.name: at for each, at in zip(progresses, reached, strict=True) if at < position}
    if behind:
        raise StaleReadError(position, behind, {each.name: await each.fault() for each in progresses})


async def catch_up(asking: Asking, progresses: Collection[Progress], tags: Collection[str] = ()) -> None:
    """Wait until read models show what a query must show, and note how far they have come.

    Args:
        asking: the query.
        progresses: of the read models.
        tags: if any, those that all events have on which the answer depends.

    Raises:
        StaleReadError: some did not get there in time, and their policy is to refuse then.
        StorageError: a database failed.
    """
    late = [each for each in await asyncio.gather(*(_arrive(asking, each, tags) for each in progresses)) if each]
    if late:
        behind = {name: at for each in late for name, at in each.behind.items()}
        faults = {each.name: await each.fault() for each in progresses}
        raise StaleReadError(max(each.position for each in late), behind, faults)


async def _arrive(asking: Asking, progress: Progress, tags: Collection[str]) -> StaleReadError | None:
    need = await asking.need(progress, dict.fromkeys(progress.handled, tags))
    reached = await progress.wait(need.position, asking.deadline(progress)) if need.position else progress.reached
    try:
        stale = await asking.judge(progress, need, reached)
    except StaleReadError as late:
        return late
    asking.note(progress, reached, stale=stale, age=(await progress.lag() or None) if stale else None)
    return None
