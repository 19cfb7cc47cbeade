"""Sessions: what one client has written and therefore wants to see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import Token
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from zlib import crc32

from twofold.arguments import check_number, check_whole, shown
from twofold.messages.context import Context, current_context, current_metadata, enter_context, leave_context
from twofold.messages.mark import Mark
from twofold.messages.receipt import Receipt
from twofold.messages.stream import ANY, ExpectedVersion, check_expected

MAX_MARKS = 32
"""Of more types and tags than these it is not remembered which they were."""

UNTAGGED = ""
"""Marks events without any tag: older code, which did not know of a tag, may have written them."""


@dataclass(frozen=True)
class WriteToken:
    """What an answer must show: all up to a position, of which some types and tags are known to be of interest."""

    position: int = 0
    """A `Position` if it is known which event stands there."""
    marks: frozenset[int] | None = frozenset()
    """Check sums of the types and tags; None: there may be any. Two names with one sum only cause a needless wait."""

    @classmethod
    def of(cls, after: Receipt[Any] | WriteToken | int) -> WriteToken:
        """Return what a receipt stands for, or all up to a position.

        Raises:
            TypeError, ValueError: it is none of these, or a negative number.
        """
        return _token("after", after)

    def merge(self, other: WriteToken) -> WriteToken:
        """Return what must be shown to show both."""
        if not self.position or not other.position:
            return other if other.position else self
        marks = None if self.marks is None or other.marks is None else self.marks | other.marks
        later = max(self, other, key=lambda each: (each.position, Mark.of(each.position).event_id)).position
        return WriteToken(later, marks if len(marks or ()) <= MAX_MARKS else None)

    def concerns(self, names: Iterable[str]) -> bool:
        """Return whether something with one of these types or tags may have been written."""
        return self.marks is None or not self.marks.isdisjoint(_marks(*names))

    def concerns_tags(self, tags: Iterable[str]) -> bool:
        """Return whether an event that has all of these tags may have been written."""
        return self.marks is None or _marks(*tags) <= self.marks or not self.marks.isdisjoint(_marks(UNTAGGED))


NOTHING_WRITTEN = WriteToken()


class Answered(Protocol):
    """How good an answer is: an `Answer` says so, and the query while it is asked."""

    @property
    def stale(self) -> bool:
        """Whether it does not show all that it had to show."""

    @property
    def age(self) -> timedelta | None:
        """Of the oldest event that is missing in it."""


@dataclass
class Session:
    """What one client has written and therefore wants to see, such as in one HTTP request; see `session`."""

    written: WriteToken = WriteToken()
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
    """Of the oldest of the stale answers; None: there is none, or its age is not known."""

    def note(self, receipt: Receipt[Any]) -> None:
        """Remember what a command has written."""
        self.receipt = receipt
        self.written = self.written.merge(WriteToken.of(receipt))

    def note_answer(self, answer: Answered) -> None:
        """Remember how good an answer was."""
        self.asked = True
        if answer.stale:
            self.stale = True
            self.age = max(filter(None, (self.age, answer.age)), default=None)

    def take_expected_version(self) -> ExpectedVersion:
        """Return the version that the next write expects of its stream, and forget it: it holds for one write."""
        expected, self.expected_version = self.expected_version, ANY
        return expected


def current_session() -> Session | None:
    """Return the session in which this code runs, if there is one."""
    found: Session | None = current_context().session
    return found


def enter_session(own: Session) -> Token[Context]:
    """Begin to run in a session; `twofold.messages.context.leave_context` ends it.

    Each request enters one, in a fifth of the time that `session` takes, which goes through two generators.
    """
    return enter_context(current_metadata(), own, current_context().unit)


@contextmanager
def session(
    written: WriteToken | Receipt[Any] | int = 0, *, wait: float | None = None, expected_version: ExpectedVersion = ANY
) -> Iterator[Session]:
    """Let all queries within the block show what was written before, and what the block's own commands write.

    Args:
        written: by earlier commands.
        wait: seconds that a query waits for it, instead of what its policy says.
        expected_version: of the stream that the first command writes to.

    Raises:
        TypeError, ValueError: an argument is of another type, or negative.
    """
    if wait is not None:
        check_number("wait", wait)
    check_expected(expected_version)
    inner = Session(_token("written", written), wait, expected_version)
    token = enter_session(inner)
    try:
        yield inner
    finally:
        leave_context(token)


def _token(name: str, written: Any) -> WriteToken:
    if isinstance(written, WriteToken):
        return written
    if isinstance(written, Receipt):
        names = (*written.types, *(written.tags or [UNTAGGED]))
        return WriteToken(written.position, _marks(*names) if written.types else None)
    if not isinstance(written, int):
        raise TypeError(f"`{name}` is a receipt, a WriteToken or a position, not {shown(written)}")
    check_whole(name, written)
    return WriteToken(written, None)


def _marks(*names: str) -> frozenset[int]:
    return frozenset(crc32(name.encode()) for name in names)
