"""Stays of guests: rows that need what earlier events said of another thing, and the guests, whom they read."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from tests.projections.bookings import Booked, Cancelled, Merged, Moved, Renamed
from tests.synchronizing import QUICK, engine_at

from twofold import Index, Key, Projection, ReadModelSynchronizer, RecordedEvent, on
from twofold.projections.reading.joint_runner import JointRunner


@dataclass(frozen=True)
class Guest:
    guest_id: Annotated[str, Key()]
    name: str
    renames: int = 0


@dataclass(frozen=True)
class Stay:
    reservation_id: Annotated[str, Key()]
    guest_id: Annotated[str, Index()]
    room: int = 1
    name: str = ""
    renames: int = 0


class Guests(Projection[Guest]):
    """A guest who becomes another one is gone."""

    name = "guests"

    def key(self, event: Any) -> Any:
        return event.id if isinstance(event, Merged) else super().key(event)

    @on(Renamed)
    def renamed(self, row: Guest | None, event: Renamed) -> Guest:
        return Guest(event.guest_id, event.name, row.renames + 1 if row else 1)

    @on(Merged)
    def merged(self, row: Guest | None, event: Merged) -> None:
        return None


class Stays(Projection[Stay]):
    """Fails for room 13, until it is mended."""

    name, on_failure = "stays", "stop"
    reads = (Guests,)
    mended = False

    def key(self, event: Any) -> Any:
        return list(event.reservation_ids) if isinstance(event, Moved) else super().key(event)

    @on(Booked)
    def booked(self, event: Booked) -> Stay:
        if event.room == 13 and not self.mended:
            raise ArithmeticError("unlucky")
        return self.named(Stay(event.reservation_id, event.guest_id, event.room))

    @on(Cancelled)
    def cancelled(self, row: Stay | None, event: Cancelled) -> None:
        return None

    @on(Moved)
    def moved(self, row: Stay | None, event: Moved) -> Stay | None:
        return row and self.named(replace(row, room=event.room))

    @on(Renamed, where="guest_id")
    def renamed(self, row: Stay, event: Renamed) -> Stay:
        return self.named(row)

    @on(Merged, where={"guest_id": "id"})
    def merged(self, row: Stay, event: Merged) -> Stay:
        return self.named(replace(row, guest_id=event.into))

    def named(self, row: Stay) -> Stay:
        guest = self.read(Guests, row.guest_id)
        return replace(row, name=guest.name, renames=guest.renames) if guest else replace(row, name="?", renames=0)


def expected(events: Iterable[RecordedEvent[Any]]) -> dict[str, Stay]:
    """Return what the events make of all stays, told without any machinery."""
    names: dict[str, tuple[str, int]] = {}
    stays: dict[str, Stay] = {}

    def put(row: Stay) -> None:
        name, renames = names.get(row.guest_id, ("?", 0))
        stays[row.reservation_id] = replace(row, name=name, renames=renames)

    for each in events:
        match each.event:
            case Booked(reservation_id=one, guest_id=guest, room=room):
                put(Stay(one, guest, room))
            case Cancelled(reservation_id=one):
                stays.pop(one, None)
            case Moved(reservation_ids=several, room=room):
                for one in set(several) & set(stays):
                    put(replace(stays[one], room=room))
            case Renamed(guest_id=guest, name=name):
                names[guest] = (name, names.get(guest, ("", 0))[1] + 1)
                for row in [row for row in stays.values() if row.guest_id == guest]:
                    put(row)
            case Merged(id=guest, into=into):
                names.pop(guest, None)
                for row in [row for row in stays.values() if row.guest_id == guest]:
                    put(replace(row, guest_id=into))
    return stays


def exit_before(request: int) -> None:
    """Let the process end, without a word, in the transaction of a step, before one of the requests it consists of."""
    written = JointRunner._written

    def breaking_off(self: JointRunner, *args: Any) -> Generator[Any, Any, None]:
        for count, each in enumerate(written(self, *args)):
            if count == request:
                os._exit(9)
            yield each

    setattr(JointRunner, "_written", breaking_off)  # noqa: B010 - a type checker knows the other as what it is


async def main(url: str, request: int) -> None:
    """Bring the stays up to the head of the log, or die in the attempt."""
    exit_before(request)
    async with engine_at(url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
        synchronizer.add(Stays())
        await synchronizer.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
