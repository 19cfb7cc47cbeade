"""Scenarios: of records, of old payloads, and of what runs against a database in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pytest
from sqlalchemy import Connection, text
from tests.accounts import (
    ACCOUNT,
    Balance,
    Balances,
    Deposit,
    Deposited,
    GetBalance,
    Open,
    Opened,
    OverdrawnError,
    Withdraw,
    Withdrawn,
    wire,
)
from tests.fulfilment import FulfilOrder, OrderPlaced, RequestPayment

from decisions import courses
from twofold import (
    Aggregate,
    Application,
    BatchReaction,
    Command,
    Decider,
    DecisionModel,
    Event,
    EventQuery,
    GroupedProjection,
    Key,
    Metadata,
    Projection,
    RawEvent,
    Reaction,
    RecordedEvent,
    SqlProjection,
    Tag,
    ValueTakenError,
    current_metadata,
    event_type,
    metadata,
    on,
    unique,
)
from twofold.errors import NewerSchemaError, TenantMissingError, UnknownEventTypeError
from twofold.processes import Process, starts
from twofold.testing import Stored, scenario

OPENED = Opened(account="a")
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ANN = Metadata(user="ann", tenant="t1")
SECOND = timedelta(seconds=1)


def deposited(amount: int, account: str = "a") -> Deposited:
    return Deposited(account=account, amount=Decimal(amount))


# -- records ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    account: Annotated[str, Key()]
    position: int
    stream: str
    version: int
    user: str | None
    at: datetime


def seen(recorded: RecordedEvent[Any]) -> Seen:
    stands = recorded.position, recorded.stream_id, recorded.version, recorded.metadata.user, recorded.recorded_at
    return Seen(recorded.event.account, *stands)


class Records(Projection[Seen]):
    name = "records"

    @on(Opened, Deposited)
    def changed(self, _: Seen | None, recorded: RecordedEvent[Any]) -> Seen:
        return seen(recorded)


class Watching(Reaction):
    name = "watching"

    def __init__(self, kept: list[Seen]) -> None:
        self._kept = kept

    def handles(self) -> tuple[type, ...]:
        return Opened, Deposited

    async def apply(self, recorded: RecordedEvent[Any]) -> None:
        self._kept.append(seen(recorded))


def test_a_projection_sees_events_where_the_test_says() -> None:
    past = scenario(Records())(OPENED, stream="Account-a", version=7, position=100, metadata=ANN, at=NOON)
    past.then_row(Seen("a", 100, "Account-a", 7, "ann", NOON))
    past.when(deposited(1), stream="Account-a").then_row(Seen("a", 101, "Account-a", 8, None, NOON + SECOND))
    past.given(deposited(1, "b")).then_row(Seen("b", 101, "", 0, None, NOON + SECOND))
    past.then_rows(Seen("a", 100, "Account-a", 7, "ann", NOON))  # a further `given` leaves it what it was


def test_versions_count_the_events_of_each_stream() -> None:
    given = scenario(Records())(OPENED, deposited(1), stream="Account-a")
    both = given.given(deposited(1, "b"), stream="Account-b").when(deposited(2), stream="Account-a")
    both.then_row(Seen("a", 4, "Account-a", 3, None, NEW_YEAR + 3 * SECOND))
    both.then_row(Seen("b", 3, "Account-b", 1, None, NEW_YEAR + 2 * SECOND))


def test_a_reaction_sees_events_where_the_test_says() -> None:
    kept: list[Seen] = []
    past = scenario(Watching(kept), sends=kept)(OPENED, stream="Account-a", metadata=ANN)
    past.when(deposited(1), deposited(2), stream="Account-a", at=NOON, metadata=ANN).then_sends(
        Seen("a", 2, "Account-a", 2, "ann", NOON), Seen("a", 3, "Account-a", 3, "ann", NOON + SECOND)
    )


@pytest.mark.parametrize(
    ("where", "error", "said"),
    [
        ({"version": 2}, ValueError, 'say which one: stream="Order-o1"'),
        ({"position": 1}, ValueError, "position=1 is not behind the event before it, which is at 1"),
        ({"position": 0}, ValueError, "`position` is a whole number from 1"),
        ({"metadata": {"user": "ann"}}, TypeError, r'such as Metadata\(user="ann"\)'),
        ({"at": datetime(2026, 1, 1)}, TypeError, "`at` is a datetime with a time zone"),  # noqa: DTZ001
        ({"stream": 1}, TypeError, "`stream` is a text"),
    ],
)
def test_a_place_that_cannot_be_is_refused(where: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        scenario(Records())(OPENED).given(OPENED, **where)


def test_what_is_given_stands_before_what_is_done() -> None:
    changed = scenario(Balances())(OPENED).when(deposited(1))
    with pytest.raises(TypeError, match="call `given` before `when`"):
        changed.given(OPENED)
    changed.then_row(Balance("a", "ann", Decimal(1), 1))


# -- old payloads -----------------------------------------------------------------------------------------------------


def _split(payload: dict[str, Any]) -> dict[str, Any]:
    first, last = payload.pop("name").split()
    return payload | {"first": first, "last": last}


@event_type("PersonNamed", version=3, upcasters={1: lambda old: {"person": old["id"], "name": old["name"]}, 2: _split})
@dataclass(frozen=True, kw_only=True)
class Named(Event):
    person: Annotated[str, Tag("person")]
    first: str
    last: str


@dataclass(frozen=True)
class Rename(Command):
    first: str


@dataclass(frozen=True)
class Person:
    person: Annotated[str, Key()]
    first: str


class People(Projection[Person]):
    name = "people"

    @on(Named)
    def named(self, event: Named) -> Person:
        return Person(event.person, event.first)


class Citizen(Aggregate):
    first = ""

    @on(Named)
    def _named(self, event: Named) -> None:
        self.first = event.first

    def rename(self, first: str) -> None:
        if first != self.first:
            self.record(Named(person=self.id, first=first, last="x"))


def _decide(command: Rename, first: str) -> Sequence[Named]:
    return [] if first == command.first else [Named(person="p", first=command.first, last="x")]


CITIZEN = Decider(initial_state=str, decide=_decide, evolve=lambda _, e: e.first, stream_type="C", events=(Named,))


class Greet(Process[str]):
    name, initial = "greet", ""

    @starts(Named, key="person")
    def named(self, state: str, event: Named) -> Sequence[Rename]:
        return [Rename(first=event.first)]

    def is_completed(self, state: str) -> bool:
        return True


class Letters(Reaction):
    name = "letters"

    def __init__(self) -> None:
        self.sent: list[str] = []

    def handles(self) -> tuple[type, ...]:
        return (Named,)

    async def apply(self, event: Named) -> None:
        self.sent.append(event.first)


class Names(SqlProjection):
    name, tables = "names", ("names",)

    def handles(self) -> tuple[type, ...]:
        return (Named,)

    async def create(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"CREATE TABLE {self.table('names')} (first TEXT UNIQUE)")

    async def apply(self, event: Named, connection: sqlite3.Connection) -> None:
        connection.execute(f"INSERT INTO {self.table('names')} VALUES (?)", (event.first,))


OLD = Stored("PersonNamed", version=1, payload={"id": "p", "name": "Ada Lovelace"})
NEXT = Stored(Named, version=2, payload={"person": "p", "name": "Ada Lovelace"})


def _sent_letters(old: Stored) -> None:
    letters = Letters()
    scenario(letters, sends=letters.sent)().when(old).then_sends("Ada")


def _seen_by_a_decision(old: Stored) -> None:
    model = DecisionModel(
        query=EventQuery.of(Named, tags=["person:p"]), initial_state="", evolve=lambda _, event: event.first
    )
    scenario(model)(Named(person="q", first="x", last="y"), old).then_state("Ada")


def _handled(old: Stored) -> None:
    def wire(app: Application) -> None:
        app.repository(Citizen).handle(RenameCitizen, lambda citizen, command: citizen.rename(command.first))

    scenario(wire)(old, stream="Citizen-p").when(RenameCitizen(citizen_id="p", first="Ada")).then()


@dataclass(frozen=True, kw_only=True)
class RenameCitizen(Command):
    citizen_id: str
    first: str


@pytest.mark.parametrize("old", [OLD, NEXT], ids=["first", "second"])
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(lambda old: scenario(People())(old).then_rows(Person("p", "Ada")), id="projection"),
        pytest.param(lambda old: scenario(Names())(old).then_rows("SELECT first FROM names", ("Ada",)), id="SQL"),
        pytest.param(lambda old: scenario(Citizen)(old).when(lambda c: c.rename("Ada")).then(), id="aggregate"),
        pytest.param(lambda old: scenario(CITIZEN)(old).when(Rename(first="Ada")).then(), id="decider"),
        pytest.param(lambda old: scenario(Greet())().when(old).then_sends(Rename(first="Ada")), id="process"),
        pytest.param(_seen_by_a_decision, id="decision"),
        pytest.param(_sent_letters, id="reaction"),
        pytest.param(_handled, id="handler"),
    ],
)
def test_what_earlier_code_has_stored_is_read_as_in_a_log(check: Callable[[Stored], object], old: Stored) -> None:
    check(old)


def test_what_no_class_can_read_is_refused_as_in_a_log() -> None:
    people = scenario(People())
    with pytest.raises(UnknownEventTypeError, match="Unheard"):
        people(Stored("Unheard", version=1, payload={})).then_rows()
    with pytest.raises(NewerSchemaError):
        people(Stored("PersonNamed", version=4, payload={})).then_rows()


# -- grouped and SQL projections --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    account: Annotated[str, Key()]
    number: Annotated[int, Key()]
    amount: Decimal


class Entries(GroupedProjection[Entry]):
    name = "entries"

    @on(Deposited)
    def deposited(self, rows: tuple[Entry, ...] | None, event: Deposited) -> list[Entry]:
        return [*(rows or ()), Entry(event.account, len(rows or ()) + 1, event.amount)]


def test_a_grouped_projection_makes_the_rows_of_all_groups() -> None:
    given = scenario(Entries())(deposited(3), deposited(4), deposited(5, "b"))
    given.then_rows(Entry("b", 1, Decimal(5)), Entry("a", 2, Decimal(4)), Entry("a", 1, Decimal(3)))
    given.then_no_row("b", 2).then_row(Entry("a", 2, Decimal(4)))


def test_an_sql_projection_writes_its_tables() -> None:
    one, two = Named(person="p", first="Ada", last="x"), Named(person="q", first="Bob", last="x")
    given = scenario(Names())(OPENED, one)
    given.when(two).then_rows("SELECT first FROM names ORDER BY first DESC", ("Bob",), ("Ada",))
    given.when(one).then_raises(sqlite3.IntegrityError, "UNIQUE")
    with pytest.raises(sqlite3.IntegrityError):
        given.given(one).when(two).then_raises(sqlite3.IntegrityError)
    with pytest.raises(
        AssertionError, match=r"(?s)other rows.*given\n    Opened.*when\n.*Bob.*- \('Eve',\).*\+ \('Ada"
    ):
        given.when(two).then_rows("SELECT first FROM names ORDER BY first", ("Eve",))
    with pytest.raises(AssertionError, match="expected IntegrityError, but it took all events"):
        given.when(two).then_raises(sqlite3.IntegrityError)


class AlchemyNames(Names):
    name, tables, connection = "alchemy_names", ("alchemy_names",), "sqlalchemy"

    def create(self, connection: Connection) -> None:
        connection.execute(text(f"CREATE TABLE {self.table('alchemy_names')} (first TEXT)"))

    def apply(self, event: Named, connection: Connection) -> None:
        connection.execute(text(f"INSERT INTO {self.table('alchemy_names')} VALUES (:first)"), {"first": event.first})


def test_an_sql_projection_may_write_through_sqlalchemy() -> None:
    scenario(AlchemyNames())(OLD, NEXT).then_rows("SELECT first FROM alchemy_names", ("Ada",), ("Ada",))


class Types(SqlProjection):
    name, tables = "types", ("types",)

    def handles(self) -> tuple[type, ...]:
        return (RawEvent,)

    async def create(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"CREATE TABLE {self.table('types')} (type TEXT)")

    async def apply(self, event: RawEvent, connection: sqlite3.Connection) -> None:
        connection.execute(f"INSERT INTO {self.table('types')} VALUES (?)", (event.type,))


def test_an_sql_projection_of_all_events_gets_them_as_the_log_holds_them() -> None:
    unheard = Stored("Unheard", version=9, payload={"any": "thing"})
    scenario(Types())(OPENED, unheard).then_rows("SELECT type FROM types", ("Opened",), ("Unheard",))


# -- reactions --------------------------------------------------------------------------------------------------------


class Outbox:
    """The test's own adapter."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.published: list[tuple[str, str | None]] = []
        self.is_down = False

    async def send(self, message: object) -> None:
        if self.is_down:
            raise ConnectionError("down")
        self.sent.append(message)

    async def publish(self, topic: str) -> None:
        self.published.append((topic, current_metadata().user))


