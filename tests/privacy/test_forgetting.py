"""After a forgetting, the personal text is found nowhere: not by readers, and not among the bytes of the databases."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from tests.postgres_servers import PostgresServer
from tests.privacy.guests import GUEST, Greeter, Guest, GuestView, Hotel, check_in, hotel
from tests.synchronizing import PATIENCE, until

from twofold import Application, EventQuery, InvalidMessageTypeError, SubjectForgotten, SubjectForgottenError
from twofold.log.integrity.snapshots import stored_snapshots
from twofold.log.transfer.exporting import export_log

WORDS = [word.encode() for word in ("Annabelle", "Quux", "quux@", "Zyzzyva")]


@pytest.fixture
def keys_url(url: str, tmp_path: Path, new_database: Callable[[int], str]) -> str:
    """Return where the keys are: a file of their own, or another schema of the same database."""
    return f"sqlite:///{tmp_path}/keys/keys.db" if url.startswith("sqlite") else url


@pytest_asyncio.fixture
async def app(url: str, keys_url: str, tmp_path: Path) -> AsyncIterator[Hotel]:
    """Return a hotel one of whose reactions quotes a guest in its errors."""
    (tmp_path / "keys").mkdir()
    app = hotel(url, keys_url)
    app.projections.add(Greeter())
    async with app:
        yield app


async def views(app: Hotel) -> dict[str, Any]:
    """Return the row of the guest in each read model, once all have handled the whole log."""
    await app.projections.wait(await app.store.head(), PATIENCE)
    return {name: (await row_of(app, name, "g1")).name for name in app.models}


async def row_of(app: Hotel, name: str, guest_id: str) -> GuestView:
    row = await app.models[name].get(guest_id)
    assert row is not None
    return row


async def filled(app: Hotel) -> None:
    await check_in(app, "g1", GUEST["name"], GUEST["email"], GUEST["wish"])
    await check_in(app, "g2", "Bob", "bob@example.com", "a lamp", 2)
    guests = app.repository(Guest)
    for _ in range(2):  # the second one finds the state that the first one has kept
        assert (await guests.load("g1")).name == GUEST["name"]

    async def saved() -> bool:
        return app.store.snapshots.status().saved > 0

    await until(saved)
    await app.projections.wait(await app.store.head(), PATIENCE)


async def test_every_reader_gets_placeholders_and_no_other_person_is_touched(app: Hotel) -> None:
    await filled(app)
    assert set((await views(app)).values()) == {GUEST["name"]}
    report = await app.privacy.forget("g1", reason="asked for it", by="desk")
    assert (report.events, report.streams, report.types) == (31, 1, ("GuestRegistered", "WishNoted"))
    assert report.read_models == ("guests", "guests_on_demand", "inline_guests")
    assert report.snapshots >= 1
    assert set((await views(app)).values()) == {"(forgotten)"}
    guest = await app.repository(Guest).load("g1")
    assert (guest.name, set(guest.wishes), guest.version) == ("(forgotten)", {"(forgotten)"}, 31)
    assert (await app.repository(Guest).load("g2")).name == "Bob"
    assert (await row_of(app, "guests", "g2")).wishes == ("a lamp", "a lamp")
    [told] = [each.event async for each in app.store.read(EventQuery.of(SubjectForgotten))]
    assert told == SubjectForgotten(report.digest, 1)


async def test_it_is_recorded_and_a_repeat_changes_nothing(app: Hotel) -> None:
    await filled(app)
    first = await app.privacy.forget("g1", reason="asked for it", by="desk")
    head = await app.store.head()
    again = await app.privacy.forget("g1", reason="again", by="boss")
    assert (again.number, again.forgotten_at, again.events) == (1, first.forgotten_at, 0)
    assert await app.store.head() == head
    [record] = await app.privacy.forgotten()
    assert (record.digest, record.reason, record.by, record.is_done) == (first.digest, "asked for it", "desk", True)
    assert [each.subject for each in await app.privacy.subjects()] == ["g2"]


async def test_a_person_gets_all_that_is_known_and_nothing_of_others(app: Hotel) -> None:
    await filled(app)
    told = [each async for each in app.privacy.export("g1")]
    assert len(told) == 31
    assert told[0]["data"] == {"guest_id": "g1", "name": GUEST["name"], "email": GUEST["email"]}
    assert [each["data"] async for each in app.privacy.export("g3")] == []
    await app.privacy.forget("g1", reason="asked for it", by="desk")
    assert {each["data"].get("name", "(forgotten)") async for each in app.privacy.export("g1")} == {"(forgotten)"}


async def test_a_command_that_is_under_way_cannot_bring_the_data_back(app: Hotel) -> None:
    await filled(app)
    guest = await app.repository(Guest).load("g1")
    await app.privacy.forget("g1", reason="asked for it", by="desk")
    guest.note(GUEST["wish"])
    with pytest.raises(SubjectForgottenError):
        await app.repository(Guest).save(guest)


async def test_errors_about_it_that_are_parked_or_skipped_quote_it_no_more(app: Hotel) -> None:
    await filled(app)
    greeter = app.projections.control("greeter")
    quoted = f"ValueError: cannot fulfil {GUEST['wish']}"
    [first] = await greeter.parked()
    assert (first.cause, quoted in first.traceback) == (quoted, True)
    await greeter.skip(first.position, reason="asked twice")
    guest = await app.repository(Guest).load("g1")
    guest.note(GUEST["wish"])
    await app.repository(Guest).save(guest)
    await app.projections.wait(await app.store.head(), PATIENCE)
    assert [each.cause for each in await greeter.parked()] == [quoted]
    report = await app.privacy.forget("g1", reason="asked for it", by="desk")
    assert report.parked == 2
    assert [(each.cause, each.traceback) for each in await greeter.parked()] == [("(forgotten)", "")]
    assert [each.cause for each in await greeter.skipped()] == ["(forgotten)"]


async def test_another_process_stops_reading_it(app: Hotel, url: str, keys_url: str) -> None:
    await filled(app)
    async with hotel(url, keys_url, synchronize=False) as other:
        assert (await other.repository(Guest).load("g1")).name == GUEST["name"]
        assert (await row_of(other, "guests_on_demand", "g1")).name == GUEST["name"]
        await app.privacy.forget("g1", reason="asked for it", by="desk")
        assert (await other.repository(Guest).load("g1")).name == "(forgotten)"
        assert (await row_of(other, "guests_on_demand", "g1")).name == "(forgotten)"


async def test_the_text_is_in_no_byte_of_the_databases_and_exports(
    app: Hotel, url: str, tmp_path: Path, postgres_server: Callable[[int], PostgresServer]
) -> None:
    await filled(app)
    exports = tmp_path / "exports"
    exports.mkdir()
    await export_log(app.store, exports / "before.jsonl")
    await app.privacy.forget("g1", reason="asked for it", by="desk")
    await export_log(app.store, exports / "after.jsonl")
    assert [each async for each in stored_snapshots(app.store.log)] == []
    await app.stop()
    if url.startswith("sqlite"):
        folder = tmp_path
        assert {name for name, _ in holding(folder)} <= {
            "twofold.db",
            "twofold.db-wal",
        }  # and there until this is done:
        with sqlite3.connect(tmp_path / "twofold.db") as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with sqlite3.connect(tmp_path / "twofold.db", isolation_level=None) as connection:
            connection.execute("VACUUM")
        connection.close()
    else:
        folder = postgres_server(18).data
        with psycopg.connect(url, autocommit=True) as connection_:
            connection_.execute("CHECKPOINT")
            assert {word for _, word in holding(folder / "pg_wal")} != set()  # it stays there until this is done:
            connection_.execute("VACUUM FULL")
            connection_.execute("SELECT pg_switch_wal()")
            connection_.execute("CHECKPOINT")
    assert holding(exports) == []
    assert holding(folder) == []


def holding(folder: Path) -> list[tuple[str, bytes]]:
    """Return the files below a folder that hold one of the words."""
    found = []
    for path in (each for each in folder.rglob("*") if each.is_file()):
        content = path.read_bytes()
        found += [
            (path.name, word) for word in WORDS if word in content or word.decode().encode("utf-16-le") in content
        ]
    return found


def test_the_look_at_bytes_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0\0Quux\0")
    assert holding(tmp_path) == [("a.bin", b"Quux")]


async def test_without_keys_it_says_what_is_missing(tmp_path: Path) -> None:
    app = Application(f"sqlite:///{tmp_path}/a.db")
    with pytest.raises(InvalidMessageTypeError, match="keys_url="):
        await app.privacy.forget("g1", reason="r", by="b")


async def test_forgettings_at_the_same_time_are_all_done(app: Hotel) -> None:
    await filled(app)
    forget = app.privacy.forget
    reports = await asyncio.gather(*(forget(each, reason="asked", by="desk") for each in ("g1", "g2", "g9")))
    assert sorted(each.number for each in reports) == [1, 2, 3]
    assert all(each.is_done for each in await app.privacy.forgotten())
    assert set((await views(app)).values()) == {"(forgotten)"}
