"""`twofold verify` and `twofold anchor`: whatever is damaged or forged is named, and where."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
import psycopg
import pytest
from tests.accounts import Account, Balances, Deposit, Deposited, Open, Opened, wire
from tests.cli.typed import Twofold
from tests.synchronizing import PATIENCE

from twofold import ANY, Application, EventStore, LogOptions, Options, open_event_store
from twofold.engines.engine import Engine
from twofold.engines.memory import MemoryEventLog
from twofold.errors import StorageError
from twofold.log.verify import verify_log
from twofold.messages.stored_event import StoredEvent, content_checksum, seal
from twofold.ports.maintenance import PortableLog, TagChange
from twofold.ports.snapshots import SnapshotLog, with_checksum

CODE = "tests.cli.test_integrity:build"
MUCH = Options(log=LogOptions(short_stream=10, first_chunk=5, snapshot_every=5))
DEPOSITS = 20


def build(url: str) -> Application:
    app = Application(url, options=MUCH)
    wire(app)
    app.projections.add(Balances())
    return app


async def write(url: str) -> None:
    """Store 24 events: a long stream with a snapshot, and commands; and let the read model see all of them."""
    app = build(url)
    repository = app.repository(Account)
    async with app:
        events = [Opened(account="a"), *(Deposited(account="a", amount=Decimal(1)) for _ in range(DEPOSITS))]
        await app.store.append_events("Account-a", "Account", events, expected_version=ANY)
        await repository.load("a")
        for account in ("b", "c"):
            await app.commands.dispatch(Open(account=account))
        receipt = await app.commands.execute(Deposit(account="b", amount=Decimal(2)))
        await app.projections.wait(receipt, PATIENCE)


@pytest.fixture
def written(url: str) -> str:
    asyncio.run(write(url))
    return url


def tamper(url: str, *statements: str) -> None:
    """Do what no application can: change what is stored, with the triggers that refuse it out of the way."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f'DROP TRIGGER "{name}"')
            for statement in statements:
                connection.execute(statement)
        return
    with psycopg.connect(url) as server:
        for table in ("twofold_events", "twofold_event_tags", "twofold_commands", "twofold_checkpoints"):
            server.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement in statements:
            server.execute(statement)


Verify = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def verify(twofold: Twofold) -> Verify:
    """Return a function that verifies, and returns the damages."""

    def run(url: str, *arguments: str) -> list[dict[str, Any]]:
        done = twofold("verify", url, "--json", *arguments)
        *damages, summary = map(json.loads, done.stdout.splitlines())
        assert (done.returncode, done.stderr) == (int(bool(damages)), "")
        assert summary.get("damages", 0) == len(damages)
        return damages

    return run


PAYLOAD = "UPDATE twofold_events SET payload = replace(CAST(payload AS text), '\"1\"', '\"9\"'){} WHERE position = 4"
DAMAGES = [
    pytest.param("event", "position 4", "event 4", [PAYLOAD], id="an edited event"),
    pytest.param("event", "position 5", "event 5 is missing", [
        "DELETE FROM twofold_events WHERE position = 5"], id="a removed event"),
    pytest.param("event", "position 24", "version 9 of stream 'Account-b', 2 would follow", [
        "UPDATE twofold_events SET version = 9 WHERE position = 24"], id="a version"),
    pytest.param("storage", "the index of tags", "damaged: event 3 lacks an entry in the index of tags", [
        "DELETE FROM twofold_event_tags WHERE position = 3"], id="a tag that is not found"),
    pytest.param("command", "command ", "does not match its checksum", [
        "UPDATE twofold_commands SET result = '\"x\"' WHERE first_position = 22"], id="a record of a command"),
    pytest.param("snapshot", "aggregate Account of Account-a", "does not match its checksum", [
        "UPDATE twofold_snapshots SET saved_at = saved_at + 1"], id="a snapshot"),
    pytest.param("checkpoint", "balances, generation 1", "balances", [
        f"UPDATE twofold_checkpoints SET event_id = '{'f' * 32}'"], id="a checkpoint of another history"),
    pytest.param("checkpoint", "balances, generation 1, at position 99", "balances", [
        "UPDATE twofold_checkpoints SET position = 99"], id="a checkpoint beyond the end"),
]  # fmt: skip


def test_a_whole_log_has_no_damage(written: str, verify: Verify, twofold: Twofold) -> None:
    assert verify(written) == verify(written, "--code", CODE) == []
    assert "all 24 events are intact, and 1 snapshots" in twofold("verify", written).stdout
    assert "all 4 events behind position 20 are intact" in twofold("verify", written, "--after", "20").stdout