class Welcome(Reaction):
    name = "welcome"

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    async def apply(self, event: Opened) -> None:
        if event.owner == "nemo":
            raise LookupError("nemo has no address")
        await self._outbox.send(Deposit(account=event.account))
        await self._outbox.publish(event.account)


async def test_a_reaction_does_what_follows_from_what_is_done() -> None:
    outbox = Outbox()
    given = scenario(Welcome(outbox), sends=outbox.sent, publishes=outbox.published)
    given(Opened(account="earlier")).when(OPENED, metadata=ANN).then_sends(Deposit(account="a")).then_publishes(
        ("a", "ann")
    )
    given().when(deposited(1)).then_sends().then_publishes()
    given().when(OPENED, Opened(account="b", owner="nemo")).then_raises(LookupError, "no address")
    with pytest.raises(LookupError):
        given().when(Opened(account="b", owner="nemo")).then_sends()
    with pytest.raises(AssertionError, match=r"(?s)^others than expected \(-\) were sent.*- Deposit\(account='b'"):
        given().when(OPENED).then_sends(Deposit(account="b"))
    outbox.is_down = True
    given().when(OPENED).then_raises(ConnectionError, "down")


class Bulk(BatchReaction):
    name, batch_size = "bulk", 2

    def __init__(self) -> None:
        self.published: list[tuple[int, ...]] = []

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    async def apply(self, events: Sequence[RecordedEvent[Deposited]]) -> None:
        self.published.append(tuple(int(each.event.amount) for each in events))


