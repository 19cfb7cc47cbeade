"""The wiring."""

from __future__ import annotations

from tests.checks.hotel.domain import Book, Booked, GetRoom, Ignored, Room, Rooms

from twofold import Application, ReadModel


class GetRoomHandler:
    def __init__(self, rooms: ReadModel[Room]) -> None:
        self._rooms = rooms

    async def handle(self, query: GetRoom) -> Room | None:
        return await self._rooms.get(query.room)


def build(url: str = "memory://") -> Application:
    app = Application(url)

    async def book(command: Book) -> None:
        await app.store.append([Booked(room=command.room, guest="ann")])

    app.commands.register(Book, book)
    app.projections.add(Ignored())
    app.queries.register(GetRoom, GetRoomHandler(app.projections.add(Rooms())), reads=["rooms", "room"])
    return app
