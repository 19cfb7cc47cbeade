"""Events of other stores come into a log with their order, times and ids, and are what an application can read."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import NAMESPACE_OID, UUID, uuid5

import psycopg
import pytest
from tests.docs.pages import ROOT, blocks
from tests.log.importers.stores import dogs_at, fill_marten, fill_message_db, keep_dogs
from tests.log.transfer.logs import SMALL, store_of

from twofold import (
    Application,
    EventQuery,
    EventStore,
    ForeignEventError,
    LogsDifferError,
    Options,
    PlainEvent,
    SourceEvent,
    StorageError,
    Tag,
    TransformFailedError,
    event_type,
    import_events,
    metadata,
    open_event_store,
)
from twofold.cli import run
from twofold.engines.memory import MemoryEventLog
from twofold.log.moving.loading import load_transform
from twofold.log.verify import verify_log
from twofold.messages.stored_event import StoredEvent
from twofold.tenants import all_tenants

PATIENCE = 120


@pytest.fixture
def postgres(new_database: Callable[[int], str]) -> str:
    return new_database(18)


@pytest.fixture
def target() -> EventStore:
    return store_of(MemoryEventLog())


async def rows_of(store: EventStore) -> list[StoredEvent]:
    return list(await store.log.read(EventQuery.all(), limit=100_000))


async def test_the_events_of_eventsourcing_are_those_that_its_own_code_has_stored(url: str, target: EventStore) -> None:
    with closing(dogs_at(url)) as app:
        stored = keep_dogs(app, 10)
    moved = await import_events("eventsourcing", url, target)
    rows = await rows_of(target)
    assert (moved.read, moved.written, await verify_log(target.log)) == (30, 30, 30)  # type: ignore[arg-type]
    kinds = {each.originator_id: each.originator_topic.rpartition(":")[2] for each in stored if hasattr(each, "name")}
    assert set(kinds.values()) == {"Dog", "Puppy"}
    for row, event in zip(rows, stored, strict=True):
        name, kind = type(event).__qualname__, kinds[event.originator_id]
        assert (row.type, row.stream_type, row.stream_id) == (name, kind, f"{kind}-{event.originator_id}")
        assert row.version == event.originator_version
        assert row.recorded_at == int(event.timestamp.timestamp() * 1_000_000 + 0.5)
        assert row.event_id == uuid5(NAMESPACE_OID, f"{event.originator_id}/{event.originator_version}").bytes
        assert json.loads(row.payload) == (
            {"trick": event.trick, "price": "1.50", "shown_to": str(event.shown_to)}
            if name.endswith("TrickAdded")
            else {"name": event.name}
        )


@event_type("TrickLearnt")
@dataclass(frozen=True, kw_only=True)
class TrickLearnt:
    dog: Annotated[str, Tag("dog")]
    trick: str
    price: Decimal


def learnt(source: SourceEvent) -> Iterable[PlainEvent]:
    event = source.event
    if not event.type.endswith(".TrickAdded"):
        return []
    dog = str(UUID(str(source.columns["originator_id"])))
    data = {"dog": dog, "trick": event.data["trick"], "price": event.data["price"]}
    return [PlainEvent(type="TrickLearnt", data=data, stream_id=f"Dog-{dog}", stream_type="Dog", tags=(f"dog:{dog}",))]


async def test_a_mapping_makes_the_events_of_the_application(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/dogs.db"
    with closing(dogs_at(url)) as app:
        stored = [each for each in keep_dogs(app, 4) if hasattr(each, "trick")]
    async with open_event_store(f"sqlite:///{tmp_path}/target.db") as store:
        moved = await import_events("eventsourcing", url, store, transform=learnt)
        assert (moved.read, moved.written) == (12, 8)
        store.events.register(TrickLearnt)
        read = [each async for each in store.read(EventQuery.of(TrickLearnt))]
        assert [(each.event.trick, each.event.price) for each in read] == [(e.trick, Decimal("1.5")) for e in stored]
        assert [each.recorded_at for each in read] == [each.timestamp for each in stored]
        one = EventQuery.of(TrickLearnt, tags=[f"dog:{stored[0].originator_id}"])
        assert len([each async for each in store.read(one)]) == 2


async def test_messages_of_message_db_keep_order_ids_times_and_metadata(postgres: str, target: EventStore) -> None:
    messages = fill_message_db(postgres, 120)
    versions: list[int] = []

    def noted(source: SourceEvent) -> Iterable[PlainEvent]:
        versions.append(source.version)
        return [source.event]

    moved = await import_events("message-db", postgres, target, transform=noted)
    assert versions == [each["position"] + 1 for each in messages]
    rows = await rows_of(target)
    assert (moved.read, moved.written, len(rows)) == (120, 120, 120)
    for row, message in zip(rows, messages, strict=True):
        assert row.event_id == message["id"].bytes
        assert (row.type, row.stream_id, row.stream_type) == ("Deposited", message["stream"], "account")
        assert row.version == message["position"] + 1
        assert json.loads(row.payload) == (message["data"].obj if message["data"] else {})
        extra = json.loads(row.metadata).get("extra", {})
        assert extra == ({"replyStreamName": message["metadata"].obj["replyStreamName"], "schemaVersion": "1"}
                         if message["metadata"] else {})  # fmt: skip
    times = [each["time"].timestamp() for each in messages]
    assert [round(row.recorded_at / 1e6 - time, 6) for row, time in zip(rows, times, strict=True)] == [
        round(rows[0].recorded_at / 1e6 - times[0], 6)
    ] * 120
    assert rows[0].recorded_at == 1_577_880_000_000_000


@pytest.mark.parametrize("keys", ["uuid", "varchar"])
async def test_events_of_marten_keep_order_ids_times_and_headers(postgres: str, target: EventStore, keys: str) -> None:
    events = fill_marten(postgres, 60, keys=keys)
    moved = await import_events("marten", postgres, target)
    rows = await rows_of(target)
    assert (moved.read, moved.written, len(rows)) == (60, 60, 60)
    for row, event in zip(rows, events, strict=True):
        assert row.event_id == event["id"].bytes
        assert row.type == ("MembersJoined" if event["dotnet"] else "QuestStarted")
        stream = f"QuestParty-{event['stream']}" if keys == "uuid" else event["stream"]
        assert (row.stream_id, row.stream_type, row.version) == (stream, "QuestParty", event["version"])
        assert row.recorded_at == int(event["time"].timestamp()) * 1_000_000
        assert json.loads(row.payload) == event["data"].obj
        metadata = json.loads(row.metadata)
        assert metadata["extra"]["by"] == "ann"
        correlation = metadata.get("correlation_id") or metadata["extra"]["correlation_id"]
        assert correlation == event["correlation"]


async def test_tenants_of_marten_stay_tenants(postgres: str, tmp_path: Path) -> None:
    fill_marten(postgres, 30, tenants=True)
    url = f"sqlite:///{tmp_path}/target.db"
    async with open_event_store(url) as store:
        await import_events("marten", postgres, store)
    async with Application(url, tenants=True, synchronize=False) as app:
        with all_tenants():
            assert await app.store.head() == 30
            rows = await rows_of(EventStore(app.store.log))
        with metadata(tenant="acme"):
            found = [each async for each in app.store.read(EventQuery.all(), unknown="raw")]
    assert len(found) == 10
    assert {each.tags for each in found} == {()}
    assert {row.tags for row in rows} == {b'["acme/"]', b'["umbra/"]', b"[]"}


@pytest.mark.parametrize("kind", ["message-db", "marten"])
async def test_the_mapping_that_the_page_shows_works(
    postgres: str, tmp_path: Path, target: EventStore, kind: Literal["message-db", "marten"]
) -> None:
    [mapping] = [each for each in blocks(ROOT / "docs" / "how-to" / f"come-from-{kind}.md") if each.title]
    (tmp_path / mapping.title).write_text(mapping.text)
    (fill_message_db if kind == "message-db" else fill_marten)(postgres, 8)
    await import_events(kind, postgres, target, transform=load_transform(tmp_path / mapping.title))
    rows = await rows_of(target)
    data = {"account_id": "1", "amount": 1} if kind == "message-db" else {"name": "n1", "day": 1}
    assert data.items() <= json.loads(rows[1].payload).items()
    assert all(row.tags != b"[]" for row in rows)
    assert len(rows) == 8


async def test_what_the_other_store_gets_later_is_brought_by_the_next_run(url: str, target: EventStore) -> None:
    with closing(dogs_at(url)) as app:
        keep_dogs(app, 5)
        first = await import_events("eventsourcing", url, target)
        keep_dogs(app, 2)
    second = await import_events("eventsourcing", url, target)
    assert (first.written, second.already, second.written) == (15, 15, 21)
    with pytest.raises(LogsDifferError, match="position 2"):
        await import_events(
            "eventsourcing",
            url,
            target,
            transform=lambda s: [replace(s.event, type="Other")] if s.position == 2 else [s.event],
        )


async def test_a_row_that_cannot_be_understood_is_named(postgres: str, tmp_path: Path, target: EventStore) -> None:
    url = f"sqlite:///{tmp_path}/dogs.db"
    with closing(dogs_at(url, COMPRESSOR_TOPIC="zlib")) as app:
        keep_dogs(app, 1)
    with pytest.raises(
        ForeignEventError, match='"stored_events", row 1: its state is no JSON object: it is compressed'
    ):
        await import_events("eventsourcing", url, target)
    fill_message_db(postgres, 5)
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE message_store.messages SET data = '[1]' WHERE global_position = 7")
    with pytest.raises(ForeignEventError, match=r'"message_store"\."messages", row 7: its data is no JSON object'):
        await import_events("message-db", postgres, target)
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE message_store.messages SET data = '{}', type = '' WHERE global_position = 7")
    with pytest.raises(TransformFailedError, match=r"event 7 .*`type`: a type has 1 to 500"):
        await import_events("message-db", postgres, target)


async def test_a_store_that_is_not_there_is_said(postgres: str, tmp_path: Path, target: EventStore) -> None:
    with pytest.raises(StorageError, match="there is no such file"):
        await import_events("eventsourcing", f"sqlite:///{tmp_path}/none.db", target)
    (tmp_path / "other.db").write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match=r"other.db: file is not a database"):
        await import_events("eventsourcing", f"sqlite:///{tmp_path}/other.db", target)
    with pytest.raises(StorageError, match=r'relation "message_store\.messages" does not exist'):
        await import_events("message-db", postgres, target)
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE a_events (notification_id bigint)")
        connection.execute("CREATE TABLE b_events (notification_id bigint)")
    with pytest.raises(ValueError, match=r"`table`: there are several, public\.a_events, public\.b_events; say which"):
        await import_events("eventsourcing", postgres, target)
    with pytest.raises(StorageError, match='relation "no_such" does not exist'):
        await import_events("eventsourcing", postgres, target, table="no_such")
    for kind, said in (("marten", "Marten is in a PostgreSQL"), ("message-db", "message-db is in a PostgreSQL")):
        with closing(sqlite3.connect(tmp_path / "empty.db")), pytest.raises(ValueError, match=said):
            await import_events(kind, f"sqlite:///{tmp_path}/empty.db", target)  # type: ignore[arg-type]


def dog_table(path: Path, events: int) -> str:
    """Make a table as `eventsourcing` does, with as many events."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE stored_events (originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB, "
            "PRIMARY KEY (originator_id, originator_version))"
        )
        state = b'{"timestamp":{"_type_":"datetime_iso","_data_":"2020-01-01T00:00:00+00:00"},"name":"Fido"}'
        rows = [(UUID(int=n // 2).hex, n % 2 + 1, "dogs:Dog.Named", state) for n in range(events)]
        connection.executemany("INSERT INTO stored_events VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    return f"sqlite:///{path}"


async def test_a_store_ten_times_as_large_takes_no_more_memory(tmp_path: Path) -> None:
    peaks: list[int] = []
    for events in (200, 200, 2000):  # the first round loads what is loaded once
        url = dog_table(tmp_path / f"dogs{len(peaks)}.db", events)
        async with open_event_store(f"sqlite:///{tmp_path}/{len(peaks)}.db", options=Options(log=SMALL)) as target:
            tracemalloc.start()
            await import_events("eventsourcing", url, target)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[2] < peaks[1] + 1800 * 800 / 4, peaks


KILLED = """
import asyncio, os, signal, sys
from twofold import EventStore, import_events
from twofold.engines.engine import connect
from tests.log.transfer.logs import SMALL

def die(stage, position, end):
    if position >= 100:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    log = connect(sys.argv[2]).log
    await log.open()
    await import_events("eventsourcing", sys.argv[1], EventStore(log, options=SMALL), progress=die)

asyncio.run(main())
"""


def test_an_import_that_is_killed_goes_on_when_it_is_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, target = dog_table(tmp_path / "dogs.db", 300), f"sqlite:///{tmp_path}/target.db"

    def typed(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        code = run(["import", "--from", "eventsourcing", url, target, "--json", *arguments])
        said = capsys.readouterr()
        assert code == 0, said
        found: dict[str, Any] = json.loads(said.out)
        return found

    preview = typed("--dry-run")
    assert not (tmp_path / "target.db").exists()
    command = [sys.executable, "-c", KILLED, url, target]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    told = typed()
    assert 0 < told["already"] < told["written"] == preview["written"] == 300
    assert told["types"] == preview["types"] == {"Dog.Named": told["types"]["Dog.Named"]}
    assert run(["verify", target]) == 0
    mapping = tmp_path / "map.py"
    mapping.write_text("def transform(source):\n    return [source.event] if source.version == 1 else []\n")
    other = f"sqlite:///{tmp_path}/other.db"
    capsys.readouterr()
    assert run(["import", "--from", "eventsourcing", url, other, "--map", str(mapping)]) == 0
    assert "300 events became 150, 0 of them were there already" in capsys.readouterr().out
    assert run(["import", "log.jsonl", other, "--map", str(mapping)]) == 1
    assert "say which with `--from`" in capsys.readouterr().err
