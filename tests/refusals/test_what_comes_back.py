"""What is accepted comes back equal, on each engine, or is refused with the name of its field."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Coroutine, Iterator
from contextvars import Context
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.any_values import anything, fields, is_same, made, scalars

from twofold import (
    ANY,
    Aggregate,
    Application,
    Command,
    Event,
    EventStore,
    EventTypes,
    Key,
    Projection,
    metadata,
    on,
)
from twofold.errors import InvalidEventError, InvalidHandlerError, InvalidMessageTypeError, InvalidProjectionError

ENGINES = ("memory", "sqlite", "postgres")
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
REFUSALS = (InvalidEventError, InvalidMessageTypeError)


class Held:
    """An open application, and the event loop in which it works: hypothesis calls a test that is no coroutine."""

    def __init__(self, url: str) -> None:
        self.app = Application(url, synchronize=False)
        self._loop = asyncio.new_event_loop()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self.run(self.app.stop())
        self._loop.close()


@pytest.fixture(params=ENGINES)
def held(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Held]:
    if request.param == "postgres":
        url = request.getfixturevalue("new_database")(18)
    else:
        url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/twofold.db"
    held = Held(url)
    held.run(held.app.start())
    try:
        yield held
    finally:
        held.close()


def test_an_event_of_any_class_comes_back_equal_or_is_refused_by_its_field(held: Held) -> None:
    @QUICK
    @given(data=st.data(), kind=st.sampled_from(["dataclass", "struct", "pydantic"]))
    def comes_back_or_is_refused(data: st.DataObject, kind: str) -> None:
        chosen = data.draw(st.lists(fields(), min_size=1, max_size=2))
        try:
            cls = made(kind, [hint for hint, _ in chosen])
            event = cls(**{f"field_{n}": data.draw(values) for n, (_, values) in enumerate(chosen)})
        except (pydantic.ValidationError, pydantic.errors.PydanticUserError, TypeError):
            assume(False)
        store = EventStore(held.app.store.log, EventTypes())
        try:
            receipt = held.run(store.append([event]))
        except REFUSALS as error:
            refused = str(error)
        else:
            assert is_same(event, held.run(read_at(store, receipt.position)).event)
            return
        assert "field_" in refused

    comes_back_or_is_refused()


async def read_at(store: EventStore, position: int) -> Any:
    [found] = [each async for each in store.read(after=position - 1, before=position + 1)]
    return found


@dataclass(frozen=True, kw_only=True)
class Noted(Event):
    text: str = ""


def test_metadata_comes_back_equal_or_is_refused_by_its_field(held: Held) -> None:
    names = ("user", "tenant", "correlation_id", "causation_id", "command_id", "extra")
    extras = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
    values = st.one_of(st.text(max_size=3), st.uuids(), extras, anything)

    @QUICK
    @given(name=st.sampled_from(names), value=values)
    def comes_back_or_is_refused(name: str, value: Any) -> None:
        async def append() -> Any:
            with metadata(**{name: value}):
                return await held.app.store.append([Noted()])

        try:
            receipt = held.run(append())
        except (TypeError, InvalidEventError) as error:
            refused = str(error)
        else:
            assert is_same(value, getattr(held.run(read_at(held.app.store, receipt.position)).metadata, name))
            return
        assert name in refused

    comes_back_or_is_refused()


@dataclass(frozen=True, kw_only=True)
class Answer(Command[Any]):
    number: int


def test_a_repeat_of_a_command_gets_an_equal_value_or_the_value_is_refused_and_nothing_stored(held: Held) -> None:
    @QUICK
    @given(data=st.data())
    def comes_back_or_is_refused(data: st.DataObject) -> None:
        hint, values = data.draw(fields())
        try:
            value = data.draw(values)
        except TypeError:  # a signalling NaN is no key of a dict
            assume(False)
        command_type = dataclasses.make_dataclass("Ask", [], bases=(Command,), frozen=True, kw_only=True)

        async def answer(command: Any) -> Any:
            await held.app.store.append([Noted()])
            return value

        answer.__annotations__["return"] = hint
        held.app.commands.register(command_type, answer)
        command, before = command_type(), held.run(held.app.store.head())
        try:
            first = held.run(held.app.commands.dispatch(command))
        except InvalidHandlerError as error:
            refused = str(error)
        else:
            again = held.run(held.app.commands.dispatch(command))
            assert first is value
            assert is_same(value, again)
            return
        assert "nothing was stored" in refused
        assert held.run(held.app.store.head()) == before

    comes_back_or_is_refused()


@pytest.mark.parametrize("held", ["memory"], indirect=True)  # rows on demand are in SQLite, whatever the engine
@pytest.mark.parametrize("hint", [each for each in scalars if isinstance(each, type)])
def test_a_row_is_found_by_the_key_of_its_event_or_the_type_of_the_key_is_refused(hint: Any, held: Held) -> None:
    keyed = dataclasses.make_dataclass("Keyed", [("id", hint)], bases=(Event,), frozen=True)
    row_type = dataclasses.make_dataclass("Row", [("id", Annotated[hint, Key()])], frozen=True)

    class Rows(Projection[Any]):
        name = f"rows_{uuid4().hex[:8]}"

        @on(keyed)
        def made(self, event: Any) -> Any:
            return row_type(event.id)

    Rows.__orig_bases__ = (Projection[row_type],)  # type: ignore[attr-defined, valid-type]
    app, refused = held.app, ""
    rows: Any
    try:
        app.store.events.register(keyed)
        rows = app.projections.add(Rows(), kind="on_demand")
    except (InvalidProjectionError, InvalidMessageTypeError) as error:
        rows, refused = None, str(error)
    if rows is None:
        assert re.search(r"Row\.id|Keyed\.id|'id'", refused)
        return
    values = next(strategy for each, strategy in scalars.items() if each is hint)
    if hint is int:
        values = st.integers(-(2**63), 2**63 - 1)

    @settings(QUICK, max_examples=5)
    @given(value=values)
    def is_found(value: Any) -> None:
        event = keyed(value)
        try:
            held.run(app.store.append([event]))
        except InvalidEventError:  # of which the first test knows the text
            return
        found = held.run(rows.get(value))
        assert found is not None
        assert is_same(value, found.id)

    is_found()


# -- what can be changed in place ------------------------------------------------------------------------------------


@dataclass
class Mutable:
    number: int = 0


class MutableStruct(msgspec.Struct):
    number: int = 0


class MutableModel(pydantic.BaseModel):
    number: int = 0


@dataclass(frozen=True)
class Between:
    inner: Mutable


NESTED = [Mutable, MutableStruct, tuple[Mutable, ...], list[Mutable], dict[str, Mutable], Mutable | None, Between]


@pytest.mark.parametrize("hint", [*NESTED, MutableModel], ids=str)
def test_a_record_within_an_event_that_can_be_changed_is_refused_with_the_field(hint: Any) -> None:
    cls = dataclasses.make_dataclass("Happened", [("part", hint)], bases=(Event,), frozen=True)
    with pytest.raises(InvalidMessageTypeError, match=r"Happened\.part.*: Mutable\w* can be changed; write"):
        EventTypes().register(cls)


@pytest.mark.parametrize("hint", NESTED, ids=str)
def test_a_record_within_a_row_that_can_be_changed_is_refused_with_the_field(hint: Any) -> None:
    row_type = dataclasses.make_dataclass("Row", [("id", Annotated[str, Key()]), ("part", hint)], frozen=True)

    class Rows(Projection[Any]):
        name = "rows"

    Rows.__orig_bases__ = (Projection[row_type],)  # type: ignore[attr-defined, valid-type]
    with pytest.raises(InvalidProjectionError, match=r"Row\.part.*: Mutable\w* can be changed; write"):
        Rows().row_type()


@dataclass(frozen=True, kw_only=True)
class Begun(Event):
    basket: str
    lines: list[str]


@dataclass(frozen=True, kw_only=True)
class Added(Event):
    basket: str
    line: str


class Basket(Aggregate):
    """Takes the event's own list for its state, as one easily does."""

    @on(Begun)
    def _begun(self, event: Begun) -> None:
        self.lines = event.lines

    @on(Added)
    def _added(self, event: Added) -> None:
        self.lines.append(event.line)


