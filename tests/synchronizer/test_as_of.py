"""Aggregates, deciders, decision models, rows and whole read models as of earlier moments."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.accounts import ACCOUNT, Account, Balance, Balances, Deposited, Mails, Opened, Withdrawn
from tests.projections.stays import Guests, Stays
from tests.synchronizing import PATIENCE, deposited, opened, write

from twofold import (
    Application,
    DeciderHandler,
    DecisionModel,
    Event,
    EventQuery,
    EventStore,
    GroupedProjection,
    Key,
    Options,
    Position,
    Projection,
    QueryOptions,
    ReadModel,
    Tag,
    metadata,
    on,
)
from twofold.engines.engine import Engine
from twofold.errors import (
    AggregateNotFoundError,
    ConflictError,
    FuturePositionError,
    InvalidTokenError,
    PastUnknownError,
    ProjectionFailedError,
)
from twofold.messages.stored_event import content_checksum, seal


@dataclass(frozen=True, kw_only=True)
class Handed(Event):
    """All accounts of an owner go to another one."""

    owner: Annotated[str, Tag("owner")]
    to: str


class Fickle(Balances):
    """A withdrawal closes the account, a deposit opens it again; whoever hands over his accounts loses all of them."""

    name = "fickle"

    @on(Deposited)
    def deposited(self, row: Balance | None, event: Deposited) -> Balance:
        row = row or Balance(event.account, "ann")
        return replace(row, amount=row.amount + event.amount, changes=row.changes + 1)

    @on(Withdrawn)
    def withdrawn(self, row: Balance | None, event: Withdrawn) -> None:
        return None

    @on(Handed, where="owner")
    def handed(self, row: Balance, event: Handed) -> Balance:
        return replace(row, owner=event.to)


@dataclass(frozen=True)
class Part:
    account: Annotated[str, Key()]
    number: Annotated[int, Key()]
    amount: Decimal


class Parts(GroupedProjection[Part]):
    name = "parts"

    @on(Deposited)
    def deposited(self, rows: Sequence[Part] | None, event: Deposited) -> Sequence[Part]:
        rows = rows or ()
        return [*rows, Part(event.account, rows[-1].number + 1 if rows else 1, event.amount)]

    @on(Withdrawn)
    def withdrawn(self, rows: Sequence[Part] | None, event: Withdrawn) -> Sequence[Part]:
        return (rows or ())[1:]


def add(state: Decimal, event: Deposited) -> Decimal:
    return state + event.amount


DEPOSITS = DecisionModel(query=EventQuery.of(Deposited), initial_state=Decimal(0), evolve=add)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVENTS: Sequence[Callable[[str], Event]] = (
    lambda account: Opened(account=account, owner="ann"),
    lambda account: Opened(account=account, owner="bob"),
    lambda account: Deposited(account=account, amount=Decimal("1.5")),
    lambda account: Withdrawn(account=account, amount=Decimal(1)),
    lambda account: Handed(owner="ann", to="bob"),
)


class Bank:
    """An application with read models that are up to date whenever they are asked."""

    def __init__(self, url: str) -> None:
        self.app = Application(url, synchronize=False)
        self.accounts = self.app.repository(Account)
        self.decider = DeciderHandler(self.app.store, ACCOUNT, lambda command: command.account)
        self.fickle = self.app.projections.add(Fickle(), kind="inline")
        self.parts = self.app.projections.add(Parts(), kind="on_demand")

    async def seen(self, account: str) -> dict[str, Any]:
        """Return all that can be asked of an account now."""
        found = await self.accounts.find(account)
        return {
            "aggregate": found and vars(found),
            "state": await self.decider.load(account),
            "deposits": await self.app.store.look(DEPOSITS),
            "row": await self.fickle.get(account),
            "part": await self.parts.get(account, 1),
        }

    async def seen_as_of(self, account: str, position: int) -> dict[str, Any]:
        """Return the same as of a position."""
        found = await self.accounts.find(account, as_of=position)
        return {
            "aggregate": found and vars(found),
            "state": await self.decider.load(account, as_of=position),
            "deposits": await self.app.store.look(DEPOSITS, as_of=position),
            "row": await self.fickle.get(account, as_of=position),
            "part": await self.parts.get(account, 1, as_of=position),
        }

    async def live_through(self, steps: Sequence[tuple[int, int]], accounts: Sequence[str]) -> None:
        """Append event after event, and compare what was seen with what is told of it at the end."""
        seen: list[tuple[int, dict[str, Any], list[Any], list[Any]]] = []
        for account, kind in [(0, 0), *steps]:
            event, name = EVENTS[kind](accounts[account]), accounts[account]
            if isinstance(event, Handed):
                receipt = await self.app.store.append([event])
            else:
                version = await _version(self.app.store, f"Account-{name}")
                append = self.app.store.append_events
                receipt = await append(f"Account-{name}", "Account", [event], expected_version=version)
            now = {each: await self.seen(each) for each in accounts}
            seen.append((receipt.position, now, await rows(self.fickle), await rows(self.parts)))
        for position, then, *_ in seen:
            assert {each: await self.seen_as_of(each, position) for each in accounts} == then
        for position, _, fickle, parts in seen[:: max(len(seen) // 2, 1)]:
            async with self.fickle.as_of(position) as past:
                assert await rows(past) == fickle
            async with self.parts.as_of(position) as past:
                assert await rows(past) == parts


async def rows(model: ReadModel[Any]) -> list[Any]:
    return list((await model.page(page_size=10_000)).items)


async def _version(store: EventStore, stream_id: str) -> int:
    return len([each async for each in store.read_stream(stream_id)])


def test_as_of_a_position_is_what_was_answered_when_the_log_ended_there(url: str) -> None:
    numbers = itertools.count()
    steps = st.lists(st.tuples(st.integers(0, 1), st.integers(0, len(EVENTS) - 1)), max_size=10)
    with asyncio.Runner() as runner:
        bank = Bank(url)
        runner.run(bank.app.start())

        @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(steps=steps)
        def live_through(steps: list[tuple[int, int]]) -> None:
            number = next(numbers)
            runner.run(bank.live_through(steps, (f"a{number}", f"b{number}")))

        try:
            live_through()
        finally:
            runner.run(bank.app.stop())


async def test_a_time_is_the_last_position_that_was_recorded_by_then(store: EventStore) -> None:
    recorded: dict[datetime, int] = {}
    for _ in range(40):
        position = await write(store, opened("a"))
        recorded[await _recorded_at(store, position)] = position
    for moment, position in recorded.items():
        assert await store.position_at(moment) == position
        before = await store.position_at(moment - timedelta(microseconds=1))
        assert before == position - 1 or await _recorded_at(store, before) < moment
    assert await store.position_at(EPOCH) == 0
    assert await store.position_at(datetime.now(UTC)) == 40
    found = await store.position_at(min(recorded).astimezone())  # in another time zone
    assert found == 1
    assert found.event_id == (await anext(store.read(limit=1))).stored.event_id


async def test_where_the_clock_was_set_back_a_time_is_still_one_that_lies_between_two_events(store: EventStore) -> None:
    times = [10, 20, 30, 5, 6, 31, 32, 12, 40]
    await write(store, *(opened(f"a{number}") for number in range(len(times))))
    found = [each.stored async for each in store.read()]
    changed = [msgspec.structs.replace(row, recorded_at=time) for row, time in zip(found, times, strict=True)]
    other = await _memory_log(changed)
    for second in range(50):
        position = await other.position_at(EPOCH + timedelta(microseconds=second))
        assert position == 0 or times[position - 1] <= second
        assert position == len(times) or times[position] > second


async def _memory_log(found: Sequence[Any]) -> EventStore:
    from twofold.engines.memory.event_log import MemoryEventLog

    log = MemoryEventLog()
    await log.open()
    await log.restore([
        msgspec.structs.replace(row, checksum=seal(content_checksum(row), row.position, row.version, row.recorded_at))
        for row in found
    ])  # fmt: skip
    return EventStore(log)


async def _recorded_at(store: EventStore, position: int) -> datetime:
    [found] = [each async for each in store.read(after=position - 1, before=position + 1)]
    return found.recorded_at


async def test_what_is_to_come_is_refused(url: str) -> None:
    bank = Bank(url)
    async with bank.app as app:
        await write(app.store, opened("a"))
        for moment in (2, datetime.now(UTC) + timedelta(hours=1)):
            for asked in (
                bank.accounts.load("a", as_of=moment), bank.decider.load("a", as_of=moment),
                app.store.look(DEPOSITS, as_of=moment), bank.fickle.get("a", as_of=moment),
                bank.fickle.as_of(moment).__aenter__(), app.store.position_at(moment),
            ):  # fmt: skip
                with pytest.raises(FuturePositionError, match=r"the log ends at position 1; it has not come to .* yet"):
                    await asked


async def test_a_position_of_another_history_is_refused(store: EventStore) -> None:
    await write(store, opened("a"))
    lost = Position.parse(f"1-{uuid4().hex}")
    with pytest.raises(InvalidTokenError, match=r"position 1 .* is of another history"):
        await store.look(DEPOSITS, as_of=lost)


async def test_an_aggregate_of_the_past_is_saved_only_if_nothing_has_happened_since(url: str) -> None:
    bank = Bank(url)
    async with bank.app:
        account = Account.open("a")
        account.deposit(Decimal(5))
        await bank.accounts.save(account)
        past = await bank.accounts.load("a", as_of=1)
        assert (past.balance, past.version) == (Decimal(0), 1)
        past.deposit(Decimal(1))
        with pytest.raises(ConflictError):
            await bank.accounts.save(past)
        with pytest.raises(AggregateNotFoundError):
            await bank.accounts.load("a", as_of=0)


async def test_an_event_that_cannot_be_folded_is_told_and_one_that_was_skipped_is_left_out(url: str) -> None:
    class Fussy(Balances):
        @on(Deposited)
        def deposited(self, row: Balance, event: Deposited) -> Balance:
            if event.amount == 13:
                raise ArithmeticError("unlucky")
            return super().deposited(row, event)

    app = Application(url)
    balances = app.projections.add(Fussy())
    async with app:
        await write(app.store, opened("a"), opened("b"), deposited("a", 2), deposited("a", 13), deposited("a", 4))
        await app.projections.wait(5, PATIENCE)
        with pytest.raises(ProjectionFailedError, match="event 4"):
            await balances.get("a", as_of=5)
        with pytest.raises(ProjectionFailedError, match="event 4"):
            async with balances.as_of(5):
                pass
        assert await balances.get("b", as_of=5) == Balance("b", "ann")
        assert await balances.get("a", as_of=3) == Balance("a", "ann", Decimal(2), 1)
        await app.projections.control("balances").skip(4, reason="a test")
        expected = Balance("a", "ann", Decimal(6), 2)
        assert await balances.get("a", as_of=5) == expected
        async with balances.as_of(5) as past:
            assert await past.get("a") == expected


async def test_what_no_fold_of_the_log_tells_is_refused_by_name(url: str) -> None:
    app = Application(url, synchronize=False)
    app.projections.add(Guests())
    joint = app.projections.add(Stays())
    late = app.projections.add(Balances(), start="now")
    alone: ReadModel[Balance] = ReadModel(app.projections.databases[0], Fickle())
    assert app.projections.add(Mails()) is None
    async with app:
        for model, why in (
            (joint, "those of other projections"),
            (late, "after it was added"),
            (alone, "has returned"),
        ):
            with pytest.raises(PastUnknownError, match=f"{model.name} cannot be read as of .*{why}"):
                await model.get("a", as_of=0)
            with pytest.raises(PastUnknownError, match=why):
                async with model.as_of(0):
                    pass


async def test_a_row_is_found_by_its_tags_and_else_only_in_a_log_that_is_not_too_long(url: str) -> None:
    class ByOwner(Projection[Balance]):
        """Its key is made of two fields, and in no tag."""

        name = "by_owner"

        def key(self, event: Any) -> str:
            return f"{event.owner}s"

        @on(Opened)
        def opened(self, row: Balance | None, event: Opened) -> Balance:
            return Balance(f"{event.owner}s", event.owner, changes=row.changes + 1 if row else 1)

    app = Application(url, synchronize=False, options=Options(queries=QueryOptions(as_of_events=5)))
    balances, by_owner = app.projections.add(Balances()), app.projections.add(ByOwner())
    async with app:
        for number in range(7):
            await write(app.store, opened(f"a{number}"))
        assert await balances.get("a6", as_of=7) == Balance("a6", "ann")
        assert await by_owner.get("anns", as_of=5) == Balance("anns", "ann", changes=5)
        with pytest.raises(PastUnknownError, match=r"more than 5 events .* tag its events with its key"):
            await by_owner.get("anns", as_of=7)
        told: list[tuple[int, int]] = []
        async with by_owner.as_of(7, progress=lambda *each: told.append(each)) as past:
            assert await past.get("anns") == Balance("anns", "ann", changes=7)
        assert told[-1] == (7, 7)


async def test_each_tenant_sees_its_own_past(url: str) -> None:
    app = Application(url, synchronize=False, tenants=True)
    accounts, fickle = app.repository(Account), app.projections.add(Fickle(), kind="inline")
    async with app:
        for tenant in ("red", "blue"):
            with metadata(tenant=tenant):
                await accounts.save(Account.open("a", owner=tenant))
        for tenant, position in (("red", 1), ("blue", 2)):
            with metadata(tenant=tenant):
                assert await fickle.get("a", as_of=2) == Balance("a", tenant)
                assert (await accounts.load("a", as_of=2)).owner == tenant
                assert await fickle.get("a", as_of=position - 1) is None
                async with fickle.as_of(2) as past:
                    assert await rows(past) == [Balance("a", tenant)]


async def test_what_is_no_moment_is_refused(engine: Engine, store: EventStore) -> None:
    for wrong in ("1", 1.5, True, datetime(2026, 1, 1)):  # noqa: DTZ001
        with pytest.raises(TypeError, match="`as_of`"):
            await store.position_at(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`as_of`"):
        await store.position_at(-1)