@pytest.mark.parametrize(("check", "where", "text", "statements"), DAMAGES)
def test_what_was_damaged_is_named(
    written: str, verify: Verify, check: str, where: str, text: str, statements: Sequence[str]
) -> None:
    cast_to_json = "" if written.startswith("sqlite") else "::json"
    tamper(written, *(each.replace("'){}", f"'){cast_to_json}") for each in statements))
    damages = verify(written)
    found = [each for each in damages if each["check"] == check]
    assert found, damages
    assert [each for each in found if (where in each["where"] or where in each["text"]) and text in each["text"]], found


def test_all_damages_are_named_in_one_run(written: str, verify: Verify, twofold: Twofold) -> None:
    tamper(
        written,
        "UPDATE twofold_events SET recorded_at = recorded_at + 1 WHERE position IN (4, 7)",
        "UPDATE twofold_commands SET result = '\"x\"'",
        "UPDATE twofold_snapshots SET saved_at = saved_at + 1",
    )
    named = [(each["check"], each["where"].partition(" ")[0]) for each in verify(written)]
    assert named == [*[("event", "position")] * 2, *[("command", "command")] * 3, ("snapshot", "aggregate")]
    done = twofold("verify", written)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 6)
    stopped = twofold("verify", written, "--most", "2")
    assert stopped.stderr.splitlines()[-1] == "twofold: stopped after 2 damages; `--most` raises that"
    behind = [each["where"] for each in verify(written, "--after", "4")]
    assert behind[0] == "position 7"


async def _replace_tags(url: str, position: int, tags: Sequence[str]) -> None:
    """Replace tags as one who can write checksums does."""
    async with open_event_store(url) as store:
        [row] = await store.log.read(_all(), after=position - 1, before=position + 1, limit=1)
        changed = msgspec.structs.replace(row, tags=msgspec.json.encode(tags))
        change = TagChange(position, row.checksum, changed.tags, _resealed(changed).checksum)
        await cast(PortableLog, store.log).replace_tags([change])


def _all() -> Any:
    from twofold import EventQuery

    return EventQuery.all()


@pytest.mark.parametrize(("tags", "text"), [
    (["account:z", "account:a"], "event 2 has the tag 'account:z', which its payload does not make"),
    ([], "event 2 lacks the tag 'account:a' that its payload makes"),
])  # fmt: skip
def test_tags_that_are_not_those_of_the_payload_are_named_with_the_code(
    written: str, verify: Verify, tags: list[str], text: str
) -> None:
    asyncio.run(_replace_tags(written, 2, tags))
    if not tags:
        tamper(written, "DELETE FROM twofold_event_tags WHERE position = 2")
    assert verify(written) == []
    [damage] = verify(written, "--code", CODE)
    assert (damage["check"], damage["where"]) == ("tags", "position 2")
    assert text in damage["text"]


async def _forge_snapshot(url: str) -> None:
    async with open_event_store(url) as store:
        log = cast(SnapshotLog, store.log)
        [snapshot] = await log.read_snapshots(limit=1)
        forged = with_checksum(snapshot._replace(state=snapshot.state.replace(b'"20"', b'"21"')))
        assert forged.checksum != snapshot.checksum
        assert await log.save_snapshot(forged, instead_of=snapshot.checksum)


def test_a_snapshot_that_is_another_state_is_named_with_the_code(written: str, verify: Verify) -> None:
    asyncio.run(_forge_snapshot(written))
    assert verify(written) == []
    [damage] = verify(written, "--code", CODE)
    assert (damage["check"], damage["where"]) == ("snapshot", "aggregate Account of Account-a")
    assert "is not the state to which its events lead" in damage["text"]


# -- anchors ---------------------------------------------------------------------------------------------------------


def _resealed(row: StoredEvent) -> StoredEvent:
    checksum = seal(content_checksum(row), row.position, row.version, row.recorded_at)
    return msgspec.structs.replace(row, checksum=checksum)


def _edited(rows: list[StoredEvent]) -> list[StoredEvent]:
    return [msgspec.structs.replace(row, payload=row.payload.replace(b'"1"', b'"9"')) if row.position == 8 else row
            for row in rows]  # fmt: skip


def _dated(rows: list[StoredEvent]) -> list[StoredEvent]:
    return [msgspec.structs.replace(row, recorded_at=row.recorded_at - (row.position == 8)) for row in rows]


def _removed(rows: list[StoredEvent]) -> list[StoredEvent]:
    return rows[:7] + rows[8:]


def _inserted(rows: list[StoredEvent]) -> list[StoredEvent]:
    return [*rows[:8], msgspec.structs.replace(rows[7], event_id=bytes(16)), *rows[8:]]


def _moved(rows: list[StoredEvent]) -> list[StoredEvent]:
    return [*rows[:7], rows[8], rows[7], *rows[9:]]


def _cut(rows: list[StoredEvent]) -> list[StoredEvent]:
    return rows[:7]