async def test_an_event_is_stored_as_it_was_recorded_whatever_becomes_of_its_list(store: EventStore) -> None:
    basket = Basket("b")
    basket.record(Begun(basket="b", lines=["a"]))
    basket.record(Added(basket="b", line="b"))
    await store.append_events("Basket-b", "Basket", basket.uncommitted_events, expected_version=0)
    stored = [each.event async for each in store.read()]
    assert stored == [Begun(basket="b", lines=["a"]), Added(basket="b", line="b")]


@dataclass(frozen=True, kw_only=True)
class Add(Command[int]):
    basket: str
    line: str


async def test_a_second_attempt_of_a_command_sees_events_as_they_are_stored(url: str) -> None:
    app = Application(url, synchronize=False)
    baskets = app.repository(Basket)
    seen: list[list[str]] = []

    async def add(command: Add) -> int:
        basket = await baskets.load(command.basket)
        seen.append(list(basket.lines))
        if len(seen) == 1:  # another process comes first
            await asyncio.create_task(append_elsewhere(app.store), context=Context())
        basket.record(Added(basket="b", line=command.line))
        await baskets.save(basket)
        return len(basket.lines)

    app.commands.register(Add, add)
    async with app:
        lines = Begun(basket="b", lines=["a"]), Added(basket="b", line="b")
        await app.store.append_events("Basket-b", "Basket", lines, expected_version=0)
        assert await app.commands.dispatch(Add(basket="b", line="c")) == 4
    assert seen == [["a", "b"], ["a", "b", "x"]]


