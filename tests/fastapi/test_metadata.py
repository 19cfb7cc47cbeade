"""On whose behalf a request is made, all that follows from it says, and each thing names what caused it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi.testclient import TestClient
from tests.fulfilment import OrderCancelled, OrderPlaced, PaymentRequested, build
from tests.synchronizing import until

from fastapi import Depends, FastAPI, Header, Request, Response
from twofold import Application, Command, Event, Reaction, RecordedEvent, SqlProjection, metadata
from twofold.errors import StorageUnavailableError
from twofold.processes import Process, ScheduledCommands, starts


class Place(Command[None]):
    """Place the order a."""


class Remember(Command[None]):
    """Place the order b, in a moment."""


@dataclass(frozen=True, kw_only=True)
class Thank(Command[None]):
    order: str


@dataclass(frozen=True, kw_only=True)
class Complain(Command[None]):
    order: str


@dataclass(frozen=True, kw_only=True)
class Thanked(Event):
    order: str


@dataclass(frozen=True, kw_only=True)
class Complained(Event):
    order: str


@dataclass(frozen=True, kw_only=True)
class Filed(Event):
    order: str


class Grumble(Process[None]):
    """It complains about what is cancelled, once it is mended."""

    name = "grumble"
    is_mended = False

    @starts(OrderCancelled, key="order")
    def cancelled(self, state: None, event: OrderCancelled) -> Iterator[object]:
        if not self.is_mended:
            raise ZeroDivisionError
        yield Complain(order=event.order)

    def is_completed(self, state: None) -> bool:
        return False


class Thanks(Reaction):
    """It says thank you for a payment request, by a command."""

    name = "thanks"

    def __init__(self, app: Application) -> None:
        self.app = app

    def handles(self) -> tuple[type, ...]:
        return (PaymentRequested,)

    async def apply(self, event: PaymentRequested) -> None:
        await self.app.commands.execute(Thank(order=event.order))


class Files(SqlProjection):
    """It files complaints in SQL, and an event in the same transaction."""

    name, tables = "files", ("files",)

    def __init__(self, app: Application) -> None:
        self.app = app

    def handles(self) -> tuple[type, ...]:
        return (Complained,)

    async def create(self, connection: Any) -> None:
        await _run(connection, f"CREATE TABLE {self.table('files')} (name text)")

    async def apply(self, event: Complained, connection: Any) -> None:
        await _run(connection, f"INSERT INTO {self.table('files')} VALUES ('{event.order}')")
        async with self.app.store.transaction(connection) as transaction:
            transaction.append([Filed(order=event.order)])


async def _run(connection: Any, sql: str) -> None:
    result = connection.execute(sql)
    if isinstance(result, Awaitable):
        await result


class Tree:
    """An application in which a request causes one thing after the other, and an API before it."""

    def __init__(self, url: str) -> None:
        self.app, self.shop = build(url)
        self.grumble = Grumble()
        self.app.processes.add(self.grumble)
        self.app.processes.add(ScheduledCommands())
        self.app.projections.add(Thanks(self.app))
        self.app.projections.add(Files(self.app))
        self.app.commands.register(Place, self._place)
        self.app.commands.register(Remember, self._remember)
        self.app.commands.register(Thank, self._thank)
        self.app.commands.register(Complain, self._complain)
        self.app.store.events.register(Thanked, Filed)
        self.api = FastAPI(lifespan=self.app.lifespan, dependencies=[Depends(on_behalf_of)])
        self.api.middleware("http")(of_the_request)
        self.api.post("/orders")(self.place)
        self.api.post("/reminders")(self.remember)

    async def place(self) -> None:
        await self.app.commands.execute(Place())

    async def remember(self) -> str:
        return await self.app.commands.schedule(Remember(), after=timedelta(milliseconds=50))

    async def _place(self, _: Place) -> None:
        await self.app.store.append([OrderPlaced(order="a", deadline=0.1)])

    async def _remember(self, _: Remember) -> None:
        await self.app.store.append([OrderPlaced(order="b")])

    async def _thank(self, command: Thank) -> None:
        await self.app.store.append([Thanked(order=command.order)])

    async def _complain(self, command: Complain) -> None:
        await self.app.store.append([Complained(order=command.order)])

    async def events(self) -> list[RecordedEvent[Any]]:
        return [each async for each in self.app.store.read()]

    async def until(self, event: type) -> list[RecordedEvent[Any]]:
        """Return all events as soon as there is one of a class."""

        async def is_there() -> bool:
            return any(type(each.event) is event for each in await self.events())

        try:
            await until(is_there)
        except TimeoutError:
            raise AssertionError(f"{await self.events()} {await self.app.processes.status()}") from None
        return await self.events()


async def of_the_request(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Take the correlation and the tenant from headers, as a middleware."""
    correlation = UUID(request.headers["x-correlation-id"])
    with metadata(correlation_id=correlation, tenant=request.headers["x-tenant"]):
        return await call_next(request)


