"""Kinds of poison events: each parks itself and the later ones of its row, or holds the projection up visibly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pytest
from tests.synchronizing import quick, running, until

from twofold import Event, EventStore, Key, Projection, ReadModelSynchronizer, event_type, on
from twofold.engines.engine import Engine
from twofold.errors import StorageUnavailableError
from twofold.messages.stored_event import content_checksum
from twofold.ports.event_log import Append
from twofold.ports.read_database import Changes, ReadDatabase
from twofold.ports.segments import Step
from twofold.ports.table import Table

PATIENCE = 30.0


@event_type("Noted", version=1)
@dataclass(frozen=True, kw_only=True)
class Noted(Event):
    topic: str
    poison: str = ""


def _upcast(payload: dict[str, Any]) -> dict[str, Any]:
    raise LookupError("an upcaster that fails")


@event_type("Revised", version=2, upcasters={1: _upcast})
@dataclass(frozen=True, kw_only=True)
class Revised(Event):
    topic: str


@dataclass(frozen=True)
class Note:
    topic: Annotated[str, Key()]
    count: int = 0
    size: int = 0
    text: str = ""
    nested: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Other:
    topic: str


class RustPanicError(BaseException):
    """What extensions raise that do not think of `except Exception`."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


def _raise(error: BaseException) -> Any:
    raise error


def _recurse(row: Note) -> Note:
    return _recurse(row)


def _mutual(row: Note, depth: int = 0) -> Note:
    return eval("again(row, depth + 1)", {"again": _mutual, "row": row, "depth": depth})  # type: ignore[no-any-return]


def _nested(depth: int) -> Any:
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


KINDS: dict[str, Callable[[Note], Any]] = {
    "raises": lambda row: _raise(ArithmeticError("unlucky")),
    "returns another type": lambda row: Other(row.topic),
    "returns a text": lambda row: "no row",
    "returns the row of another key": lambda row: replace(row, topic="somebody else's"),
    "a number out of range": lambda row: replace(row, size=1 << 70),
    "a text for a number": lambda row: replace(row, size="many"),  # type: ignore[arg-type]
    "half a character": lambda row: replace(row, text="\ud800"),
    "no text at all": lambda row: replace(row, text=None),  # type: ignore[arg-type]
    "what JSON cannot say": lambda row: replace(row, nested=(object(),)),
    "nests too deeply": lambda row: replace(row, nested=_nested(50_000)),
    "recurses for ever": _recurse,
    "recurses through eval": _mutual,
    "an error without a text": lambda row: _raise(MuteError()),
    "an error with an endless text": lambda row: _raise(ValueError("x" * 10_000_000)),
    "an error that no engine can store": lambda row: _raise(ValueError("\0 \ud800")),
    "a panic": lambda row: _raise(RustPanicError("from below Exception")),
    "a cancellation of its own": lambda row: _raise(asyncio.CancelledError()),
    "stops an iteration": lambda row: _raise(StopIteration()),
    "a group of errors": lambda row: _raise(BaseExceptionGroup("some", [ValueError("one"), KeyError("two")])),
    "an infrastructure's error": lambda row: _raise(StorageUnavailableError("says the handler, which has no storage")),
}
BYTES_FOR_TEXT = "a key, and its row's, of another type"
HOLDING: dict[str, Callable[[], Any]] = {
    "a key that raises": lambda: _raise(LookupError("no key")),
    "a key that no JSON can say": object,
    "a key that panics": lambda: _raise(RustPanicError()),
}
PARKING: dict[str, Callable[[], Any]] = {
    "a key of too many fields": lambda: ("a", "b"),
    "a key with a NUL": lambda: "a\0b",
    "a key that cannot be hashed": lambda: {"a": 1},
    "one of several keys that cannot be hashed": lambda: [["a"]],
    BYTES_FOR_TEXT: lambda: b"a",
}


class Notes(Projection[Note]):
    """Takes all that is not poison, and everything once it is mended."""

    name = "notes"
    mended = False
    tries = 0

    def key(self, event: Noted | Revised) -> Any:
        poison = "" if self.mended or isinstance(event, Revised) else event.poison
        if found := HOLDING.get(poison) or PARKING.get(poison):
            return found()
        return event.topic

    @on(Noted)
    def noted(self, row: Note | None, event: Noted) -> Note:
        row = row or Note(self.key(event) if event.poison == BYTES_FOR_TEXT else event.topic)
        if event.poison in KINDS and not self.mended:
            return KINDS[event.poison](row)  # type: ignore[no-any-return]
        if event.poison == "sometimes":
            type(self).tries += 1
            if self.tries < 3:
                raise TimeoutError
        return replace(row, count=row.count + 1, size=row.size + len(event.poison))

    @on(Revised)
    def revised(self, row: Note | None, event: Revised) -> Note:
        return replace(row or Note(event.topic), text="revised")


class Mended(Notes):
    mended = True


class Run:
    """A synchronizer that comes to a poison event among others."""

    def __init__(self, database: Any, store: EventStore) -> None:
        self.database, self.store = database, store
        self.synchronizer = ReadModelSynchronizer(store, database, options=quick(lease=5.0), changed_code="ignore")
        self.notes = self.synchronizer.add(Notes())

    async def write(self, *notes: tuple[str, str]) -> int:
        return (await self.store.append([Noted(topic=topic, poison=poison) for topic, poison in notes])).position

    async def rows(self) -> dict[str, int]:
        return {row.topic: row.count for row in (await self.notes.page()).items}

    async def parked(self) -> list[tuple[int, bool]]:
        return [(each.position, bool(each.cause)) for each in await self.synchronizer.control("notes").parked()]

    async def mend(self) -> None:
        """Go on with code that can take all of it."""
        self.synchronizer = ReadModelSynchronizer(
            self.store, self.database, options=quick(lease=5.0), changed_code="ignore"
        )
        self.notes = self.synchronizer.add(Mended())