async def append_elsewhere(store: EventStore) -> None:
    await store.append_events("Basket-b", "Basket", [Added(basket="b", line="x")], expected_version=ANY)


@dataclass(frozen=True)
class Listed:
    basket: Annotated[str, Key()]
    lines: list[str] = field(default_factory=list)


class Lists(Projection[Listed]):
    """Changes the row's list in place, and then fails, as long as it is told to."""

    name = "lists"
    fails = False

    @on(Begun)
    def begun(self, event: Begun) -> Listed:
        return Listed(event.basket, event.lines)

    @on(Added)
    def added(self, row: Listed, event: Added) -> Listed:
        row.lines.append(event.line)
        if self.fails:
            raise ValueError("not yet")
        return row


async def test_a_method_that_changes_a_row_in_place_and_fails_has_changed_nothing(url: str) -> None:
    app, lists = Application(url, synchronize=False), Lists()
    rows = app.projections.add(lists)
    async with app:
        await app.store.append([Begun(basket="b", lines=["a"]), Added(basket="b", line="b")])
        await app.projections.run_once(30)
        lists.fails = True
        await app.store.append(
            [Added(basket="b", line="c"), Begun(basket="c", lines=["a"]), Added(basket="c", line="b")]
        )
        await app.projections.run_once(30)
        assert (await rows.get("b"), await rows.get("c")) == (Listed("b", ["a", "b"]), Listed("c", ["a"]))
        lists.fails = False
        await app.projections.control("lists").retry()
        await app.store.append([Added(basket="b", line="d")])
        await app.projections.run_once(30)
        assert await rows.get("b") == Listed("b", ["a", "b", "c", "d"])


@pytest.mark.parametrize(
    "values", [{"user": "a\0b"}, {"tenant": "\0"}, {"extra": {"note": "\0"}}, {"extra": {"\0": ""}}]
)
async def test_a_nul_in_metadata_is_refused_by_its_field(values: dict[str, Any]) -> None:
    async with Application("memory://") as app:
        with metadata(**values), pytest.raises(InvalidEventError, match=next(iter(values))):
            await app.store.append([Noted()])
