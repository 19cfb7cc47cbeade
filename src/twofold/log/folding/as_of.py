"""Which position of the log an earlier moment is: states and rows as of it are folded from what stood there by then.

A time is looked up by halves, in about two looks for each doubling of the log. The times are those that the log has
recorded, by the clock of the server (PostgreSQL) or of the process that appended (SQLite). They follow the positions as
long as that clock is not set back. Where it was, one of several positions is right for a time; the same one each time.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from twofold.arguments import check_whole, shown
from twofold.errors import FuturePositionError
from twofold.log.chunks import event_at
from twofold.log.known_positions import KnownPositions
from twofold.messages.event import EPOCH
from twofold.messages.position import Position
from twofold.ports.event_log import EventLog

AsOf = Position | int | datetime
"""An earlier moment: a position of the log, such as that of a receipt or an event, or a time."""


def check_as_of(name: str, as_of: object) -> None:
    """Refuse what is no moment.

    Raises:
        TypeError: it is neither a whole number nor a time with a time zone.
        ValueError: it is negative.
    """
    if not isinstance(as_of, datetime):
        if not isinstance(as_of, int):
            raise TypeError(f"`{name}` is a position or a datetime, not {shown(as_of)}")
        check_whole(name, as_of)
    elif as_of.tzinfo is None:
        raise TypeError(f"`{name}` is a datetime without a time zone; write datetime(…, tzinfo=UTC)")


async def position_as_of(log: EventLog, known: KnownPositions, as_of: AsOf) -> Position:
    """Return the position at which the log ended at a moment.

    At a time, that is the position of an event that was recorded by then, and the one behind it, if there is one, was
    recorded later.

    Args:
        log: the log.
        known: tells whether a position is of the log's history.
        as_of: the moment.

    Raises:
        FuturePositionError: the log has not come there yet, or the time is still to come.
        InvalidTokenError: the position is of another history of the log.
        StorageError: the database failed.
    """
    if isinstance(as_of, datetime):
        as_of = await _end_at(log, as_of)
    await known.compare(as_of)
    if (mark := await log.mark(as_of)) is None:
        raise FuturePositionError(f"position {as_of}", await log.head())
    return Position(as_of, mark.event_id)


def microseconds_of(moment: datetime) -> int:
    """Return a moment in microseconds since 1970, as the log records times."""
    return (moment - EPOCH) // timedelta(microseconds=1)


async def last_recorded_by(log: EventLog, wanted: int, head: int) -> int:
    """Return the last position up to the head that was recorded by a time, in microseconds since 1970; 0 if none was.

    The positions that are looked at are the same ones however much is appended later.
    """
    found, step = 0, 1 << head.bit_length()
    while step := step >> 1:
        if found + step <= head and await _recorded_at(log, found + step) <= wanted:
            found += step
    return found


async def _end_at(log: EventLog, moment: datetime) -> int:
    wanted, head = microseconds_of(moment), await log.head()
    if wanted > time.time_ns() // 1000 and not (head and wanted <= await _recorded_at(log, head)):
        raise FuturePositionError(str(moment), head)
    return await last_recorded_by(log, wanted, head)


async def _recorded_at(log: EventLog, position: int) -> int:
    row = await event_at(log, position)
    assert row is not None  # noqa: S101 - the head was read before
    return row.recorded_at
