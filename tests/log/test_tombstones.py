"""A tombstoned stream is gone for everyone who reads, and its places in the log are not."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from tests.accounts import ACCOUNT, Account, Balance, Balances, Deposit, Deposited, Open, Opened, wire
from tests.synchronizing import PATIENCE, engine_at

from twofold import (
    ANY,
    AggregateNotFoundError,
    Application,
    ConflictError,
    DecisionModel,
    EventQuery,
    LogOptions,
    Options,
    StreamClosedError,
    StreamTombstoned,
    UnitOfWorkError,
    metadata,
    on,
)
from twofold.commands.repository import DeciderHandler
from twofold.engines.memory import MemoryEventLog
from twofold.log.copy import copy_log
from twofold.log.ending.tombstones import _removal, tombstone_streams
from twofold.log.integrity.chain import differing, new_anchors
from twofold.log.integrity.events import damaged_events
from twofold.log.verify import verify_log
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import EventLog
from twofold.ports.maintenance import PortableLog, Removal
from twofold.ports.snapshots import SnapshotLog

OPTIONS = LogOptions(
    short_stream=4, short_tail=2, first_chunk=3, snapshot_every=4, removed_at_once=3, whole_log_chunk=5, ended_at_once=2
)


@pytest_asyncio.fixture
async def app(any_url: str) -> AsyncIterator[Application]:
    made = Application(any_url, synchronize=False, options=Options(log=OPTIONS))
    wire(made)
    async with made:
        yield made


def log_of(app: Application) -> PortableLog:
    return cast(PortableLog, app.store.log)


async def filled(app: Application, *ids: str, deposits: int = 6) -> None:
    for each in ids:
        account = Account.open(each, owner=f"secret-{each}")
        for _ in range(deposits):
            account.deposit(Decimal(2))
        await app.repository(Account).save(account)


async def all_rows(log: EventLog) -> Sequence[StoredEvent]:
    return await log.read(EventQuery.all(), limit=1000)


def places(rows: Sequence[StoredEvent]) -> list[tuple[Any, ...]]:
    return [(r.position, r.version, r.event_id, r.stream_id, r.stream_type, r.recorded_at) for r in rows]


async def test_nothing_is_left_of_the_events_but_their_places_and_all_else_is_as_before(app: Application) -> None:
    await filled(app, "a", "b")
    before = await all_rows(log_of(app))
    assert await app.store.tombstone_stream("Account-a", reason="a test", by="ann") == 7
    after = await all_rows(log_of(app))
    assert places(after[:-1]) == places(before)
    assert after[7:14] == before[7:14]
    assert {(r.type, r.metadata, r.tags) for r in after[:7]} == {("twofold.EventRemoved", b"{}", b"[]")}
    assert not any(b"secret-a" in r.payload for r in after)
    assert await verify_log(log_of(app), options=OPTIONS) == 15
    assert list(await log_of(app).check()) == []
    assert await app.store.tombstone_stream("Account-a", reason="again", by="ben") == 0
    assert await all_rows(log_of(app)) == after
    assert await app.store.tombstone_stream("Account-c", reason="there is none", by="ann") == 0


async def test_readers_get_the_tombstone_and_no_removed_event(app: Application) -> None:
    await filled(app, "a", "b", deposits=2)
    await app.store.tombstone_stream("Account-a", reason="a test", by="ann")
    end = StreamTombstoned("Account-a", "Account", "a test", "ann", 3)
    assert [each.event async for each in app.store.read_stream("Account-a")] == [end]
    found = [each async for each in app.store.read()]
    assert [each.position for each in found] == [4, 5, 6, 7]
    assert found[-1].event == end
    assert [each.position async for each in app.store.read(backwards=True, limit=2)] == [7, 6]
    assert [each.position async for each in app.store.read(EventQuery.of(Deposited))] == [5, 6]
    assert [each.position async for each in app.store.read(EventQuery.of(tags=["account:a"]))] == []
    assert [each.position async for each in app.store.read(unknown="raw")] == [4, 5, 6, 7]
    seen = list[int]()
    async for batch in app.store.subscribe(batch_size=2):
        seen += [each.position for each in batch.events]
        if batch.mark.position == 7:
            break
    assert seen == [4, 5, 6, 7]


@pytest.mark.parametrize("deposits", [1, 12])
async def test_who_loads_it_finds_nothing_now_or_as_of_before_and_cannot_write_to_it(
    app: Application, deposits: int
) -> None:
    accounts = app.repository(Account)
    await filled(app, "a", deposits=deposits)
    handler: DeciderHandler[Any] = DeciderHandler(app.store, ACCOUNT, lambda command: command.account)
    for _ in range(2):  # the second time, from a kept state
        assert (await accounts.load("a")).balance == await handler.load("a") == 2 * deposits
    await app.store.snapshots.end()
    await app.store.tombstone_stream("Account-a", reason="a test", by="ann")
    assert await accounts.find("a") is None
    assert await handler.load("a") == Decimal(0)
    for moment in (1, deposits, deposits + 1):
        assert await accounts.find("a", as_of=moment) is None
    with pytest.raises(AggregateNotFoundError):
        await app.commands.execute(Deposit(account="a"))
    with pytest.raises(StreamClosedError, match=r"is tombstoned \(a test\)") as caught:
        await app.commands.execute(Open(account="a"))
    assert (caught.value.is_tombstoned, caught.value.by) == (True, "ann")
    assert await log_of(app).read_snapshots(limit=9) == []  # type: ignore[attr-defined]


async def test_states_of_decisions_do_not_hold_what_was_removed(app: Application) -> None:
    model = DecisionModel(
        query=EventQuery.of(Deposited), initial_state=Decimal(0), evolve=lambda total, event: total + event.amount
    )
    await filled(app, "a", "b", deposits=8)
    for _ in range(2):
        decision = await app.store.decide(model)
    await app.store.snapshots.end()
    assert decision.state == 32
    kept = cast(SnapshotLog, app.store.log)
    assert any(each.fold.startswith("decision ") for each in await kept.read_snapshots(limit=9))
    await app.store.tombstone_stream("Account-a", reason="a test", by="ann")
    assert not any(each.fold.startswith("decision ") for each in await kept.read_snapshots(limit=9))
    with pytest.raises(ConflictError, match="was tombstoned after") as caught:
        await app.store.append([Opened(account="c")], condition=decision.condition)
    assert caught.value.conflicts == ()
    again = await app.store.decide(model)
    assert again.state == 16
    await app.store.append([Opened(account="c")], condition=again.condition)


async def test_repeats_are_still_found(app: Application) -> None:
    command, ids = Open(account="a"), [UUID(int=7)]
    receipt = await app.commands.execute(command)
    event = Deposited(account="a", amount=Decimal(1))
    first = await app.store.append_events("Account-a", "Account", [event], expected_version=1, event_ids=ids)
    await app.store.tombstone_stream("Account-a", reason="a test", by="ann")
    again = await app.commands.execute(command)
    assert (again.repeated, again.value, again.position) == (True, "a", receipt.position)
    repeat = await app.store.append_events("Account-a", "Account", [event], expected_version=1, event_ids=ids)
    assert (repeat.repeated, repeat.position) == (True, first.position)


async def test_anchors_hold_and_a_forged_removal_is_found(app: Application) -> None:
    log = log_of(app)
    await filled(app, "a", "b", deposits=3)
    before = [each async for each in new_anchors(log, None, 3, options=OPTIONS)]
    await app.store.tombstone_stream("Account-a", reason="a test", by="ann")
    anchors = [*before, *[each async for each in new_anchors(log, before[-1], 3, options=OPTIONS)]]

    async def changed() -> list[str]:
        return [each.where async for each in differing(log, anchors, options=OPTIONS)]

    async def damages() -> list[tuple[str, str]]:
        found = damaged_events(log, await log.head(), options=OPTIONS)
        return [(each.where, str(each.error)) async for each in found]

    assert anchors[-1].position == 9
    assert (await changed(), await damages()) == ([], [])
    rows = await all_rows(log)
    forged = _removal(rows[5])
    await log.remove_events([forged])
    [(where, text)] = await damages()
    assert where == "position 6"
    assert "is not tombstoned" in text
    assert await changed() == [], "what was removed is still known by its digest"
    await log.remove_events([forged._replace(found=forged.checksum, payload=b'{"digest":"00"}')])
    assert await changed() == ["positions 4 to 6"]


class _Interrupted:
    """A log that breaks after some removals."""

    def __init__(self, log: PortableLog, left: int) -> None:
        self._log: Any = log
        self._left = left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def remove_events(self, removals: Sequence[Removal]) -> None:
        if not self._left:
            raise ConnectionError("the process was killed")
        self._left -= 1
        await self._log.remove_events(removals)


@pytest.mark.parametrize(("slices", "removed"), [(0, 0), (1, 3), (2, 6), (4, 13)])
async def test_what_was_interrupted_is_told_by_verify_hides_nothing_wrong_and_is_completed(
    app: Application, slices: int, removed: int
) -> None:
    await filled(app, "a", "b", deposits=9)
    log, accounts = log_of(app), app.repository(Account)
    broken = cast(PortableLog, _Interrupted(log, slices))
    with pytest.raises(ConnectionError):
        await tombstone_streams(broken, ["Account-b", "Account-a"], reason="a test", by="ann", options=OPTIONS)
    assert await accounts.find("a") is None
    for moment in range(1, 21):
        for each in ("a", "b"):
            found = await accounts.find(each, as_of=moment)
            deposits = moment - 1 - (10 if each == "b" else 0)
            assert found is None or (found.balance, found.version) == (
                Decimal(2 * min(deposits, 9)),
                min(deposits, 9) + 1,
            )
    damages = [each async for each in damaged_events(log, await log.head(), options=OPTIONS)]
    assert [each.check for each in damages] == ["tombstone"] * (2 if removed < 10 else 1)
    assert "tombstone it again" in str(damages[0].error)
    done = await tombstone_streams(log, ["Account-a", "Account-b"], reason="a test", by="ann", options=OPTIONS)
    assert done == 20 - removed
    assert (await verify_log(log, options=OPTIONS), await accounts.find("a", as_of=5)) == (22, None)


async def test_copies_hold_the_same_and_know_what_is_tombstoned(app: Application) -> None:
    await filled(app, "a", "b", deposits=2)
    await app.store.tombstone_stream("Account-a", reason="a test", by="ann")
    copy = MemoryEventLog()
    await copy_log(log_of(app), copy)
    assert list(await all_rows(copy)) == list(await all_rows(log_of(app)))
    assert await verify_log(copy) == 7


class Accounts(Balances):
    """Removes what it has made of a stream that is gone."""

    name = "accounts"

    def key(self, event: Any) -> Any:
        if isinstance(event, StreamTombstoned):
            return [event.stream_id.removeprefix("Account-")] if event.stream_type == "Account" else []
        return super().key(event)

    @on(StreamTombstoned)
    def gone(self, row: Balance | None, event: StreamTombstoned) -> Balance | None:
        return None


async def test_projections_are_told_and_a_rebuild_gives_the_same(url: str) -> None:
    app = Application(url, options=Options(log=OPTIONS))
    wire(app)
    app.projections.add(Accounts())
    async with app:
        await filled(app, "a", "b", deposits=2)
        rows = app.projections.read_model("accounts")
        await app.projections.wait(6, PATIENCE)
        assert [each.account for each in (await rows.page()).items] == ["a", "b"]
        await app.store.tombstone_stream("Account-a", reason="a test", by="ann")
        await app.projections.wait(7, PATIENCE)
        before = (await rows.page()).items
        assert [each.account for each in before] == ["b"]
        await app.projections.control("accounts").rebuild()
        assert (await rows.page()).items == before


async def test_a_handler_cannot_tombstone_and_a_tenant_only_its_own(any_url: str) -> None:
    app = Application(any_url, synchronize=False, tenants=True)

    async def careless(command: Open) -> None:
        await app.store.tombstone_stream("Account-a", reason="a test", by="ann")

    app.commands.register(Open, careless)
    async with app:
        for tenant in ("acme", "bolt"):
            with metadata(tenant=tenant):
                await app.store.append_events("Account-a", "Account", [Opened(account="a")], expected_version=ANY)
        with metadata(tenant="acme"):
            with pytest.raises(UnitOfWorkError, match="cannot tombstone"):
                await app.commands.execute(Open(account="a"))
            assert await app.store.tombstone_stream("Account-a", reason="a test", by="ann") == 1
            found = [each async for each in app.store.read()]
            assert [(each.event.stream_id, each.tenant) for each in found] == [("Account-a", "acme")]
        with metadata(tenant="bolt"):
            assert [each.event async for each in app.store.read()] == [Opened(account="a")]


async def test_the_database_itself_refuses_other_changes(url: str, tmp_path: Path) -> None:
    async with engine_at(url) as (_, store):
        await store.append_events("s-1", "s", [Opened(account="a")], expected_version=ANY)
    statements = [
        "UPDATE twofold_events SET type = 'twofold.EventRemoved', payload = '{}'",
        "UPDATE twofold_events SET payload = '{}'",
        "UPDATE twofold_events SET version = 7, type = 'twofold.EventRemoved'",
        "DELETE FROM twofold_events",
    ]
    archived = """UPDATE twofold_events SET payload = '{"~archived":1}'"""
    others = [statements[1], f"{archived}, type = 'Other'", f"{archived}, checksum = 1", f"{archived}, tags = '[]'"]
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statements[0])
        connection.execute("UPDATE twofold_log SET removes_events = 1")
        for statement in statements[1:]:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
        connection.execute("UPDATE twofold_log SET removes_events = 0, archives_events = 1")
        for statement in [*others, *statements[2:]]:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
        connection.execute(archived)
        connection.close()
        return
    with psycopg.connect(url) as opened:
        for statement in [statements[0], "DELETE FROM twofold_event_tags"]:
            with pytest.raises(psycopg.errors.Error, match="append-only"), opened.transaction():
                opened.execute(statement)
        for allowed, refused in (("removes", statements[1:]), ("archives", [*others, *statements[2:]])):
            for statement in refused:
                with pytest.raises(psycopg.errors.Error, match="append-only"), opened.transaction():
                    opened.execute(f"SET LOCAL twofold.{allowed}_events = 'on'")
                    opened.execute(statement)
        with opened.transaction():
            opened.execute("SET LOCAL twofold.archives_events = 'on'")
            opened.execute(archived)
