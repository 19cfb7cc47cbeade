"""One handler per query, and answers that show what a command wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, Deposit, GetBalance, Open, wire

from twofold import Application, Position, Query, QueryBus, ReadModel
from twofold.errors import DuplicateHandlerError, HandlerNotFoundError, InvalidHandlerError, StaleReadError
from twofold.middleware import Call


@dataclass(frozen=True)
class CountOwners(Query[int]):
    pass


class GetBalanceHandler:
    def __init__(self, balances: ReadModel[Balance]) -> None:
        self._balances = balances

    async def handle(self, query: GetBalance) -> Balance | None:
        return await self._balances.get(query.account)


@pytest_asyncio.fixture
async def app(url: str) -> AsyncIterator[Application]:
    app = Application(url)
    wire(app)
    app.queries.register(GetBalance, GetBalanceHandler(app.projections.add(Balances())))
    async with app:
        yield app


async def count(query: CountOwners) -> int:
    return 3


async def test_dispatch_returns_the_answer_of_a_function() -> None:
    bus = QueryBus()
    bus.register(CountOwners, count)
    assert await bus.dispatch(CountOwners()) == 3


async def test_a_query_after_a_receipt_shows_what_was_written(app: Application) -> None:
    await app.commands.dispatch(Open(account="a"))
    for amount in range(1, 20):
        receipt = await app.commands.execute(Deposit(account="a"))
        assert await app.queries.dispatch(GetBalance("a"), after=receipt) == Balance(
            "a", "ann", Decimal(amount), amount
        )


async def test_a_position_serves_as_well_as_a_receipt(app: Application) -> None:
    receipt = await app.commands.execute(Open(account="a"))
    assert await app.queries.dispatch(GetBalance("a"), after=receipt.position)


async def test_the_receipt_of_a_command_that_wrote_nothing_waits_for_nothing(app: Application) -> None:
    receipt = replace(await app.commands.execute(Open(account="a")), position=Position(0))
    await app.queries.dispatch(GetBalance("a"), after=receipt, timeout=0)


async def test_a_query_that_is_not_visible_in_time_says_how_far_the_read_models_are(app: Application) -> None:
    receipt = await app.commands.execute(Open(account="a"))
    await app.queries.dispatch(GetBalance("a"), after=receipt)
    with pytest.raises(StaleReadError, match="have not reached position 9 in time: balances at 1") as caught:
        await app.queries.dispatch(GetBalance("a"), after=9, timeout=0.05)
    assert (caught.value.position, caught.value.behind) == (9, {"balances": 1})


async def test_a_query_waits_for_a_synchronizer_that_runs_elsewhere(url: str) -> None:
    web = Application(url, synchronize=False)
    wire(web)
    web.queries.register(GetBalance, GetBalanceHandler(web.projections.add(Balances())))
    worker = Application(url)
    worker.projections.add(Balances())
    async with web:
        receipt = await web.commands.execute(Open(account="a"))
        with pytest.raises(StaleReadError):
            await web.queries.dispatch(GetBalance("a"), after=receipt, timeout=0.05)
        asking = asyncio.create_task(web.queries.dispatch(GetBalance("a"), after=receipt, timeout=20))
        async with worker:
            assert await asking == Balance("a", "ann")


async def test_a_query_without_a_handler_names_the_line_to_add() -> None:
    with pytest.raises(HandlerNotFoundError, match=r"add `queries\.register\(CountOwners, handler\)`"):
        await QueryBus().dispatch(CountOwners())


async def test_a_command_that_is_dispatched_as_a_query_is_told_where_it_belongs() -> None:
    with pytest.raises(TypeError, match="`query` is the command Open; dispatch it with `commands`"):
        await QueryBus().dispatch(Open(account="a"))  # type: ignore[arg-type]


async def test_a_second_handler_is_refused() -> None:
    bus = QueryBus()
    bus.register(CountOwners, count)
    with pytest.raises(DuplicateHandlerError, match="CountOwners is already handled by <function count"):
        bus.register(CountOwners, count)


@pytest.mark.parametrize("handler", [GetBalanceHandler, lambda query: 3, object()])
def test_what_cannot_answer_is_refused(handler: Any) -> None:
    with pytest.raises(InvalidHandlerError):
        QueryBus().register(GetBalance, handler)


async def test_middleware_sees_the_query_and_the_answer() -> None:
    seen: list[object] = []

    async def note(query: Any, call_next: Call) -> Any:
        answer = await call_next(query)
        seen.extend([query, answer])
        return answer

    bus = QueryBus(middleware=[note])
    bus.register(CountOwners, count)
    await bus.dispatch(CountOwners())
    assert seen == [CountOwners(), 3]


async def test_an_answer_that_a_middleware_has_lost_is_refused() -> None:
    async def now_and_then(query: Any, call_next: Call) -> Any:
        answer = await call_next(query)
        return answer if answer != 3 else None

    bus = QueryBus(middleware=[now_and_then])
    bus.register(CountOwners, count)
    with pytest.raises(InvalidHandlerError, match=r"CountOwners was answered with None.* a middleware has lost"):
        await bus.dispatch(CountOwners())


async def test_a_middleware_that_returns_nothing_is_refused_before_it_is_ever_called() -> None:
    async def forgetful(query: Any, call_next: Call) -> None:
        await call_next(query)

    with pytest.raises(InvalidHandlerError, match="forgetful returns nothing"):
        QueryBus(middleware=[forgetful])


async def test_the_error_of_a_handler_comes_through_as_it_is() -> None:
    async def fail(query: CountOwners) -> int:
        raise LookupError("owners")

    bus = QueryBus()
    bus.register(CountOwners, fail)
    with pytest.raises(LookupError, match="owners"):
        await bus.dispatch(CountOwners())


class CountAsStruct(msgspec.Struct, Query[int], frozen=True):
    at_least: int = 0


class CountAsModel(pydantic.BaseModel, Query[int], frozen=True):
    at_least: int = 0


@pytest.mark.parametrize("kind", [CountAsStruct, CountAsModel])
async def test_structs_and_pydantic_models_are_queries(kind: Any) -> None:
    async def answer(query: Any) -> int:
        return int(query.at_least) + 1

    bus = QueryBus()
    bus.register(kind, answer)
    assert await bus.dispatch(kind(at_least=4)) == 5
