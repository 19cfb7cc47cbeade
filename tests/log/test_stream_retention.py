"""Retention by rules: the plan says what would be done, and what is done is what it said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
import pytest_asyncio
from tests.accounts import Account, Balance, Balances, Deposited, Mails, Open, Opened, Withdrawn, wire
from tests.synchronizing import PATIENCE

from twofold import (
    ANY,
    Application,
    EventStore,
    LogOptions,
    Options,
    RetentionRule,
    StreamClosed,
    StreamTombstoned,
    apply_retention,
    metadata,
    on,
    plan_retention,
)
from twofold.log.retaining.rules import rules_of
from twofold.log.verify import verify_log
from twofold.ports.maintenance import PortableLog, Removal

OPTIONS = LogOptions(removed_at_once=3, ended_at_once=2, whole_log_chunk=3)
AT_ONCE = timedelta()
CLOSE = RetentionRule(name="idle", action="close", stream_type="Account", older_than=AT_ONCE, last="Withdrawn")
REMOVE = RetentionRule(name="old", action="tombstone", stream_type="Account", older_than=AT_ONCE)


@pytest_asyncio.fixture
async def app(any_url: str) -> AsyncIterator[Application]:
    made = Application(any_url, synchronize=False)
    wire(made)
    async with made:
        yield made


def log_of(app: Application) -> PortableLog:
    return cast(PortableLog, app.store.log)


async def fill(app: Application, names: Sequence[str], *, withdrawn: bool = True) -> None:
    for name in names:
        account = Account.open(name)
        account.deposit(Decimal(3))
        if withdrawn:
            account.withdraw(Decimal(3))
        await app.repository(Account).save(account)


async def plan(log: PortableLog, *rules: RetentionRule, **options: Any) -> list[tuple[Any, ...]]:
    found = await plan_retention(EventStore(log, options=OPTIONS), rules, **options)
    return [(each.rule, each.streams, each.events, each.example, each.held) for each in found]


async def apply(log: PortableLog, *rules: RetentionRule, **options: Any) -> list[tuple[Any, ...]]:
    return [tuple(each) for each in await apply_retention(EventStore(log, options=OPTIONS), rules, by="ann", **options)]


async def test_what_is_done_is_what_the_plan_said_and_it_is_done_once(app: Application) -> None:
    await fill(app, "abcde")
    await fill(app, "xy", withdrawn=False)
    await app.store.append_events("Other-1", "Other", [Opened(account="a")], expected_version=ANY)
    log = log_of(app)
    wanted: list[Any] = [("idle", 5, 15, "Account-a", {}), ("old", 0, 0, "", {})]
    head = await log.head()
    assert await plan(log, CLOSE, REMOVE) == wanted
    assert await log.head() == head, "a plan changes nothing"
    told = list[tuple[str, int, int]]()
    done = await apply(log, CLOSE, progress=lambda *each: told.append(each))
    assert done == [("idle", 5, 0)]
    assert told[-1] == ("idle", 5, 5)
    assert await plan(log, CLOSE, REMOVE) == [("idle", 0, 0, "", {}), ("old", 5, 20, "Account-a", {})]
    assert await apply(log, CLOSE, REMOVE) == [("idle", 0, 0), ("old", 5, 20)]
    assert await apply(log, CLOSE, REMOVE) == [("idle", 0, 0), ("old", 0, 0)]
    assert await verify_log(log, options=OPTIONS) == head + 10
    ends = {each.stream_id: each.event async for each in app.store.read()}
    assert ends["Account-a"] == StreamTombstoned("Account-a", "Account", "retention rule 'old'", "ann", 4)
    assert isinstance(ends["Account-x"], Deposited)
    assert isinstance(ends["Other-1"], Opened)


async def test_the_first_rule_takes_a_stream_and_each_says_which(app: Application) -> None:
    await fill(app, "ab")
    await app.repository(Account).close(await app.repository(Account).load("a"), reason="over")
    log = log_of(app)
    year, open_too = timedelta(days=365), RetentionRule(
        name="all", action="tombstone", stream_type="Account", older_than=AT_ONCE, open_too=True
    )  # fmt: skip
    young = RetentionRule(name="young", action="tombstone", stream_type="Account", older_than=year)
    by_last, other = replace(REMOVE, name="last", last="Withdrawn"), replace(REMOVE, name="other", last="Deposited")
    found = await plan(log, young, other, by_last, open_too)
    assert [each[:4] for each in found] == [
        ("young", 0, 0, ""), ("other", 0, 0, ""), ("last", 1, 4, "Account-a"), ("all", 1, 3, "Account-b")
    ]  # fmt: skip
    [first] = await plan_retention(EventStore(log, options=OPTIONS), [open_too])
    assert first.oldest is not None
    assert first.size > 100


async def test_a_stream_that_goes_on_meanwhile_stays_as_it_is(app: Application) -> None:
    await fill(app, "ab")
    log, store = log_of(app), app.store

    class Late:
        """A log to which another process appends while it is being looked after."""

        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        async def measure_streams(self, stream_ids: Sequence[str]) -> Any:
            if "Account-a" in stream_ids and not appended:
                appended.append(1)
            return await log.measure_streams(stream_ids)

        async def find_stream_ends(self, stream_ids: Sequence[str]) -> Any:
            event = Withdrawn(account="a", amount=Decimal(1))
            await store.append_events("Account-a", "Account", [event], expected_version=ANY)
            return await log.find_stream_ends(stream_ids)

    appended = list[int]()
    assert await apply(cast(PortableLog, Late()), CLOSE) == [("idle", 1, 0)]
    types = {each.stream_id: each.type async for each in app.store.read()}
    assert types == {"Account-a": "Withdrawn", "Account-b": "twofold.StreamClosed"}


async def test_what_was_interrupted_is_in_the_plan_and_is_completed(app: Application) -> None:
    await fill(app, "abc")
    log = log_of(app)
    await apply(log, CLOSE)

    class Interrupted:
        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        async def remove_events(self, removals: Sequence[Removal]) -> None:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await apply(cast(PortableLog, Interrupted()), REMOVE)
    [found] = await plan_retention(EventStore(log, options=OPTIONS), [REMOVE])
    assert (found.streams, found.unfinished) == (3, 2)
    assert await apply(log, REMOVE) == [("old", 3, 12)]
    assert [each[1] for each in await plan(log, REMOVE)] == [0]


async def test_what_a_reaction_has_not_read_is_held_up_unless_it_may_miss_it(url: str) -> None:
    mails, options = Mails(), Options(log=OPTIONS)
    app = Application(url, options=options)
    wire(app)
    app.projections.add(mails)
    async with app:
        await fill(app, "a")
        await app.repository(Account).close(await app.repository(Account).load("a"), reason="over")
        await app.projections.wait(4, PATIENCE)
        await app.projections.control("mails").pause()
        await fill(app, "b")
        await app.repository(Account).close(await app.repository(Account).load("b"), reason="over")
        log, databases = log_of(app), app.projections.databases
        held = {"mails has not read so far": 1}
        assert await plan(log, REMOVE, databases=databases) == [("old", 1, 4, "Account-a", held)]
        assert await plan(log, REMOVE, databases=databases, may_miss=["mails"]) == [("old", 2, 8, "Account-a", {})]
        assert await apply(log, REMOVE, databases=databases) == [("old", 1, 4)]
        await app.projections.control("mails").resume()
        await app.projections.wait(9, PATIENCE)
        assert mails.sent == [Decimal(3), Decimal(3)]
        assert await apply(log, REMOVE, databases=databases) == [("old", 1, 4)]


async def test_a_stream_of_which_an_event_is_parked_is_held_up(url: str) -> None:
    class Failing(Balances):
        @on(Deposited)
        def deposited(self, row: Balance, event: Deposited) -> Balance:
            if event.account == "a":
                raise RuntimeError("no such account")
            return super().deposited(row, event)

    app = Application(url, options=Options(log=OPTIONS))
    wire(app)
    app.projections.add(Failing())
    async with app:
        await fill(app, "ab")
        for name in "ab":
            await app.repository(Account).close(await app.repository(Account).load(name), reason="over")
        async with asyncio.timeout(PATIENCE):
            while not (await app.projections.status())[0].parked:  # noqa: ASYNC110  # nothing signals it
                await asyncio.sleep(0.01)
        await app.projections.wait(8, PATIENCE)
        found = await plan(log_of(app), REMOVE, databases=app.projections.databases)
        assert found == [("old", 1, 4, "Account-b", {"balances has parked events": 1})]
        found = await plan(log_of(app), REMOVE, databases=app.projections.databases, may_miss=["balances"])
        assert found == [("old", 2, 8, "Account-a", {})]


async def test_streams_of_tenants_are_ended_as_theirs(any_url: str) -> None:
    app = Application(any_url, synchronize=False, tenants=True)
    wire(app)
    async with app:
        for tenant in ("acme", "bolt"):
            with metadata(tenant=tenant):
                await app.commands.execute(Open(account="a"))
        log = cast(PortableLog, app.store._log)
        rule = RetentionRule(name="idle", action="close", stream_type="Account", older_than=AT_ONCE)
        assert await apply(log, rule, REMOVE) == [("idle", 2, 0), ("old", 0, 0)]
        with metadata(tenant="acme"):
            events = [each.event async for each in app.store.read()]
            assert events[1] == StreamClosed("Account-a", "Account", "retention rule 'idle'", "ann")
        assert await apply(log, rule, REMOVE) == [("idle", 0, 0), ("old", 2, 4)]
        with metadata(tenant="bolt"):
            assert [each.event async for each in app.store.read()] == [
                StreamTombstoned("Account-a", "Account", "retention rule 'old'", "ann", 2)
            ]


def test_rules_are_read_from_a_file() -> None:
    text = """
    [[rule]]
    name = "idle"
    action = "close"
    stream_type = "Order"
    older_than = "365d"
    last = "OrderDelivered"
    [[rule]]
    name = "old"
    action = "tombstone"
    stream_type = "Order"
    older_than = "12h"
    open_too = true
    """
    assert list(rules_of(text)) == [
        RetentionRule(name="idle", action="close", stream_type="Order", older_than=timedelta(days=365),
                      last="OrderDelivered"),
        RetentionRule(name="old", action="tombstone", stream_type="Order", older_than=timedelta(hours=12),
                      open_too=True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rule = 1", "a table [[rule]] for each"),
        ("[[rule]]\nnmae = 'x'", "rule 1 has no 'nmae'"),
        ("[[rule]]\nname = 'x'", "rule 1 lacks 'action'"),
        ("= 7", "no TOML"),
        ("[[rule]]\nname='x'\naction='burn'\nstream_type='s'\nolder_than='1d'", "rule 1: action='burn' is none"),
        ("[[rule]]\nname='x'\naction='close'\nstream_type='s'\nolder_than='soon'", "'soon' is no age"),
        ("[[rule]]\nname='x'\naction='close'\nstream_type='twofold.p'\nolder_than='1d'", "Twofold's own"),
        ("[[rule]]\nname='x'\naction='close'\nstream_type='s'\nolder_than='1d'\n" * 2, "two rules are called 'x'"),
    ],
)
def test_a_rule_that_cannot_work_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="rule") as caught:
        rules_of(text)
    assert said in str(caught.value)
