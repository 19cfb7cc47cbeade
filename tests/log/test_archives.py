"""Archived events are read as before, from files whose every payload is compared with the checksum of its event."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID

import pytest
import pytest_asyncio
from msgspec.structs import replace
from tests.accounts import Account, Balances, Deposited, Opened, wire
from tests.privacy.guests import Guest
from tests.synchronizing import PATIENCE

from twofold import (
    ANY,
    Application,
    ArchiveError,
    DuplicateEventIdError,
    EventQuery,
    LogOptions,
    Options,
    RetentionRule,
    StorageError,
    all_tenants,
    apply_retention,
    export_log,
    import_log,
    metadata,
    open_event_store,
    plan_retention,
)
from twofold.checks.databases import examine_database
from twofold.engines.archive_folder import ArchiveFolder
from twofold.engines.memory import MemoryEventLog
from twofold.log.copy import copy_log
from twofold.log.integrity.archives import damaged_archives
from twofold.log.integrity.chain import differing, new_anchors
from twofold.log.integrity.events import damaged_events
from twofold.log.verify import verify_log
from twofold.messages.endings import CLOSED
from twofold.messages.mark import Mark
from twofold.messages.stored_event import ARCHIVED, StoredEvent
from twofold.options import PrivacyOptions
from twofold.ports.archives import ArchivableLog, Archived

ARCHIVE = RetentionRule(name="old", action="archive", stream_type="Account", older_than=timedelta())
REMOVE = RetentionRule(name="gone", action="tombstone", stream_type="Account", older_than=timedelta())


def options(folder: Path) -> LogOptions:
    return LogOptions(archive=str(folder), parquet_rows=4, removed_at_once=4, whole_log_chunk=3, first_chunk=3)


@pytest_asyncio.fixture
async def app(url: str, tmp_path: Path) -> AsyncIterator[Application]:
    made = Application(url, synchronize=False, options=Options(log=options(tmp_path / "archive")))
    wire(made)
    async with made:
        yield made


def log_of(app: Application) -> ArchivableLog:
    return cast(ArchivableLog, app.store.log)


async def filled(app: Application, *ids: str, deposits: int = 3) -> None:
    with metadata(correlation_id=UUID(int=0xAA)):
        for each in ids:
            account = Account.open(each, owner=f"secret-{each}")
            for _ in range(deposits):
                account.deposit(Decimal(2))
            await app.repository(Account).save(account)


async def closed(app: Application, *ids: str) -> None:
    for each in ids:
        account = await app.repository(Account).load(each)
        await app.repository(Account).close(account, reason="a test", by="ann")


async def archive(app: Application) -> int:
    [done] = await apply_retention(app.store, [ARCHIVE], by="ann")
    return done.removed


async def raw_payloads(log: ArchivableLog) -> list[bytes]:
    """Return what stands in the database itself."""
    found: list[StoredEvent] = []
    for number in range(1, 20):
        found += await log.read_archived(number, range(1, 100))
    return [bytes(row.payload) for row in found]


async def all_rows(log: ArchivableLog) -> Sequence[StoredEvent]:
    return await log.read(EventQuery.all(), limit=1000)


async def every_way_to_read(log: ArchivableLog) -> list[Any]:
    rows = await all_rows(log)
    of_a = EventQuery.of(tags=["account:a"])
    start = await log.mark(0)
    assert start is not None
    scanned = [await log.scan(of_a, after=start, limit=100), await log.scan(EventQuery.all(), after=Mark(1), limit=5)]
    return [
        rows,
        await log.read(EventQuery.all(), limit=3, backwards=True),
        await log.read(of_a, limit=100),
        await log.read(EventQuery.exactly("Deposited"), limit=2, backwards=True),
        [[*each.rows] for each in scanned],
        await log.read_stream("Account-a", limit=10),
        await log.read_stream("Account-a", after=1, limit=1),
        await log.read_stream("Account-a", limit=10, without=["Opened"]),
        await cast(Any, log).read_short_stream("Account-a", limit=10),
        await log.find_events([row.event_id for row in rows]),
        await log.read_mentioning("0000000000aa", after=0, before=100, limit=3),
        await log.read_mentioning("0000000000aa", after=0, before=100, limit=3, backwards=True),
        await log.find_stream_ends(["Account-a"]),
    ]


async def test_every_way_to_read_gives_the_same_and_the_log_holds_no_payload(app: Application) -> None:
    log = log_of(app)
    await filled(app, "a", "b", "open")
    await closed(app, "a", "b")
    before, anchors = (
        await every_way_to_read(log),
        [each async for each in new_anchors(log, None, 3, options=app.store.options)],
    )
    [plan] = await plan_retention(app.store, [ARCHIVE])
    assert (plan.streams, plan.events, plan.example) == (2, 8, "Account-a")
    assert await archive(app) == 8
    assert len(await raw_payloads(log)) == 8
    assert all(each.startswith(ARCHIVED) for each in await raw_payloads(log))
    assert await every_way_to_read(log) == before
    assert await archive(app) == 0, "what is archived is not archived again"
    assert [each.is_settled for each in await log.archives()] == [True, True]
    assert await verify_log(log, options=app.store.options) == 14
    assert [each async for each in differing(log, anchors, options=app.store.options)] == []


async def test_applications_fold_export_copy_and_repeat_as_before(app: Application, tmp_path: Path) -> None:
    log, accounts = log_of(app), app.repository(Account)
    ids = [UUID(int=n) for n in (1, 2)]
    events = [Opened(account="a"), Deposited(account="a", amount=Decimal(5))]
    first = await app.store.append_events("Account-a", "Account", events, expected_version=ANY, event_ids=ids)
    await closed(app, "a")
    stream = [each async for each in app.store.read_stream("Account-a")]
    assert await archive(app) == 2
    assert (await accounts.load("a")).balance == 5
    assert (await accounts.load("a", as_of=1)).balance == 0
    assert [each async for each in app.store.read_stream("Account-a")] == stream
    assert [each.event async for each in app.store.read(EventQuery.of(Deposited))] == events[1:]
    again = await app.store.append_events("Account-a", "Account", events, expected_version=ANY, event_ids=ids)
    assert (again.repeated, again.position) == (True, first.position)
    async with app.store.transaction() as joined:
        joined.append_events("Account-a", "Account", events, expected_version=ANY, event_ids=ids)
    assert [(each.repeated, each.position) for each in joined.receipts] == [(True, first.position)]
    with pytest.raises(DuplicateEventIdError):
        other = [events[0], Deposited(account="a", amount=Decimal(6))]
        await app.store.append_events("Account-a", "Account", other, expected_version=ANY, event_ids=ids)
    for name in ("log.jsonl", "log.parquet"):
        await export_log(app.store, tmp_path / name)
        async with open_event_store("memory://") as target:
            await import_log(target, tmp_path / name)
            assert await cast(Any, target.log).read(EventQuery.all(), limit=9) == await all_rows(log)
    copy = MemoryEventLog()
    await copy_log(log, copy)
    assert await copy.read(EventQuery.all(), limit=9) == await all_rows(log)


@pytest.mark.parametrize("kind", ["asynchronous", "inline"])
async def test_projections_that_are_added_later_are_built_from_the_archive(
    app: Application, url: str, kind: Literal["asynchronous", "inline"]
) -> None:
    await filled(app, "a", "b")
    await closed(app, "a", "b")
    await archive(app)
    later = Application(url, options=Options(log=app.store.options))
    wire(later)
    later.projections.add(Balances(), kind=kind)
    async with later:
        await later.projections.wait(10, PATIENCE)
        rows = later.projections.read_model("balances")
        built = (await rows.page()).items
        assert [(row.account, row.owner, row.amount) for row in built] == [
            ("a", "secret-a", Decimal(6)), ("b", "secret-b", Decimal(6))
        ]  # fmt: skip
        await later.projections.control("balances").rebuild()
        assert (await rows.page()).items == built


async def test_personal_fields_stay_encrypted_and_are_forgotten(url: str, tmp_path: Path) -> None:
    made = Application(
        url, keys_url=f"sqlite:///{tmp_path}/keys.db", master_key=b"k" * 32, synchronize=False,
        options=Options(log=options(tmp_path / "archive"), privacy=PrivacyOptions(recheck=0.05, settling=0.01)),
    )  # fmt: skip
    guests = made.repository(Guest)
    async with made:
        guest = Guest("g")
        guest.register("Ada Lovelace", "ada@example.org")
        await guests.save(guest)
        await guests.close(guest, reason="left", by="ann")
        rule = dataclasses.replace(ARCHIVE, stream_type="Guest")
        [done] = await apply_retention(made.store, [rule], by="ann")
        log = cast(ArchivableLog, made.store.log)
        [stored] = [row.payload for row in await log.read_stream("Guest-g", limit=1)]
        assert done.removed == 1
        assert b"Lovelace" not in stored
        assert stored.startswith(b'{"~personal":')
        assert (await guests.load("g")).name == "Ada Lovelace"
        await made.privacy.forget("g", reason="asked for it", by="ann")
        assert (await guests.load("g")).name == "(forgotten)"
        assert await verify_log(log) == 3


async def test_a_file_that_is_missing_damaged_or_another_is_refused_by_name(app: Application, url: str) -> None:
    log = log_of(app)
    await filled(app, "a")
    await closed(app, "a")
    await filled(app, "b")
    await closed(app, "b")
    await archive(app)
    path = log.archive.file(1)
    whole, other = path.read_bytes(), log.archive.file(2).read_bytes()
    middle = len(whole) // 3
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for content in (None, other, whole[:-9], b"", flipped):
        path.unlink() if content is None else path.write_bytes(content)
        assert path.name in str([each.error async for each in damaged_archives(log)])
        with pytest.raises(ArchiveError, match=path.name):
            await verify_log(log)
        if content == flipped:
            continue  # what is damaged may be none of the payloads
        reads: dict[str, Any] = {
            "stream": lambda: anext(aiter(app.store.read_stream("Account-a"))),
            "read": lambda: all_rows(log),
            "scan": lambda: log.scan(EventQuery.all(), after=Mark(1), limit=9),
            "copy": lambda: copy_log(log, MemoryEventLog()),
        }
        for name, read in reads.items():
            with pytest.raises(ArchiveError, match=path.name):
                pytest.fail(f"{name} gave {await read()}")
        if content is None or len(content) != len(whole):  # the doctor looks at sizes alone
            assert path.name in str((await examine_database(log)).findings)
        found = [each async for each in damaged_events(log, await log.head(), options=app.store.options)]
        assert len(found) >= 4
        assert (await log.read_stream("Account-a", after=4, limit=9))[0].type == CLOSED, "what is in the log is read"
    path.write_bytes(whole)
    assert await verify_log(log) == 10


async def test_a_payload_is_compared_with_the_checksum_of_its_event(app: Application) -> None:
    log = log_of(app)
    await filled(app, "a")
    await closed(app, "a")
    await archive(app)
    forged = [replace(row, payload=row.payload.replace(b"2", b"9")) for row in await all_rows(log)][:4]
    log.archive.write(1, forged, instead=True)
    with pytest.raises(ArchiveError, match=r"payload of event 2 does not match the event's checksum"):
        await app.repository(Account).load("a")


async def test_a_tombstone_removes_payloads_from_the_files_too(app: Application) -> None:
    log = log_of(app)
    await filled(app, "a", "b")
    await closed(app, "a", "b")
    await archive(app)
    kept = await log.read_stream("Account-b", limit=9)
    await app.store.tombstone_stream("Account-a", reason="a test", by="ann")
    archived = [
        position for each in await log.archives() if each.events for position in log.archive.positions(each.number)
    ]
    assert sorted(archived) == [row.position for row in kept[:-1]]
    assert await log.read_stream("Account-b", limit=9) == kept
    assert await verify_log(log) == 11
    [done] = await apply_retention(app.store, [REMOVE], by="ann")
    assert done.removed == 5
    assert not list(log.archive.file(1).parent.iterdir()), "no file is left"
    assert await verify_log(log) == 12


async def test_a_file_is_written_again_once_for_all_streams_that_a_page_of_retention_tombstones(
    url: str, tmp_path: Path
) -> None:
    log_options = LogOptions(archive=str(tmp_path / "archive"), ended_at_once=1)
    async with Application(url, synchronize=False, options=Options(log=log_options)) as made:
        wire(made)
        log = log_of(made)
        await filled(made, "a", "b", "c")
        await filled(made, "d", deposits=0)
        await closed(made, "a", "b", "c", "d")
        assert await archive(made) == 13
        written, write = list[int](), log.archive.write

        def counted(number: int, rows: Sequence[StoredEvent], *, instead: bool = False) -> Archived:
            written.append(len(rows))
            return write(number, rows, instead=instead)

        log.archive.write = counted  # type: ignore[method-assign]
        [done] = await apply_retention(made.store, [dataclasses.replace(REMOVE, last="Deposited")], by="ann")
        assert (done, written) == (("gone", 3, 15), [1])
        assert [each.is_settled for each in await log.archives()] == [True]


async def test_no_payload_is_archived_in_a_file_or_of_a_row_that_is_another_by_now(app: Application) -> None:
    log = log_of(app)
    await filled(app, "a")
    await closed(app, "a")
    rows = await log.read_unarchived("Account-a", limit=9)
    number = await log.begin_archive()
    written = log.archive.write(number, rows)
    assert await log.record_archive(written, instead_of=Archived(number))
    assert not await log.record_archive(written._replace(events=9), instead_of=Archived(number))
    with pytest.raises(StorageError, match="was changed by another process"):
        await log.archive_payloads(written._replace(sha256="0" * 64), rows)
    assert await log.archive_payloads(written, [replace(row, checksum=row.checksum + 1) for row in rows]) == 0
    assert await log.measure_unarchived(["Account-a"]) != []
    assert await log.archive_payloads(written, rows) == len(rows)
    assert await log.archive_payloads(written, rows) == 0, "what is archived stays so"
    assert await log.unsettle_archives(["Account-a", "Account-b"]) == [number]
    assert await log.record_archive(written._replace(changes=0), instead_of=written)
    assert [each.is_settled for each in await log.archives()] == [False], "it was told so since it was looked at"
    [found] = await log.archives()
    assert await log.record_archive(found._replace(changes=0), instead_of=found)
    assert list(await log.archives()) == [written._replace(changes=0)]


async def test_no_folder_and_the_file_of_another_log_are_refused(url: str, tmp_path: Path, app: Application) -> None:
    log = log_of(app)
    await filled(app, "a")
    await closed(app, "a")
    log.archive.file(1).parent.mkdir()
    log.archive.file(1).write_bytes(b"of another log")
    with pytest.raises(ArchiveError, match="another log has such a file"):
        await archive(app)
    assert log.archive.file(1).read_bytes() == b"of another log"
    assert (await app.repository(Account).load("a")).balance == 6
    log.archive = ArchiveFolder(None)
    with pytest.raises(ArchiveError, match="no folder is named"):
        await archive(app)


async def test_each_tenant_reads_its_own_archived_streams(url: str, tmp_path: Path) -> None:
    made = Application(url, tenants=True, synchronize=False, options=Options(log=options(tmp_path / "archive")))
    wire(made)
    async with made:
        for tenant in ("acme", "zen"):
            with metadata(tenant=tenant):
                await filled(made, "a", deposits=1 + len(tenant))
                await closed(made, "a")
        with all_tenants():
            [done] = await apply_retention(made.store, [ARCHIVE], by="ann")
        assert done.removed == 6 + 5
        for tenant in ("acme", "zen"):
            with metadata(tenant=tenant):
                assert (await made.repository(Account).load("a")).balance == 2 + 2 * len(tenant)


async def test_an_append_makes_up_in_its_transaction_for_what_was_archived_since(app: Application, url: str) -> None:
    inline = Application(url, synchronize=False, options=Options(log=app.store.options))
    inline.projections.add(Balances(), kind="inline")
    async with inline:
        await inline.projections.run_once()
        await filled(app, "a")
        await closed(app, "a")
        await archive(app)
        await inline.store.append_events("Account-b", "Account", [Opened(account="b")], expected_version=ANY)
        rows = (await inline.projections.read_model("balances").page()).items
        assert [(row.account, row.owner, row.amount) for row in rows] == [
            ("a", "secret-a", Decimal(6)),
            ("b", "ann", 0),
        ]


async def test_a_log_in_memory_has_no_archive_and_says_so() -> None:
    async with open_event_store("memory://") as store:
        with pytest.raises(TypeError, match="event log that archives"):
            await plan_retention(store, [ARCHIVE])
