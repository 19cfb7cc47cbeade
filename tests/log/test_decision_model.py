"""Dynamic consistency boundaries: decisions on what a query matches, whichever streams it stands in."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import pytest_asyncio
from tests.child_processes import CONTEXT
from tests.recording_log import RecordingLog

from twofold import (
    AppendCondition,
    Command,
    CommandBus,
    DecisionModel,
    Event,
    EventQuery,
    EventStore,
    RecordedEvent,
    Tag,
    combine,
    open_event_store,
    unique,
)
from twofold.errors import ConflictError, ValueTakenError
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import Append


@dataclass(frozen=True, kw_only=True)
class Registered(Event):
    username: Annotated[str, Tag("username")]


@dataclass(frozen=True, kw_only=True)
class Subscribed(Event):
    student: Annotated[str, Tag("student")]
    course: Annotated[str, Tag("course")]


@dataclass(frozen=True, kw_only=True)
class Register(Command):
    username: str


@dataclass(frozen=True, kw_only=True)
class Subscribe(Command):
    student: str
    course: str


class TakenError(Exception):
    pass


class FullError(Exception):
    pass


class BusyError(Exception):
    pass


CAPACITY, MOST_COURSES = 5, 3


def is_taken(username: str) -> DecisionModel[bool]:
    return DecisionModel(
        query=EventQuery.of(Registered, tags=[f"username:{username}"]),
        initial_state=False,
        evolve=lambda taken, recorded: True,
    )


def count(*, tag: str) -> DecisionModel[int]:
    return DecisionModel(
        query=EventQuery.of(Subscribed, tags=[tag]), initial_state=0, evolve=lambda number, recorded: number + 1
    )


def wire(store: EventStore) -> CommandBus:
    store.events.register(Registered, Subscribed)
    bus = CommandBus(store)

    async def register(command: Register) -> str:
        decision = await store.decide(is_taken(command.username))
        if decision.state:
            raise TakenError(command.username)
        await store.append([Registered(username=command.username)], condition=decision.condition)
        return command.username

    async def subscribe(command: Subscribe) -> int:
        course, student = count(tag=f"course:{command.course}"), count(tag=f"student:{command.student}")
        decision = await store.decide(combine(course, student))
        in_course, of_student = decision.state
        await asyncio.sleep(0)  # here others may come in between
        if in_course >= CAPACITY:
            raise FullError(command.course)
        if of_student >= MOST_COURSES:
            raise BusyError(command.student)
        await store.append([Subscribed(student=command.student, course=command.course)], condition=decision.condition)
        return int(in_course) + 1

    bus.register(Register, register)
    bus.register(Subscribe, subscribe)
    return bus


@pytest_asyncio.fixture
async def log(url: str) -> AsyncIterator[RecordingLog]:
    log = RecordingLog(open_event_store(url).log)
    await log.open()
    yield log
    await log.close()


@pytest.fixture
def store(log: RecordingLog) -> EventStore:
    return EventStore(log)


@pytest.fixture
def bus(store: EventStore) -> CommandBus:
    return wire(store)


def names(outcomes: list[Any]) -> list[str]:
    return sorted(type(each).__name__ for each in outcomes if isinstance(each, Exception))


def recorded(event: Event, type: str, *tags: str) -> RecordedEvent[Any]:
    return RecordedEvent(event, StoredEvent(1, 0, 0, 0, "", "", type, 1, b"", b"", b"{}", json.dumps(tags).encode()))


def test_it_folds_only_what_its_query_matches() -> None:
    events = [
        recorded(Subscribed(student="s1", course="c1"), "Subscribed", "student:s1", "course:c1"),
        recorded(Subscribed(student="s1", course="c2"), "Subscribed", "student:s1", "course:c2"),
        recorded(Registered(username="s1"), "Registered", "student:s1"),
    ]
    assert count(tag="student:s1").fold(events) == 2
    assert count(tag="course:c1").fold(events) == 1
    assert combine(count(tag="student:s1"), count(tag="course:c1"), count(tag="course:c3")).fold(events) == (2, 1, 0)


def test_combine_keeps_one_query_for_all() -> None:
    one, two = count(tag="student:s1"), count(tag="course:c1")
    assert combine(one, two).query == one.query | two.query
    assert len(combine(one, one).query.items) == 1


def test_nothing_cannot_be_combined() -> None:
    with pytest.raises(ValueError, match="combine at least one decision model"):
        combine()


async def test_a_decision_on_what_is_not_there_protects(store: EventStore) -> None:
    store.events.register(Registered)
    decision = await store.decide(is_taken("ann"))
    assert decision.state is False
    await store.append([Registered(username="ann")])
    with pytest.raises(ConflictError) as caught:
        await store.append([Registered(username="ann")], condition=decision.condition)
    assert [each.event for each in caught.value.conflicts] == [Registered(username="ann")]


async def test_others_do_not_disturb_a_decision(store: EventStore) -> None:
    store.events.register(Registered)
    decision = await store.decide(is_taken("ann"))
    await store.append([Registered(username="bob")])
    await store.append([Registered(username="ann")], condition=decision.condition)


async def test_a_username_is_given_once_however_many_ask(bus: CommandBus, store: EventStore) -> None:
    outcomes = await asyncio.gather(
        *(bus.dispatch(Register(username="ann")) for _ in range(20)), return_exceptions=True
    )
    assert (outcomes.count("ann"), names(outcomes)) == (1, ["TakenError"] * 19)
    assert await store.head() == 1


async def test_a_course_never_holds_more_than_its_capacity(bus: CommandBus, store: EventStore) -> None:
    outcomes = await asyncio.gather(
        *(bus.dispatch(Subscribe(student=f"s{n}", course="c1")) for n in range(12)), return_exceptions=True
    )
    assert sorted(each for each in outcomes if isinstance(each, int)) == [1, 2, 3, 4, 5]
    assert names(outcomes) == ["FullError"] * 7
    assert await store.head() == CAPACITY


async def test_hundreds_who_ask_at_once_for_different_things_of_one_course_all_get_an_answer(store: EventStore) -> None:
    store.events.register(Subscribed)
    bus = CommandBus(store)

    async def subscribe(command: Subscribe) -> None:
        models = combine(count(tag=f"student:{command.student}"), count(tag=f"course:{command.course}"))
        decision = await store.decide(models)
        await store.append([Subscribed(student=command.student, course="c1")], condition=decision.condition)

    bus.register(Subscribe, subscribe)
    await asyncio.gather(*(bus.dispatch(Subscribe(student=f"s{n}", course="c1")) for n in range(200)))
    assert await store.head() == 200


async def test_both_rules_of_a_combined_model_hold(bus: CommandBus) -> None:
    outcomes = await asyncio.gather(
        *(bus.dispatch(Subscribe(student="s1", course=f"c{n}")) for n in range(6)), return_exceptions=True
    )
    assert names(outcomes) == ["BusyError"] * 3


async def test_a_lost_race_is_decided_again_on_the_delta_without_a_second_read(
    bus: CommandBus, store: EventStore, log: RecordingLog
) -> None:
    rivals = ["s8", "s9"]

    async def subscribe_first(append: Any) -> None:
        if rivals and append.command:
            await store.append([Subscribed(student=rivals.pop(), course="c1")])

    log.before_append = subscribe_first
    assert await bus.dispatch(Subscribe(student="s1", course="c1")) == 3
    assert (log.reads, log.calls["append"]) == (1, 5)


async def test_a_second_model_that_was_not_judged_is_read_again(store: EventStore, log: RecordingLog) -> None:
    store.events.register(Subscribed)
    seen: list[tuple[int, int]] = []
    bus = CommandBus(store)

    async def subscribe(command: Subscribe) -> None:
        everybody = DecisionModel(query=EventQuery.of(Subscribed), initial_state=0, evolve=lambda n, recorded: n + 1)
        total = await store.look(everybody)
        decision = await store.decide(count(tag=f"course:{command.course}"))
        seen.append((total, decision.state))
        await store.append([Subscribed(student=command.student, course="c1")], condition=decision.condition)

    async def subscribe_first(append: Any) -> None:
        if len(seen) == 1 and append.command:
            await store.append([Subscribed(student="s8", course="c2"), Subscribed(student="s9", course="c1")])

    bus.register(Subscribe, subscribe)
    log.before_append = subscribe_first
    await bus.dispatch(Subscribe(student="s1", course="c1"))
    assert seen == [(0, 0), (2, 1)]


@pytest.mark.parametrize("rival", ["ann", "another"])
async def test_all_decisions_of_a_command_are_under_its_condition(
    store: EventStore, log: RecordingLog, rival: str
) -> None:
    store.events.register(Registered)
    bus = CommandBus(store)

    async def register(command: Register) -> None:
        for name in (command.username, "another"):
            if (await store.decide(is_taken(name))).state:
                raise TakenError(name)
        await store.append([Registered(username=command.username), Registered(username="another")])

    async def register_first(append: Any) -> None:
        if append.command:
            log.before_append = None
            await store.append([Registered(username=rival)])

    bus.register(Register, register)
    log.before_append = register_first
    with pytest.raises(TakenError, match=rival):
        await bus.dispatch(Register(username="ann"))
    assert await store.head() == 1


async def test_decisions_that_are_made_at_the_same_time_are_of_one_position(
    store: EventStore, log: RecordingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.events.register(Registered)
    bus, read_head, one_by_one = CommandBus(store), log.head, asyncio.Lock()

    async def growing_head() -> int:
        async with one_by_one:
            head = await read_head()
            await log.append(as_append(store, Registered(username=f"rival{head}")))
            return head

    async def register(command: Register) -> set[int | None]:
        decisions = await asyncio.gather(*(store.decide(is_taken(name)) for name in "abc"))
        await store.append([Registered(username=command.username)])
        return {decision.condition.after for decision in decisions}

    bus.register(Register, register)
    monkeypatch.setattr(log, "head", growing_head)
    assert await bus.dispatch(Register(username="ann")) == {0}
    assert await read_head() == 4


def as_append(store: EventStore, event: Event) -> Append:
    return Append(store._appender.encode([event], "", ""))


async def test_a_condition_of_another_position_is_refused(store: EventStore) -> None:
    store.events.register(Registered)
    bus = CommandBus(store)

    async def register(command: Register) -> None:
        await store.decide(is_taken(command.username))
        of_all_times = AppendCondition(EventQuery.of(Registered, tags=["username:another"]))
        await store.append([Registered(username=command.username)], condition=of_all_times)

    bus.register(Register, register)
    with pytest.raises(ValueError, match=r"let store\.decide\(\.\.\.\) read both"):
        await bus.dispatch(Register(username="ann"))
    assert await store.head() == 0


async def test_a_decision_binds_the_command_by_itself(store: EventStore) -> None:
    store.events.register(Registered)
    bus = CommandBus(store)

    async def register(command: Register) -> None:
        if (await store.decide(is_taken(command.username))).state:
            raise TakenError(command.username)
        await store.append([Registered(username=command.username)])

    bus.register(Register, register)
    outcomes = await asyncio.gather(*(bus.dispatch(Register(username="ann")) for _ in range(5)), return_exceptions=True)
    assert names(outcomes) == ["TakenError"] * 4
    assert await store.head() == 1


async def test_what_is_only_looked_at_binds_nothing(store: EventStore, log: RecordingLog) -> None:
    store.events.register(Registered)
    bus, looks = CommandBus(store), list[bool]()

    async def register(command: Register) -> None:
        looks.append(await store.look(is_taken(command.username)))
        await store.append([Registered(username=command.username)])

    async def register_first(append: Any) -> None:
        if append.command:
            await store.append([Registered(username="ann")])

    bus.register(Register, register)
    log.before_append = register_first
    await bus.dispatch(Register(username="ann"))
    assert (looks, await store.head()) == ([False], 2)


@dataclass(frozen=True, kw_only=True)
class SubscribeAll(Command[int]):
    students: tuple[str, ...]


@pytest.mark.parametrize("is_at_once", [False, True])
async def test_commands_within_a_command_decide_on_what_it_has_appended(
    store: EventStore, bus: CommandBus, is_at_once: bool
) -> None:
    async def subscribe_all(command: SubscribeAll) -> int:
        inner = [bus.dispatch(Subscribe(student=student, course="c1")) for student in command.students]
        outcomes = [
            outcome
            for batch in ([inner] if is_at_once else [[each] for each in inner])
            for outcome in await asyncio.gather(*batch, return_exceptions=True)
        ]
        assert set(names(outcomes)) <= {"FullError"}
        return len(outcomes) - len(names(outcomes))

    bus.register(SubscribeAll, subscribe_all)
    await bus.dispatch(Subscribe(student="s0", course="c1"))
    students = tuple(f"s{number}" for number in range(1, 9))
    assert await bus.dispatch(SubscribeAll(students=students)) == CAPACITY - 1
    assert await store.head() == CAPACITY


async def test_a_decision_sees_what_its_own_command_has_appended(store: EventStore) -> None:
    store.events.register(Registered)
    bus, seen = CommandBus(store), list[tuple[str, ...]]()

    async def register(command: Register) -> None:
        nothing: tuple[str, ...] = ()
        model = DecisionModel(query=EventQuery.of(Registered), initial_state=nothing, evolve=evolve_on_records)
        for name in (command.username, "bob"):
            await store.append([Registered(username=name)])
            seen.append((await store.decide(model)).state)

    bus.register(Register, register)
    await bus.dispatch(Register(username="ann"))
    assert seen == [("ann at 0",), ("ann at 0", "bob at 0")]


def evolve_on_events(names: tuple[str, ...], event: Registered) -> tuple[str, ...]:
    return (*names, event.username)


def evolve_on_records(names: tuple[str, ...], recorded: RecordedEvent[Registered]) -> tuple[str, ...]:
    return (*names, f"{recorded.event.username} at {recorded.position}")


def evolve_on_annotated(names: tuple[str, ...], it: RecordedEvent[Registered]) -> tuple[str, ...]:
    return (*names, f"{it.event.username} at {it.position}")


def evolve_on_both(names: tuple[str, ...], event: Registered, recorded: object) -> tuple[str, ...]:
    assert isinstance(recorded, RecordedEvent)
    return (*names, f"{event.username} at {recorded.position}")


@pytest.mark.parametrize(
    ("evolve", "expected"),
    [
        (evolve_on_events, ("ann", "bob")),
        (evolve_on_records, ("ann at 1", "bob at 2")),
        (evolve_on_annotated, ("ann at 1", "bob at 2")),
        (evolve_on_both, ("ann at 1", "bob at 2")),
    ],
)
async def test_a_fold_takes_the_event_its_record_or_both(store: EventStore, evolve: Any, expected: Any) -> None:
    await store.append([Registered(username="ann"), Registered(username="bob")])
    model = DecisionModel(query=EventQuery.of(Registered), initial_state=(), evolve=evolve)
    assert await store.look(model) == expected
    assert await store.look(combine(model, model)) == (expected, expected)


@pytest.mark.parametrize("evolve", [lambda: 0, lambda state: state, lambda state, event, more: state])
def test_a_fold_with_other_parameters_is_refused(evolve: Any) -> None:
    with pytest.raises(TypeError, match=r"write evolve\(state, event\) or evolve\(state, event, recorded\)"):
        DecisionModel(query=EventQuery.of(Registered), initial_state=0, evolve=evolve)


# -- queries that no event can match -----------------------------------------------------------------------------

UNMATCHABLE = [
    EventQuery.of(Registered, tags=["user:ann"]),
    EventQuery.of(Subscribed, tags=["course:c1", "username:ann"]),
    EventQuery.of(Registered, Subscribed, tags=["username:ann", "course:c1"]),
    EventQuery.of(Registered)
    | EventQuery.of(
        Registered,
        tags=["username"],
    )
    | EventQuery.of(Registered, tags=["n:1"]),
]


async def in_transaction(store: EventStore, query: EventQuery) -> None:
    async with store.transaction() as tx:
        tx.append([Registered(username="ann")], condition=AppendCondition(query))


QUERIED: dict[str, Callable[[EventStore, EventQuery], Any]] = {
    "decide": lambda store, query: store.decide(DecisionModel(query=query, initial_state=0, evolve=lambda n, event: n)),
    "look": lambda store, query: store.look(DecisionModel(query=query, initial_state=0, evolve=lambda n, event: n)),
    "append": lambda store, query: store.append([Registered(username="ann")], condition=AppendCondition(query)),
    "append_events": lambda store, query: store.append_events(
        "Name-ann", "Name", [Registered(username="ann")], expected_version=0, condition=AppendCondition(query)
    ),
    "transaction": in_transaction,
    "read": lambda store, query: anext(store.read(query)),
    "subscribe": lambda store, query: anext(store.subscribe(query)),
}


@pytest.mark.parametrize("query", UNMATCHABLE, ids=range(len(UNMATCHABLE)))
@pytest.mark.parametrize("verb", QUERIED)
async def test_a_tag_that_no_event_of_the_types_carries_is_refused(url: str, verb: str, query: EventQuery) -> None:
    async with open_event_store(url) as store:
        store.events.register(Registered, Subscribed)
        with pytest.raises(ValueError, match=r"no event of the type .* carries .*these types have the tags"):
            await QUERIED[verb](store, query)
        assert await store.head() == 0


async def test_a_type_that_is_not_registered_may_carry_any_tag(store: EventStore) -> None:
    await store.append([Registered(username="ann")])
    query = EventQuery.of(Registered, "WrittenElsewhere", tags=["place:x"])
    assert [each async for each in store.read(query)] == []


# -- unique values -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Renamed(Event):
    old: Annotated[str, Tag("username")]
    account: Annotated[str, Tag("account")] = "7"


def uniquely(store: EventStore, **rule: Any) -> CommandBus:
    store.events.register(Registered, Renamed)
    bus = CommandBus(store)

    async def register(command: Register) -> None:
        await store.decide(unique("username", of=Registered, value=command.username, **rule))
        await store.append([Registered(username=command.username)])

    bus.register(Register, register)
    return bus


async def test_of_fifty_that_want_one_value_at_once_one_gets_it(store: EventStore) -> None:
    bus = uniquely(store)
    wishes = [Register(username=name) for name in ("ann", "bob") * 25]
    outcomes = await asyncio.gather(*map(bus.dispatch, wishes), return_exceptions=True)
    assert names(outcomes) == ["ValueTakenError"] * 48
    assert sorted([each.event.username async for each in store.read()]) == ["ann", "bob"]


async def test_a_value_that_was_released_is_free(store: EventStore) -> None:
    bus = uniquely(store, released_by=Renamed)
    await bus.dispatch(Register(username="ann"))
    await store.append([Renamed(old="ann")])
    await bus.dispatch(Register(username="ann"))
    with pytest.raises(ValueTakenError, match="username 'ann' is taken") as caught:
        await bus.dispatch(Register(username="ann"))
    assert (caught.value.name, caught.value.value) == ("username", "ann")


async def test_what_one_has_one_may_take_again(store: EventStore) -> None:
    await store.append([Renamed(old="ann")])
    own = unique("username", of=[Registered, Renamed], value="ann", unless="account:7")
    assert not (await store.decide(own)).state
    with pytest.raises(ValueTakenError):
        await store.decide(unique("username", of=[Registered, Renamed], value="ann", unless="account:8"))
    with pytest.raises(ValueTakenError):
        await store.decide(combine(own, unique("username", of=Renamed, value="ann")))


def test_a_class_without_the_tag_is_refused() -> None:
    with pytest.raises(ValueError, match=r'no field that is tagged .*email: Annotated\[str, Tag\("email"\)\]'):
        unique("email", of=[Subscribed], value="a")


@dataclass
class Open:
    names: int = 0


@pytest.mark.parametrize("state", [[], {}, set(), bytearray(), deque(), Open(), (0, [])])
def test_an_initial_state_that_can_be_changed_is_refused(state: Any) -> None:
    with pytest.raises(TypeError, match="which one decision could change for the next"):
        DecisionModel(query=EventQuery.of(Registered), initial_state=state, evolve=lambda state, event: state)


def subscribe_all(url: str, course: str, students: range, start: Any, results: Any) -> None:
    """Run in a process of its own."""

    async def run() -> int:
        async with open_event_store(url) as store:
            bus = wire(store)
            await asyncio.to_thread(start.wait)
            outcomes = await asyncio.gather(
                *(bus.dispatch(Subscribe(student=f"s{n}", course=course)) for n in students), return_exceptions=True
            )
            assert names(outcomes) == ["FullError"] * len(names(outcomes)), outcomes
            return len(outcomes) - len(names(outcomes))

    results.put(asyncio.run(run()))


async def test_processes_that_race_for_the_last_seats_never_overbook(url: str, store: EventStore) -> None:
    start, results = CONTEXT.Barrier(2), CONTEXT.Queue()
    racers = [
        CONTEXT.Process(target=subscribe_all, args=(url, "c1", range(n, n + 10), start, results)) for n in (0, 10)
    ]
    for racer in racers:
        racer.start()
    won = [await asyncio.to_thread(results.get, timeout=60) for _ in racers]
    for racer in racers:
        racer.join(30)
    assert sum(won) == CAPACITY
    assert await store.head() == CAPACITY