def test_a_batch_reaction_gets_the_events_of_one_when_in_batches() -> None:
    bulk = Bulk()
    given = scenario(bulk, publishes=bulk.published)(deposited(9))
    given.when(deposited(1), OPENED, deposited(2), deposited(3)).then_publishes((1, 2), (3,))


def test_a_reaction_whose_adapter_is_not_known_says_what_to_give() -> None:
    with pytest.raises(TypeError, match=r"scenario\(reaction, publishes=outbox.published\)"):
        scenario(Welcome(Outbox()))().when(OPENED).then_publishes()


# -- decision models and handlers -------------------------------------------------------------------------------------


def test_a_decision_model_comes_to_the_expected_state() -> None:
    given = scenario(courses.capacity_of("maths"))(courses.CourseDefined(course="maths", capacity=3))
    given.then_state(3)
    given.when(courses.CourseDefined(course="art", capacity=4)).then_state(3)
    given.when(courses.CapacityChanged(course="maths", capacity=5)).then_state(5)
    with pytest.raises(AssertionError, match=r"(?s)another state.*given\n.*maths.*- 4\n.*\+ 3"):
        given.then_state(4)


def test_a_decision_that_is_forbidden_raises() -> None:
    given = scenario(unique("account", of=Opened, value="a"))
    given(Opened(account="b")).then_state(False)
    given(OPENED).then_raises(ValueTakenError)
    with pytest.raises(AssertionError, match="expected the state False, but it raised ValueTakenError"):
        given(OPENED).then_state(False)
    with pytest.raises(AssertionError, match="expected ValueTakenError, but the state is"):
        given().then_raises(ValueTakenError)


