"""One signature for all folds: the event, and its record by annotation, behind the event or instead of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import pytest

import twofold
from twofold import (
    Aggregate,
    Decider,
    DecisionModel,
    Event,
    EventQuery,
    GroupedProjection,
    Key,
    Projection,
    Reaction,
    SqlProjection,
    on,
)
from twofold.errors import InvalidProcessError, InvalidProjectionError
from twofold.log.codec.event_types import EventTypes
from twofold.messages.event import RecordedEvent
from twofold.messages.ids import uuid7
from twofold.messages.stored_event import record
from twofold.processes import Process, starts
from twofold.projections.declaration import check_declaration
from twofold.projections.sql_projection import applied


@dataclass(frozen=True)
class Opened(Event):
    account: str


@dataclass(frozen=True)
class Row:
    account: Annotated[str, Key()]
    seen: Any = None


HAPPENED = EventTypes()
HAPPENED.register(Opened)
[RECORDED] = HAPPENED.decode(
    [record(HAPPENED.encode(Opened("a"), uuid7(), "Account-a", "Account", b"{}"), position=7, version=1, recorded_at=5)]
)
NO_ROW = Row("a", "none yet")


def by_projection(method: Callable[..., Any]) -> Any:
    """Return what a method for an event makes of it."""

    class Rows(Projection[Row]):
        name = "rows"
        fold = on(Opened)(method)

    check_declaration(Rows())
    found = Rows().apply(NO_ROW, RECORDED)
    assert found is not None
    return found.seen


def by_grouped_projection(method: Callable[..., Any]) -> Any:
    class Groups(GroupedProjection[Row]):
        name = "groups"
        fold = on(Opened)(method)

    check_declaration(Groups())
    return Groups().apply((NO_ROW,), RECORDED)[0].seen


def by_sql_projection(apply: Callable[..., Any]) -> Any:
    cls: Any = type("Tables", (SqlProjection,), {"name": "tables", "handles": lambda self: (Opened,), "apply": apply})
    check_declaration(cls())
    return applied(cls(), RECORDED)("connection")


def by_reaction(apply: Callable[..., Any]) -> Any:
    cls: Any = type("Mails", (Reaction,), {"name": "mails", "handles": lambda self: (Opened,), "apply": apply})
    check_declaration(cls())
    return asyncio.run(applied(cls(), RECORDED)())


def by_decision_model(evolve: Callable[..., Any]) -> Any:
    return DecisionModel(query=EventQuery.of(Opened), initial_state=None, evolve=evolve).fold([RECORDED])


# Projections: a method that makes a row.


def makes(self: Any, event: Opened) -> Row:
    return Row("a", event)


def makes_with_record(self: Any, event: Opened, it: RecordedEvent[Opened]) -> Row:
    return Row("a", (event, it))


def makes_with_record_by_name(self: Any, event: Opened, recorded: Any) -> Row:
    return Row("a", (event, recorded))


def makes_with_record_by_keyword(self: Any, event: Opened, *, it: twofold.RecordedEvent[Opened]) -> Row:
    return Row("a", (event, it))


def makes_of_record(self: Any, it: RecordedEvent[Opened]) -> Row:
    return Row("a", it)


# … and one that changes a row.


def changes(self: Any, row: Row | None, event: Opened) -> Row:
    return Row("a", (row, event))


def changes_with_record(self: Any, row: Row | None, event: Opened, it: RecordedEvent[Opened]) -> Row:
    return Row("a", (row, event, it))


def changes_by_record(self: Any, row: Row | None, it: RecordedEvent[Opened]) -> Row:
    return Row("a", (row, it))


EVENT = RECORDED.event
KEYED: list[tuple[Callable[..., Any], Any]] = [
    (makes, EVENT),
    (makes_with_record, (EVENT, RECORDED)),
    (makes_with_record_by_name, (EVENT, RECORDED)),
    (makes_with_record_by_keyword, (EVENT, RECORDED)),
    (makes_of_record, RECORDED),
    (changes, (NO_ROW, EVENT)),
    (changes_with_record, (NO_ROW, EVENT, RECORDED)),
    (changes_by_record, (NO_ROW, RECORDED)),
]


@pytest.mark.parametrize(("method", "seen"), KEYED, ids=lambda case: getattr(case, "__name__", ""))
def test_a_method_of_a_projection_takes_the_event_its_record_or_both(method: Callable[..., Any], seen: Any) -> None:
    assert by_projection(method) == seen


@pytest.mark.parametrize(
    ("method", "seen"),
    [
        (makes, EVENT),
        (makes_with_record, (EVENT, RECORDED)),
        (makes_of_record, RECORDED),
        (changes, ((NO_ROW,), EVENT)),
        (changes_with_record, ((NO_ROW,), EVENT, RECORDED)),
        (changes_by_record, ((NO_ROW,), RECORDED)),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_a_method_of_a_grouped_projection_does_so_too(method: Callable[..., Any], seen: Any) -> None:
    @wraps(method)
    def grouped(*arguments: Any, **named: Any) -> tuple[Row, ...]:
        return (method(*arguments, **named),)

    assert by_grouped_projection(grouped) == seen


def test_apply_of_a_projection_by_sql_does_so_too() -> None:
    assert by_sql_projection(lambda self, event, connection: (event, connection)) == (EVENT, "connection")

    def behind(self: Any, event: Opened, connection: Any, it: RecordedEvent[Opened]) -> Any:
        return event, connection, it

    def instead(self: Any, it: RecordedEvent[Opened], connection: Any) -> Any:
        return it, connection

    assert by_sql_projection(behind) == (EVENT, "connection", RECORDED)
    assert by_sql_projection(instead) == (RECORDED, "connection")


def test_apply_of_a_reaction_does_so_too() -> None:
    async def alone(self: Any, event: Opened) -> Any:
        return event

    async def behind(self: Any, event: Opened, *, it: RecordedEvent[Opened]) -> Any:
        return event, it

    async def instead(self: Any, it: RecordedEvent[Opened]) -> Any:
        return it

    assert (by_reaction(alone), by_reaction(behind), by_reaction(instead)) == (EVENT, (EVENT, RECORDED), RECORDED)


def test_evolve_of_a_decision_model_does_so_too() -> None:
    def behind(state: Any, event: Opened, *, it: RecordedEvent[Opened]) -> Any:
        return event, it

    def instead(state: Any, it: RecordedEvent[Opened]) -> Any:
        return it

    assert by_decision_model(lambda state, event: event) == EVENT
    assert by_decision_model(behind) == (EVENT, RECORDED)
    assert by_decision_model(instead) == RECORDED


# What cannot be filled is refused when it is declared.


def needs_more(self: Any, event: Opened, *, clock: Any) -> Row:
    raise AssertionError


async def needs_more_async(self: Any, event: Opened, *, clock: Any) -> None:
    raise AssertionError


def calls_the_event_recorded(self: Any, recorded: Opened) -> Row:
    raise AssertionError


def takes_two_records(
    self: Any, row: Row, event: Opened, it: RecordedEvent[Opened], other: RecordedEvent[Opened]
) -> Row:
    raise AssertionError


def takes_the_record_before_the_event(self: Any, row: Row | None, it: RecordedEvent[Any], event: Opened) -> Row:
    raise AssertionError


def takes_the_record_first(self: Any, it: RecordedEvent[Any], event: Opened) -> Row:
    raise AssertionError


def takes_the_record_before_the_connection(self: Any, event: Opened, it: RecordedEvent[Any], connection: Any) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("declare", "fold", "text"),
    [
        (by_projection, takes_the_record_before_the_event, "maybe a last parameter that is annotated with Rec"),
        (by_projection, takes_the_record_first, "maybe a last parameter that is annotated with Rec"),
        (by_sql_projection, takes_the_record_before_the_connection, r"must take \(self, event, connection\)"),
        (by_projection, needs_more, "needs 'clock', which no event comes with"),
        (by_projection, calls_the_event_recorded, "takes recorded: Opened; a parameter of that name gets the Rec"),
        (by_projection, takes_two_records, "maybe a last parameter that is annotated with RecordedEvent"),
        (by_projection, lambda self: None, r"must take \(self, event\) or \(self, row, event\)"),
        (by_grouped_projection, needs_more, "needs 'clock'"),
        (by_sql_projection, lambda self, event, recorded: None, r"must take \(self, event, connection\)"),
        (by_sql_projection, lambda self, event, connection, *, clock: None, "needs 'clock'"),
        (by_reaction, needs_more_async, "needs 'clock'"),
    ],
)
def test_a_projection_that_asks_for_something_else_is_refused(declare: Any, fold: Any, text: str) -> None:
    with pytest.raises(InvalidProjectionError, match=text):
        declare(fold)


def test_a_decision_model_that_asks_for_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="needs 'clock'"):
        by_decision_model(lambda state, event, *, clock: state)
    with pytest.raises(TypeError, match="write evolve"):
        by_decision_model(lambda state, recorded, event: state)


def test_an_aggregate_that_asks_for_the_record_of_its_new_events_is_refused() -> None:
    for method in (makes_with_record, makes_with_record_by_name, makes_of_record):
        with pytest.raises(TypeError, match=r"asks for the RecordedEvent with '\w+'; an aggregate folds its new"):
            type("Account", (Aggregate,), {"opened": on(Opened)(method)})


def test_a_process_that_asks_for_the_record_is_refused() -> None:
    def takes_record(self: Any, state: Any, it: RecordedEvent[Opened]) -> tuple[()]:
        raise AssertionError

    with pytest.raises(InvalidProcessError, match="asks for the RecordedEvent with 'it', which a process"):

        class Welcome(Process[None]):
            name = "welcome"
            opened = starts(Opened, key="account")(takes_record)

            def is_completed(self, state: None) -> bool:
                return True


def test_a_decider_that_asks_for_the_record_of_its_new_events_is_refused() -> None:
    def evolve(state: int, it: RecordedEvent[Opened]) -> int:
        raise AssertionError

    with pytest.raises(TypeError, match="asks for the RecordedEvent with 'it'; a decider folds its new events"):
        decider(evolve=evolve)


@pytest.mark.parametrize("functions", [{"evolve": lambda state: 0}, {"decide": lambda command: ()}])
def test_a_decider_whose_functions_take_something_else_is_refused(functions: Any) -> None:
    [name] = functions
    with pytest.raises(TypeError, match=rf"{name} is called as {name}\("):
        decider(**functions)


def test_a_decider_may_use_functions_of_c_that_do_not_tell_what_they_take() -> None:
    decider(evolve=max)


def decider(**functions: Any) -> Decider[Any, Any, Any]:
    """Return a decider with some functions of its own."""
    others: dict[str, Any] = {"decide": lambda command, state: (), "evolve": lambda state, event: state}
    return Decider(initial_state=int, stream_type="Account", events=(Opened,), **others | functions)