async def on_behalf_of(x_user: Annotated[str, Header()]) -> AsyncIterator[None]:
    """Take the user from a header, as a dependency that may look up more."""
    with metadata(user=x_user, extra={"role": "buyer"}):
        yield


def causes(events: list[RecordedEvent[Any]], event: type) -> list[str]:
    """Return the types of what has led to the first event of a class, up to the request; that one stands first."""
    by_id = {each.event_id: each for each in events}
    found = next(each for each in events if type(each.event) is event)
    names = [found.type]
    while (cause := by_id.get(found.metadata.causation_id)) is not None:  # type: ignore[arg-type]
        found = cause
        names.append(found.type)
    assert found.metadata.causation_id == found.metadata.command_id, names  # the request's command, if it was one
    return names


STEP = "twofold.ProcessStep"


def assert_all_are_on_behalf_of(events: list[RecordedEvent[Any]], correlation: UUID) -> None:
    for each in events:
        found = each.metadata
        assert (found.correlation_id, found.tenant, found.user) == (correlation, "t1", "ann"), each
        assert found.extra == {"role": "buyer"}, each


def test_all_that_follows_from_a_request_is_on_its_behalf_and_names_its_cause(url: str) -> None:
    """Commands, a process, its timer, a second process whose event was parked and retried, a reaction, and SQL."""
    tree, correlation = Tree(url), uuid4()
    tree.shop.failing = failing_twice()
    with TestClient(tree.api) as client:
        headers = {"x-correlation-id": str(correlation), "x-tenant": "t1", "x-user": "ann"}
        assert client.post("/orders", headers=headers).status_code == 200
        assert client.portal is not None
        client.portal.call(tree.until, Thanked)
        client.portal.call(until, tree.app.projections.control("grumble").parked)
        tree.grumble.is_mended = True
        client.portal.call(tree.app.processes.control("grumble").retry)  # by an operator, on nobody's behalf
        events = client.portal.call(tree.until, Filed)
    assert_all_are_on_behalf_of(events, correlation)
    assert causes(events, Thanked) == ["Thanked", "PaymentRequested", STEP, "OrderPlaced"]
    cancelled = ["OrderCancelled", STEP, STEP, "OrderPlaced"]  # the timer was set by the step that took the order in
    assert causes(events, OrderCancelled) == cancelled
    assert causes(events, Filed) == ["Filed", "Complained", STEP, *cancelled]


def test_all_that_follows_from_a_command_that_a_request_has_scheduled_is_on_its_behalf(url: str) -> None:
    tree, correlation = Tree(url), uuid4()
    with TestClient(tree.api) as client:
        headers = {"x-correlation-id": str(correlation), "x-tenant": "t1", "x-user": "ann"}
        assert client.post("/reminders", headers=headers).status_code == 200
        assert client.portal is not None
        events = client.portal.call(tree.until, Thanked)
    assert_all_are_on_behalf_of(events, correlation)
    names = ["Thanked", "PaymentRequested", STEP, "OrderPlaced", STEP, STEP, "twofold.CommandScheduled"]
    assert causes(events, Thanked) == names


def failing_twice() -> Callable[[object], BaseException | None]:
    """Let each of the first two commands fail, so that they are sent again."""
    failures = iter([StorageUnavailableError("away"), StorageUnavailableError("away")])
    return lambda _: next(failures, None)