async def _forge(url: str, change: Callable[[list[StoredEvent]], list[StoredEvent]]) -> None:
    """Let the log hold other events, in which all positions, versions and checksums fit."""
    async with open_event_store(url) as store:
        rows = change(list(await store.log.read(_all(), limit=1000)))
    tables = ("commands", "event_tags", "events", "snapshots", "checkpoints", "projections")
    tamper(url, *(f"DELETE FROM twofold_{each}" for each in tables))
    versions: dict[str, int] = {}
    for place, row in enumerate(rows):
        versions[row.stream_id] = version = versions.get(row.stream_id, 0) + 1
        rows[place] = _resealed(msgspec.structs.replace(row, position=place + 1, version=version))
    async with open_event_store(url) as store:
        await cast(PortableLog, store.log).restore(rows)


FORGERIES = [_edited, _dated, _removed, _inserted, _moved, _cut]


@pytest.mark.parametrize("change", FORGERIES)
def test_what_was_forged_with_its_checksum_is_found_by_an_anchor(
    written: str, verify: Verify, twofold: Twofold, tmp_path: Path, change: Callable[..., Any]
) -> None:
    anchors = str(tmp_path / "anchors.jsonl")
    done = twofold("anchor", written, anchors, "--every", "5")
    assert done.stdout == "added 5 anchors; the last one is at position 24\n", done.stderr
    assert verify(written, "--anchor", anchors) == []
    asyncio.run(_forge(written, change))
    assert verify(written) == []
    found = verify(written, "--anchor", anchors)
    assert (found[0]["check"], found[0]["where"]) == ("anchor", "positions 6 to 10")
    assert "an event there was changed, removed, added or moved" in found[0]["text"]
    if change in (_edited, _dated, _moved):
        assert len(found) == 1, "the other stretches are what they were"


def test_an_anchor_goes_on_from_the_last_one(written: str, verify: Verify, twofold: Twofold, tmp_path: Path) -> None:
    anchors, whole = tmp_path / "anchors.jsonl", tmp_path / "whole.jsonl"
    twofold("anchor", written, str(anchors))
    assert (
        "nothing was appended since the last anchor, at position 24" in twofold("anchor", written, str(anchors)).stdout
    )

    async def append() -> None:
        async with build(written) as app:
            await app.commands.dispatch(Deposit(account="c"))

    asyncio.run(append())
    tamper(written, PAYLOAD.replace("'){}", "')" + ("" if written.startswith("sqlite") else "::json")))
    assert "added 1 anchors; the last one is at position 25" in twofold("anchor", written, str(anchors)).stdout
    first, second = map(json.loads, anchors.read_text().splitlines())
    assert (first["position"], second["position"]) == (24, 25)
    found = [each["where"] for each in verify(written, "--anchor", str(anchors)) if each["check"] == "anchor"]
    assert found == ["positions 1 to 24"], "the second goes on from the first, and not from what is stored now"
    assert twofold("anchor", written, str(whole)).returncode == 0
    assert json.loads(whole.read_text())["digest"] != second["digest"]


def test_an_anchor_of_another_log_or_history_is_refused(
    written: str, twofold: Twofold, verify: Verify, tmp_path: Path
) -> None:
    anchors = tmp_path / "anchors.jsonl"
    twofold("anchor", written, str(anchors))
    line = json.loads(anchors.read_text())
    anchors.write_text(json.dumps({**line, "log": "f" * 32}))
    [damage] = verify(written, "--anchor", str(anchors))
    assert "is of the log ffff" in damage["text"]
    assert twofold("anchor", written, str(anchors)).returncode == 1
    anchors.write_text(json.dumps({**line, "event": "f" * 32}))
    assert "has another history" in twofold("anchor", written, str(anchors)).stderr
    anchors.write_text('{"position": 1}')
    assert "this is no anchor" in twofold("verify", written, "--anchor", str(anchors)).stderr


# -- in flat memory --------------------------------------------------------------------------------------------------


async def test_the_version_of_a_stream_that_is_not_remembered_is_looked_up(engine: Engine) -> None:
    log, few = MemoryEventLog(), LogOptions(remembered_streams=2, first_chunk=2, whole_log_chunk=2)
    await log.open()
    store = EventStore(log)
    for number in range(30):
        stream = f"Account-{number % 7}"
        await store.append_events(stream, "Account", [Opened(account=str(number))], expected_version=ANY)
    assert await verify_log(log, options=few) == 30
    rows = list(await log.read(_all(), limit=100))
    for place, version in ((21, 5), (28, 4)):  # the two last events of one stream, the other way round
        rows[place] = _resealed(msgspec.structs.replace(rows[place], version=version))
    swapped = cast(PortableLog, engine.log)
    await swapped.restore(rows)
    for options in (few, LogOptions()):
        with pytest.raises(StorageError, match="event 22 has version 5 of stream 'Account-0'"):
            await verify_log(swapped, options=options)
