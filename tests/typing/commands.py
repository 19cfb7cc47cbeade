"""What a type checker knows about the write side; never run, checked by `make check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

import msgspec

from twofold import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    Aggregate,
    Application,
    Command,
    CommandHandler,
    ConflictError,
    Decision,
    DecisionModel,
    Event,
    EventQuery,
    Position,
    Receipt,
    RecordedEvent,
    Repository,
    TwofoldError,
    combine,
    on,
)


@dataclass(frozen=True, kw_only=True)
class BookAdded(Event):
    book_id: str


@dataclass(frozen=True, kw_only=True)
class BookLent(Event):
    book_id: str
    reader: str


@dataclass(frozen=True, kw_only=True)
class AddBook(Command[str]):
    book_id: str


@dataclass(frozen=True, kw_only=True)
class LendBook(Command[None]):
    book_id: str
    reader: str


@dataclass(frozen=True, kw_only=True)
class Plain(Command):
    book_id: str


class PlainStruct(msgspec.Struct, frozen=True):
    book_id: str


class Book(Aggregate):
    reader: str | None = None

    def lend(self, reader: str) -> None:
        self.record(BookLent(book_id=self.id, reader=reader))

    @on(BookAdded)
    def added(self, event: BookAdded) -> None: ...

    @on(BookLent)
    def lent(self, event: BookLent) -> None:
        self.reader = event.reader


class AddBookHandler(CommandHandler[AddBook]):
    async def handle(self, command: AddBook) -> str:
        return command.book_id


async def lend(command: LendBook) -> None: ...


async def check_commands(app: Application) -> None:
    app.commands.register(AddBook, AddBookHandler())
    app.commands.register(LendBook, lend)
    app.commands.register(AddBook, lend)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    assert_type(await app.commands.dispatch(AddBook(book_id="b1")), str)
    assert_type(await app.commands.execute(AddBook(book_id="b1")), Receipt[str])
    assert_type(await app.commands.dispatch(LendBook(book_id="b1", reader="ann")), None)
    assert_type(await app.commands.dispatch(Plain(book_id="b1")), Any)
    assert_type(await app.commands.execute(Plain(book_id="b1")), Receipt[Any])
    assert_type(await app.commands.dispatch(PlainStruct("b1")), Any)
    assert_type(await app.commands.execute(PlainStruct("b1")), Receipt[Any])


async def check_repositories(app: Application) -> None:
    books = app.repository(Book)
    assert_type(books, Repository[Book])
    books.handle(LendBook, lambda book, c: book.lend(c.reader))
    books.handle(LendBook, lambda book, c: book.lend(c.reader), id=lambda c: c.book_id)
    books.handle(LendBook, lambda book, c: book.lend(c.readers))  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    books.handle(LendBook, lambda book, c: book.lent_to(c.reader))  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    condition = (await app.store.decide(count_of("b1"))).condition
    await books.save(await books.load("b1"), condition=condition)


def count_of(book: str) -> DecisionModel[int]:
    return DecisionModel(query=EventQuery.of(BookLent), initial_state=0, evolve=lambda number, event: number + 1)


def readers_of(readers: frozenset[str], event: BookLent, recorded: RecordedEvent[BookLent]) -> frozenset[str]:
    return readers | {event.reader}


READERS = DecisionModel(query=EventQuery.of(BookLent), initial_state=frozenset[str](), evolve=readers_of)


async def check_decisions(app: Application) -> None:
    assert_type(READERS, DecisionModel[frozenset[str]])
    assert_type(await app.store.decide(READERS), Decision[frozenset[str]])
    assert_type(await app.store.look(READERS), frozenset[str])
    both = combine(count_of("b1"), READERS)
    assert_type(both, DecisionModel[tuple[int, frozenset[str]]])
    number, readers = (await app.store.decide(both)).state
    assert_type(number, int)
    assert_type(readers, frozenset[str])
    assert_type(
        combine(READERS, both, READERS),
        DecisionModel[tuple[frozenset[str], tuple[int, frozenset[str]], frozenset[str]]],
    )
    assert_type(combine(*[count_of(book) for book in "abc"]), DecisionModel[tuple[int, ...]])


async def check_the_store(app: Application) -> None:
    for expected in (0, NO_STREAM, ANY, STREAM_EXISTS):
        receipt = await app.store.append_events("Book-b1", "Book", [BookAdded(book_id="b1")], expected_version=expected)
        assert_type(receipt, Receipt[None])
    await app.store.append_events("Book-b1", "Book", [], expected_version=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    try:
        position = (await app.store.append([BookAdded(book_id="b1")])).position
    except ConflictError as error:
        assert_type(error.stream_id, str)
        raise TwofoldError from error
    assert_type(position, Position)
    assert_type(Position.parse(position.text), Position)
    async for recorded in app.store.read(after=position):
        assert_type(recorded, RecordedEvent[Any])
    async for recorded in app.store.read(after=7):
        assert recorded.position > position