def _wire_all(app: Application) -> None:
    wire(app)
    courses.wire(app)
    balances = app.projections.add(Balances())

    async def balance(query: GetBalance) -> Balance | None:
        return await balances.get(query.account)

    app.queries.register(GetBalance, balance)


handlers = scenario(_wire_all)


def test_a_command_handler_does_what_is_expected() -> None:
    past = handlers(OPENED, deposited(3), stream="Account-a")
    past.when(Withdraw(account="a")).then(Withdrawn(account="a", amount=Decimal(1))).then_returns(Decimal(2))
    past.when(Withdraw(account="a", amount=Decimal(4))).then_raises(OverdrawnError, "a")
    handlers().when(Open(account="b")).then(Opened(account="b")).then_returns("b")
    with pytest.raises(AssertionError, match=r"(?s)^something else.*Withdraw\(account='a'.*- 9\n.*\+ Decimal\('2'\)"):
        past.when(Withdraw(account="a")).then_returns(9)


def test_handlers_of_an_application_with_tenants_see_what_is_of_their_own_tenant() -> None:
    given = scenario(_wire_all, tenants=True)
    rich, tea = (
        Metadata(tenant="acme", user="ann"),
        Stored("Deposited", version=1, payload={"account": "a", "amount": "3"}),
    )
    past = given(OPENED, deposited(9), stream="Account-a", metadata=rich)
    with metadata(tenant="zen"):
        past = past.given(OPENED, tea, stream="Account-a")
        past.when(Withdraw(account="a", amount=Decimal(4))).then_raises(OverdrawnError, "a")
        past.when(GetBalance(account="a")).then_returns(Balance("a", "ann", Decimal(3), 1))
    with metadata(tenant="acme"):
        taken = Withdrawn(account="a", amount=Decimal(4))
        past.when(Withdraw(account="a", amount=Decimal(4))).then(taken).then_returns(Decimal(5))
        past.when(GetBalance(account="a")).then_returns(Balance("a", "ann", Decimal(9), 1))
    with pytest.raises(TenantMissingError, match="what is given needs a tenant"):
        given(OPENED)
    with metadata(tenant="acme"):
        course = courses.CourseDefined(course="maths", capacity=1)
        given(course).when(courses.Subscribe(student="ann", course="maths")).then(
            courses.StudentSubscribed(student="ann", course="maths")
        )
    with metadata(tenant="zen"):
        given(course, metadata=rich).when(courses.Subscribe(student="ann", course="maths")).then_raises(
            courses.CourseError
        )
    past.when(Withdraw(account="a")).then_raises(TenantMissingError)


