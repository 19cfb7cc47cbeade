"""One log for several tenants: each has streams, tags, conditions and ids of its own, and sees no event of another."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, cast
from uuid import uuid4

import pytest

from twofold import (
    ANY,
    NO_STREAM,
    AppendCondition,
    Command,
    CommandBus,
    CommandReusedError,
    ConflictError,
    DecisionModel,
    DuplicateEventIdError,
    Event,
    EventQuery,
    EventStore,
    InvalidTenantError,
    Metadata,
    Receipt,
    Tag,
    TenantMissingError,
    UnitOfWorkError,
    ValueTakenError,
    VersionMismatchError,
    all_tenants,
    metadata,
    session,
    unique,
)
from twofold.engines.engine import Engine, connect
from twofold.log.verify import verify_log
from twofold.ports.maintenance import PortableLog


@dataclass(frozen=True, kw_only=True)
class Registered(Event):
    guest: Annotated[str, Tag("guest")]
    email: Annotated[str, Tag("email")] = ""


@dataclass(frozen=True, kw_only=True)
class Register(Command[str]):
    guest: str
    email: str = ""


@dataclass(frozen=True, kw_only=True)
class Welcomed(Event):
    text: str = ""


ACME, ZEN = "acme", "zen"
GUESTS = DecisionModel(query=EventQuery.of(Registered), initial_state=0, evolve=lambda count, _: count + 1)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Engine, EventStore]]:
    engine = connect(url)
    async with EventStore(engine.log, tenants=True) as store:
        yield engine, store


def of(tenant: str) -> AbstractContextManager[Metadata]:
    return metadata(tenant=tenant)


async def seen(store: EventStore, *args: Any, **kwargs: Any) -> list[Any]:
    return [each.event async for each in store.read(*args, **kwargs)]


def bus_of(store: EventStore) -> CommandBus:
    bus = CommandBus(store)

    async def register(command: Register) -> str:
        await store.append_events(
            f"Guest-{command.guest}", "Guest", [Registered(guest=command.guest)], expected_version=ANY
        )
        return f"{command.guest} of {metadata_tenant()}"

    bus.register(Register, register)
    return bus


def metadata_tenant() -> str | None:
    with metadata() as found:
        return found.tenant


async def test_streams_of_one_name_are_different_streams(any_url: str) -> None:
    async with opened(any_url) as (_, store):
        for tenant in (ACME, ZEN):
            with of(tenant):
                receipt = await store.append_events(
                    "Guest-1", "Guest", [Registered(guest=tenant)], expected_version=NO_STREAM
                )
                assert (receipt.stream_id, receipt.version, receipt.tags) == (
                    "Guest-1",
                    1,
                    (f"guest:{tenant}", "email:"),
                )
        for tenant in (ACME, ZEN):
            with of(tenant):
                [recorded] = [each async for each in store.read_stream("Guest-1")]
                assert recorded.event.guest == tenant
                assert (recorded.stream_id, recorded.tenant) == ("Guest-1", tenant)
                assert recorded.tags == (f"guest:{tenant}", "email:")
                assert recorded.metadata.tenant == tenant
                with pytest.raises(ConflictError) as refused:
                    await store.append_events("Guest-1", "Guest", [Welcomed()], expected_version=NO_STREAM)
                assert [each.event.guest for each in refused.value.conflicts] == [tenant]
                assert refused.value.stream_id == "Guest-1"


async def test_reads_by_type_by_tag_and_of_everything_are_the_tenants_own(any_url: str) -> None:
    async with opened(any_url) as (_, store):
        for tenant in (ACME, ZEN, ACME):
            with of(tenant):
                await store.append([Registered(guest="g1", email=tenant), Welcomed(text=tenant)])
        queries = [
            None, EventQuery.all(), EventQuery.of(Registered), EventQuery.of(tags=["guest:g1"]),
            EventQuery.of(Registered, tags=["guest:g1"]), EventQuery.of(Registered) | EventQuery.of(Welcomed),
        ]  # fmt: skip
        for tenant, count in ((ACME, 2), (ZEN, 1)):
            with of(tenant):
                for query in queries:
                    for backwards in (False, True):
                        events = await seen(store, query, backwards=backwards)
                        assert events
                        assert {getattr(each, "email", None) or each.text for each in events} == {tenant}
                assert await store.look(GUESTS) == count
                assert (await store.decide(GUESTS)).state == count


async def test_a_condition_looks_at_the_tenants_own_events_only(any_url: str) -> None:
    async with opened(any_url) as (_, store):
        with of(ACME):
            decision = await store.decide(GUESTS)
        with of(ZEN):
            await store.append([Registered(guest="g1")])
        with of(ACME):
            await store.append([Registered(guest="g1")], condition=decision.condition)
            with pytest.raises(ConflictError) as refused:
                await store.append([Registered(guest="g1")], condition=decision.condition)
            assert [each.tenant for each in refused.value.conflicts] == [ACME]
            with pytest.raises(ConflictError):
                await store.append([Welcomed()], condition=AppendCondition(EventQuery.all()))
        with of("new"):
            await store.append([Welcomed()], condition=AppendCondition(EventQuery.all()))


async def test_a_value_that_is_taken_is_taken_for_one_tenant(any_url: str) -> None:
    async with opened(any_url) as (_, store):
        bus = CommandBus(store)

        async def register(command: Register) -> None:
            await store.decide(unique("email", of=Registered, value=command.email))
            await store.append([Registered(guest=command.guest, email=command.email)])

        bus.register(Register, register)
        for tenant in (ACME, ZEN):
            with of(tenant):
                await bus.dispatch(Register(guest="g1", email="a@b.c"))
                with pytest.raises(ValueTakenError):
                    await bus.dispatch(Register(guest="g2", email="a@b.c"))


async def test_ids_of_commands_and_events_are_the_tenants_own(any_url: str) -> None:
    async with opened(any_url) as (_, store):
        bus, command, event_id = bus_of(store), Register(guest="g1"), uuid4()
        for tenant in (ACME, ZEN):
            with of(tenant):
                first = await bus.execute(command)
                repeat = await bus.execute(command)
                assert (first.value, first.repeated) == (f"g1 of {tenant}", False)
                assert (repeat.value, repeat.repeated, repeat.stream_id) == (f"g1 of {tenant}", True, "Guest-g1")
                assert (repeat.tags, repeat.types) == (first.tags, first.types)
                with pytest.raises(CommandReusedError) as reused:
                    await bus.execute(Register(command_id=command.command_id, guest="other"))
                assert reused.value.command_id == command.command_id
                assert not (await store.append([Registered(guest="g2")], event_ids=[event_id])).repeated
                assert (await store.append([Registered(guest="g2")], event_ids=[event_id])).repeated
                with pytest.raises(DuplicateEventIdError):
                    await store.append([Registered(guest="g3")], event_ids=[event_id])


async def test_a_subscription_follows_the_tenants_own_events(any_url: str) -> None:
    async with opened(any_url) as (_, store):
        with of(ACME):
            everything, stream = store.subscribe(), store.subscribe(stream_id="Guest-1")
        for tenant in (ZEN, ACME):
            with of(tenant):
                await store.append_events("Guest-1", "Guest", [Registered(guest=tenant)], expected_version=NO_STREAM)
        for subscription in (everything, stream):
            batch = await anext(subscription)
            assert [each.event.guest for each in batch.events] == [ACME]


async def test_an_expected_version_of_a_session_names_the_stream_as_the_application_does(any_url: str) -> None:
    async with opened(any_url) as (_, store):
        bus = bus_of(store)
        with of(ACME):
            await bus.execute(Register(guest="g1"))
            with session(expected_version=5), pytest.raises(VersionMismatchError) as refused:
                await bus.execute(Register(guest="g1"))
            assert (refused.value.stream_id, refused.value.version) == ("Guest-g1", 1)


async def test_without_a_tenant_nothing_is_read_and_nothing_is_stored(any_url: str) -> None:
    async with opened(any_url) as (engine, store):
        bus = bus_of(store)
        refused: list[Callable[[], Any]] = [
            lambda: store.append([Welcomed()]),
            lambda: store.append_events("Guest-1", "Guest", [Welcomed()], expected_version=ANY),
            lambda: seen(store),
            lambda: anext(store.read_stream("Guest-1")),
            lambda: store.decide(GUESTS),
            lambda: store.look(GUESTS),
            lambda: bus.dispatch(Register(guest="g1")),
        ]
        for call in refused:
            with pytest.raises(TenantMissingError, match=re.escape('with twofold.metadata(tenant="acme")')):
                await call()
        for sync in (store.subscribe, lambda: store.log):
            with pytest.raises(TenantMissingError):
                sync()
        assert await engine.log.head() == 0


async def test_all_tenants_may_be_read_and_not_written(any_url: str) -> None:
    async with opened(any_url) as (engine, store):
        for tenant in (ACME, ZEN):
            with of(tenant):
                await store.append([Registered(guest=tenant)])
        with all_tenants():
            assert {each.guest for each in await seen(store)} == {ACME, ZEN}
            assert {each.guest for each in await seen(store, EventQuery.of(Registered))} == {ACME, ZEN}
            assert store.log is engine.log
            with pytest.raises(TenantMissingError, match="on behalf of all"):
                await store.append([Welcomed()])
            with pytest.raises(TenantMissingError, match="on behalf of all"):
                await seen(store, EventQuery.of(tags=["guest:acme"]))
            with of(ZEN):
                assert [each.guest for each in await seen(store)] == [ZEN]
        with of(ACME), all_tenants():
            assert len(await seen(store)) == 2
        with of(ACME), pytest.raises(TenantMissingError):
            _ = store.log


async def test_a_command_cannot_change_sides(any_url: str) -> None:
    async with opened(any_url) as (engine, store):
        bus = CommandBus(store)

        async def register(command: Register) -> None:
            await store.append([Registered(guest=command.guest)])
            with of(ZEN):
                await store.append([Registered(guest=command.guest)])

        bus.register(Register, register)
        with of(ACME):
            with pytest.raises(UnitOfWorkError, match="carried out for the tenant 'acme'"):
                await bus.dispatch(Register(guest="g1"))
            with pytest.raises(UnitOfWorkError, match="the metadata name the tenant 'zen'"):
                await store.append([Welcomed()], metadata=Metadata(tenant=ZEN))
            await store.append([Welcomed()], metadata=Metadata(user="ann"))
            [recorded] = [each async for each in store.read()]
            assert (recorded.metadata.tenant, recorded.metadata.user) == (ACME, "ann")
        assert await engine.log.head() == 1


@pytest.mark.parametrize("name", ["", "a/b", "a b", "../b", "-a", "a" * 64, "ä", "a\0", "a\n"])
async def test_names_that_no_tenant_can_have_are_refused(name: str) -> None:
    async with opened("memory://") as (engine, store):
        with of(name), pytest.raises(InvalidTenantError):
            await store.append([Welcomed()])
        assert await engine.log.head() == 0


async def test_a_transaction_of_its_own_sql_appends_for_the_tenant(any_url: str) -> None:
    if any_url == "memory://":
        return  # there is no SQL database
    async with opened(any_url) as (_, store):
        with of(ACME):
            async with store.transaction() as transaction:
                transaction.append_events("Guest-1", "Guest", [Registered(guest=ACME)], expected_version=NO_STREAM)
                transaction.append([Welcomed()], condition=AppendCondition(EventQuery.of(Welcomed)))
            assert [receipt.stream_id for receipt in transaction.receipts] == ["Guest-1", ""]
        with of(ZEN):
            assert await seen(store) == []
        with of(ACME):
            assert len(await seen(store)) == 2


async def test_a_log_with_tenants_is_verified_as_any_other(any_url: str) -> None:
    async with opened(any_url) as (engine, store):
        receipts: list[Receipt[Any]] = []
        for tenant in (ACME, ZEN):
            with of(tenant):
                receipts.append(await bus_of(store).execute(Register(guest=tenant)))
        await verify_log(cast(PortableLog, engine.log))
