"""A small domain of events that are about several rows: reservations of guests, and what becomes of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from hypothesis import strategies as st

from twofold import Event, Index, Key, Projection, ReadModel, RecordedEvent, Tag, on


@dataclass(frozen=True, kw_only=True)
class Booked(Event):
    reservation_id: Annotated[str, Tag("reservation")]
    guest_id: str
    room: int = 1


@dataclass(frozen=True, kw_only=True)
class Cancelled(Event):
    reservation_id: Annotated[str, Tag("reservation")]


@dataclass(frozen=True, kw_only=True)
class Moved(Event):
    """About the reservations that it names."""

    reservation_ids: tuple[str, ...]
    room: int


@dataclass(frozen=True, kw_only=True)
class Renamed(Event):
    """About all reservations that a guest has."""

    guest_id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Merged(Event):
    """About all reservations of one guest, which become those of another."""

    id: str
    into: str


@dataclass(frozen=True)
class Reservation:
    reservation_id: Annotated[str, Key()]
    guest_id: Annotated[str, Index()]
    room: int = 1
    name: str = ""
    places: tuple[int, ...] = ()


class Reservations(Projection[Reservation]):
    """Fails for rows in room 13, until it is mended."""

    name = "reservations"
    mended = False

    def key(self, event: Any) -> Any:
        return list(event.reservation_ids) if isinstance(event, Moved) else super().key(event)

    @on(Booked)
    def booked(self, event: Booked, recorded: RecordedEvent[Booked]) -> Reservation:
        return Reservation(event.reservation_id, event.guest_id, event.room, places=(recorded.position,))

    @on(Cancelled)
    def cancelled(self, row: Reservation | None, event: Cancelled) -> None:
        return None

    @on(Moved)
    def moved(self, row: Reservation | None, event: Moved, recorded: RecordedEvent[Moved]) -> Reservation | None:
        return row and replace(row, room=event.room, places=(*row.places, recorded.position))

    @on(Renamed, where="guest_id")
    def renamed(self, row: Reservation, event: Renamed, recorded: RecordedEvent[Renamed]) -> Reservation:
        if row.room == 13 and not self.mended:
            raise ArithmeticError("unlucky")
        return replace(row, name=event.name, places=(*row.places, recorded.position))

    @on(Merged, where={"guest_id": "id"})
    def merged(self, row: Reservation, event: Merged, recorded: RecordedEvent[Merged]) -> Reservation:
        if row.room == 13 and not self.mended:
            raise ArithmeticError("unlucky")
        return replace(row, guest_id=event.into, places=(*row.places, recorded.position))


class Named(Reservations):
    """The same under another name, as one database has one read model of a name."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]


async def rows(model: ReadModel[Any]) -> dict[str, Any]:
    """Return all rows by reservation."""
    return {row.reservation_id: row for row in (await model.page(page_size=1000)).items}


def expected(events: Iterable[RecordedEvent[Any]]) -> dict[str, Reservation]:
    """Return what the events make of all rows, told without any machinery."""
    rows: dict[str, Reservation] = {}
    for each in events:
        match each.event:
            case Booked(reservation_id=one, guest_id=guest, room=room):
                rows[one] = Reservation(one, guest, room, places=(each.position,))
            case Cancelled(reservation_id=one):
                rows.pop(one, None)
            case Moved(reservation_ids=several, room=room):
                for one in set(several) & set(rows):
                    rows[one] = replace(rows[one], room=room, places=(*rows[one].places, each.position))
            case Renamed(guest_id=guest, name=name):
                for one, row in rows.items():
                    if row.guest_id == guest:
                        rows[one] = replace(row, name=name, places=(*row.places, each.position))
            case Merged(id=guest, into=into):
                for one, row in rows.items():
                    if row.guest_id == guest:
                        rows[one] = replace(row, guest_id=into, places=(*row.places, each.position))
    return rows


_reservations, _guests = st.sampled_from("abcdef"), st.sampled_from("xyz")


def appends(rooms: Iterable[int] = (1, 2)) -> st.SearchStrategy[list[list[Event]]]:
    """Return lists of appends."""
    room = st.sampled_from(list(rooms))
    events = st.one_of(
        st.builds(Booked, reservation_id=_reservations, guest_id=_guests, room=room),
        st.builds(Booked, reservation_id=_reservations, guest_id=_guests, room=room),
        st.builds(Cancelled, reservation_id=_reservations),
        st.builds(Moved, reservation_ids=st.lists(_reservations, max_size=4).map(tuple), room=room),
        st.builds(Renamed, guest_id=_guests, name=st.sampled_from(["ann", "bob"])),
        st.builds(Merged, id=_guests, into=_guests),
    )
    return st.lists(st.lists(events, min_size=1, max_size=5), max_size=10)
