"""Messages and rules, of which some lead nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from twofold import Command, DecisionModel, Event, EventQuery, Key, Projection, Query, Tag, on


@dataclass(frozen=True, kw_only=True)
class Booked(Event):
    room: Annotated[str, Tag("room")]
    guest: str


@dataclass(frozen=True, kw_only=True)
class Printed(Event):
    room: str


@dataclass(frozen=True, kw_only=True)
class Book(Command):
    room: str


@dataclass(frozen=True, kw_only=True)
class Forget(Command):
    room: str


@dataclass(frozen=True, kw_only=True)
class GetRoom(Query["Room | None"]):
    room: str


@dataclass(frozen=True, kw_only=True)
class GetNothing(Query[int]):
    pass


@dataclass(frozen=True)
class Room:
    room: Annotated[str, Key()]


class Rooms(Projection[Room]):
    name = "rooms"

    @on(Booked)
    def booked(self, event: Booked) -> Room:
        return Room(event.room)


class Ignored(Rooms):
    name = "ignored"


def _count(state: int, event: Booked) -> int:
    return state + 1


def free_rooms(room: str) -> DecisionModel[int]:
    return DecisionModel(query=EventQuery.of(Booked, tags=[f"room:{room}"]), initial_state=0, evolve=_count)


def stays(guest: str, *, most: int) -> DecisionModel[int]:
    return DecisionModel(query=EventQuery.of(Booked, tags=[f"guest:{guest}"]), initial_state=most, evolve=_count)