@pytest.fixture
def run(engine: Engine, store: EventStore) -> Run:
    return Run(engine.read_database, store)


class PassesBy:
    """The planted bug: the checkpoint moves on after an exception, and nothing is parked."""

    def __init__(self, behind: ReadDatabase) -> None:
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def commit(self, table: Table, changes: Changes, step: Step) -> None:
        await self._behind.commit(table, changes._replace(parked=()), step)


async def campaign(run: Run, kind: str) -> None:
    """Come to a poison event among others, mend it, and look at what became of all.

    Raises:
        AssertionError: more than the poison event and the later ones of its row is kept out, or one was passed by.
    """
    head = await run.write(("a", ""), ("b", ""), ("a", kind), ("b", ""), ("a", ""), ("c", ""))
    async with running(run.synchronizer):
        await run.synchronizer.wait(head, PATIENCE)
        behind = kind not in PARKING  # whose key is not that of the row: nobody can know what depends on it
        parked = [(3, True), (5, False)] if behind else [(3, True)]
        assert await run.parked() == parked, f"of {parked}, only {await run.parked()} is parked"
        assert await run.rows() == {"a": 1 if behind else 2, "b": 2, "c": 1}
        await run.synchronizer.wait(await run.write(("a", ""), ("b", "")), PATIENCE)
        assert await run.rows() == {"a": 1 if behind else 3, "b": 3, "c": 1}
    await run.mend()
    await run.synchronizer.prepare()
    await run.synchronizer.control("notes").retry()
    async with running(run.synchronizer):
        await until(lambda: _is_empty(run))
        assert await run.rows() == {"a": 4, "b": 3, "c": 1}


@pytest.mark.parametrize("kind", [*KINDS, *PARKING])
async def test_a_poison_event_and_the_later_ones_of_its_row_are_parked_and_come_in_when_it_is_mended(
    run: Run, kind: str
) -> None:
    await campaign(run, kind)


@pytest.mark.parametrize("kind", ["raises", "a number out of range", "a key with a NUL"])
async def test_an_event_that_is_passed_by_after_an_exception_is_found_out(
    engine: Engine, store: EventStore, kind: str
) -> None:
    with pytest.raises(AssertionError, match=r"only \[\] is parked"):
        await campaign(Run(PassesBy(engine.read_database), store), kind)


async def _is_empty(run: Run) -> bool:
    return not await run.parked()


@pytest.mark.parametrize("kind", HOLDING)
async def test_an_event_whose_key_cannot_be_known_holds_it_up_where_everybody_sees_it(run: Run, kind: str) -> None:
    head = await run.write(("a", ""), ("b", ""), ("a", kind), ("c", ""))
    async with running(run.synchronizer):
        await until(lambda: _is_faulted(run))
        [status] = await run.synchronizer.status()
        assert status.position == 2
        assert status.problems
        assert await run.rows() == {"a": 1, "b": 1}
    await run.mend()
    async with running(run.synchronizer):
        await run.synchronizer.wait(head, PATIENCE)
        assert await run.rows() == {"a": 2, "b": 1, "c": 1}


async def _is_faulted(run: Run) -> bool:
    return (await run.synchronizer.status())[0].state == "faulted"


async def test_an_event_that_fails_now_and_then_gets_in(run: Run) -> None:
    Notes.tries = 0
    head = await run.write(("a", ""), ("a", "sometimes"), ("b", ""))
    async with running(run.synchronizer):
        await run.synchronizer.wait(head, PATIENCE)
        assert await run.rows() == {"a": 2, "b": 1}
        assert await run.parked() == []


def _newer_schema(row: dict[str, Any]) -> None:
    row["schema_version"] = 99


def _bad_upcaster(row: dict[str, Any]) -> None:
    row["type"], row["schema_version"] = "Revised", 1


def _missing_field(row: dict[str, Any]) -> None:
    row["payload"] = b'{"nothing": 1}'


def _wrong_field(row: dict[str, Any]) -> None:
    row["payload"] = b'{"topic": 5}'


def _deep_nesting(row: dict[str, Any]) -> None:
    row["payload"] = b'{"topic": "a", "more": ' + b"[" * 5000 + b"]" * 5000 + b"}"


@pytest.mark.parametrize(
    "damage",
    [_newer_schema, _bad_upcaster, _missing_field, _wrong_field, _deep_nesting],
    ids=lambda damage: damage.__name__,
)
async def test_an_event_that_cannot_be_read_holds_it_up_until_it_is_skipped(
    run: Run, damage: Callable[[dict[str, Any]], None]
) -> None:
    """Its key is not known; the bytes are what another writer, with other code, might have stored."""
    await run.write(("a", ""))
    event = run.store._appender.encode([Noted(topic="a")], "", "")[0]
    fields = event._asdict()
    damage(fields)
    damaged = event._replace(**fields)
    await run.store.log.append(Append((damaged._replace(content_checksum=content_checksum(damaged)),)))
    head = await run.write(("a", ""), ("b", ""))
    async with running(run.synchronizer):
        await until(lambda: _is_faulted(run))
        assert await run.rows() == {"a": 1}
        await run.synchronizer.control("notes").skip(2, reason="nobody can read it")
        await run.synchronizer.wait(head, PATIENCE)
        assert await run.rows() == {"a": 2, "b": 1}
        assert await run.parked() == []
