"""A small hotel that knows its guests: in streams, in read models of each kind, and in their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from tests.synchronizing import quick

from twofold import (
    Aggregate,
    Application,
    Event,
    FullText,
    Key,
    LogOptions,
    Options,
    Personal,
    Projection,
    Reaction,
    ReadModel,
    RecordedEvent,
    Subject,
    Tag,
    event_type,
    on,
)
from twofold.options import PrivacyOptions

MASTER_KEY = b"0" * 32
OPTIONS = Options(
    log=LogOptions(short_stream=5, first_chunk=4, chunk=8, snapshot_every=5),
    privacy=PrivacyOptions(recheck=0.05, settling=0.05),
    synchronizer=quick(retries=0),
)
GUEST = {"name": "Annabelle Quux", "email": "quux@example.com", "wish": "Zyzzyva blossom"}


@event_type("GuestRegistered")
@dataclass(frozen=True, kw_only=True)
class PlainGuestRegistered(Event):
    """As it was before anyone thought of forgetting."""

    guest_id: Annotated[str, Tag("guest")]
    full_name: str
    email: str


def _renamed(data: dict[str, Any]) -> dict[str, Any]:
    return {("name" if name == "full_name" else name): value for name, value in data.items()}


@event_type("GuestRegistered", version=2, upcasters={1: _renamed})
@dataclass(frozen=True, kw_only=True)
class GuestRegistered(Event):
    guest_id: Annotated[str, Subject(), Tag("guest")]
    name: Annotated[str, Personal()]
    email: Annotated[str, Tag("email"), Personal(placeholder="nobody@invalid", blind=True)]


@dataclass(frozen=True, kw_only=True)
class WishNoted(Event):
    guest_id: Annotated[str, Subject(), Tag("guest")]
    wish: Annotated[str, Personal()]
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class RoomCleaned(Event):
    room: str


class Guest(Aggregate):
    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.name = ""
        self.wishes: tuple[str, ...] = ()

    def register(self, name: str, email: str) -> None:
        self.record(GuestRegistered(guest_id=self.id, name=name, email=email))

    def note(self, wish: str, number: int = 0) -> None:
        self.record(WishNoted(guest_id=self.id, wish=wish, number=number))

    @on(GuestRegistered)
    def _registered(self, event: GuestRegistered) -> None:
        self.name = event.name

    @on(WishNoted)
    def _noted(self, event: WishNoted) -> None:
        self.wishes = (*self.wishes, event.wish)[-3:]


@dataclass(frozen=True, kw_only=True)
class GuestView:
    guest_id: Annotated[str, Key()]
    name: Annotated[str, FullText()]
    wishes: tuple[str, ...] = ()


class Guests(Projection[GuestView]):
    name = "guests"

    @on(GuestRegistered)
    def registered(self, event: GuestRegistered) -> GuestView:
        return GuestView(guest_id=event.guest_id, name=event.name)

    @on(WishNoted)
    def noted(self, row: GuestView, event: WishNoted) -> GuestView:
        return replace(row, wishes=(*row.wishes, event.wish)[-3:])


class InlineGuests(Guests):
    name = "inline_guests"


class GuestsOnDemand(Guests):
    name = "guests_on_demand"


class Greeter(Reaction):
    """Fails, and quotes the guest."""

    name = "greeter"

    def handles(self) -> Sequence[type]:
        return (WishNoted,)

    def key(self, event: WishNoted) -> tuple[str, int]:
        return (event.guest_id, event.number)

    async def apply(self, event: WishNoted, recorded: RecordedEvent[Any]) -> None:
        if event.wish == GUEST["wish"] and event.number == 0:
            raise ValueError(f"cannot fulfil {event.wish}")


class Hotel(Application):
    """With its read models by their names."""

    models: dict[str, ReadModel[GuestView]]


def hotel(url: str, keys_url: str | None = None, **more: Any) -> Hotel:
    more = {"master_key": MASTER_KEY if keys_url else None, "options": OPTIONS} | more
    app = Hotel(url, keys_url=keys_url, **more)
    app.models = {
        "guests": app.projections.add(Guests()),
        "inline_guests": app.projections.add(InlineGuests(), kind="inline"),
        "guests_on_demand": app.projections.add(GuestsOnDemand(), kind="on_demand"),
    }
    return app


async def check_in(app: Application, guest_id: str, name: str, email: str, wish: str, wishes: int = 30) -> None:
    guests = app.repository(Guest)
    guest = Guest(guest_id)
    guest.register(name, email)
    for number in range(wishes):
        guest.note(wish, number)
    await guests.save(guest)