def test_a_handler_that_decides_on_a_model_does_what_is_expected() -> None:
    defined = courses.CourseDefined(course="maths", capacity=1)
    ann = courses.StudentSubscribed(student="ann", course="maths")
    handlers(defined).when(courses.Subscribe(student="ann", course="maths")).then(ann)
    handlers(defined, ann).when(courses.Subscribe(student="bob", course="maths")).then_raises(
        courses.CourseError, "is full"
    )


async def test_a_query_handler_answers_from_what_is_given() -> None:
    handlers(OPENED, deposited(3)).when(GetBalance(account="a")).then_returns(Balance("a", "ann", Decimal(3), 1))
    handlers().when(GetBalance(account="a")).then_returns(None)


def test_an_application_allots_places_by_itself() -> None:
    with pytest.raises(ValueError, match="allots positions and versions by itself"):
        handlers(OPENED, stream="Account-a", version=3).when(Withdraw(account="a"))


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_a_long_value_is_shown_line_by_line_and_a_long_past_is_shortened() -> None:
    long = Opened(account="a" * 100)
    with pytest.raises(AssertionError) as caught:
        scenario(ACCOUNT)(*[OPENED] * 30).when(Open(account="a" * 100, owner="eve")).then(long)
    lines = str(caught.value).splitlines()
    assert "    … 10 before, and" in lines
    assert lines.count("    Opened(account='a', owner='ann')") == 20
    assert lines[-13:] == [
        "  when",
        "    Open(",
        f"        account='{'a' * 100}',",
        "        owner='eve',",
        "    )",
        "  then",
        "      Opened(",
        f"          account='{'a' * 100}',",
        "    -     owner='ann',",
        "    ?            ^^^",
        "    +     owner='eve',",
        "    ?            ^^^",
        "      )",
    ]


def test_a_process_tells_what_was_given_and_done() -> None:
    placed = OrderPlaced(order="a", deadline=60)
    with pytest.raises(AssertionError) as caught:
        scenario(FulfilOrder())(placed).when_done(RequestPayment, "b7").when_time_passes(seconds=9).then_timers()
    assert str(caught.value).splitlines() == [
        "expected the timers (-), there are others (+):",
        "  given",
        "    OrderPlaced(order='a', total=10, deadline=60)",
        "  when",
        "    RequestPayment is done, with 'b7'",
        "    0:00:09 pass",
        "  then",
        "    + payment: 0:00:51",
    ]


def test_there_are_no_scenarios_of_other_things() -> None:
    others: list[Any] = [Balances, 1, Opened]
    for other in others:
        with pytest.raises(TypeError, match="there are no scenarios of"):
            scenario(other)
