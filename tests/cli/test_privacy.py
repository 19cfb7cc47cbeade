"""`twofold privacy`, as an operator types it."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.typed import Fails, Twofold
from tests.privacy.guests import GUEST, Guest, Hotel, PlainGuestRegistered, check_in, hotel

from twofold import NO_STREAM, open_event_store
from twofold.log.keys.master_key import new_master_key
from twofold.log.moving.plain_event import plain_event_of

CODE = "tests.cli.test_privacy:build"


def build(url: str) -> Hotel:
    folder = Path(url.removeprefix("sqlite:///")).parent
    app = hotel(url, f"sqlite:///{folder}/keys.db", master_key=None)
    app.repository(Guest)  # folds their streams
    return app


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TWOFOLD_MASTER_KEY", new_master_key())
    return f"sqlite:///{tmp_path}/log.db"


async def fill(url: str) -> None:
    async with build(url) as app:
        await check_in(app, "g1", GUEST["name"], GUEST["email"], GUEST["wish"], wishes=1)


def test_a_person_is_listed_exported_and_forgotten(url: str, twofold: Twofold) -> None:
    asyncio.run(fill(url))
    assert "g1" in twofold("privacy", "list", CODE, "--url", url).stdout
    lines = twofold("privacy", "export", CODE, "g1", "--url", url).stdout.splitlines()
    assert [json.loads(line)["data"].get("name") for line in lines] == [GUEST["name"], None]
    done = twofold("privacy", "forget", CODE, "g1", "--reason", "asked", "--by", "desk", "--yes", "--url", url).stdout
    assert "2 events in 1 streams" in " ".join(done.split())
    listed = twofold("privacy", "list", CODE, "--url", url).stdout
    assert "forgotten" in listed
    assert "g1" not in listed
    assert GUEST["name"] not in twofold("privacy", "export", CODE, "g1", "--url", url).stdout


@pytest.mark.parametrize(
    "command",
    [
        ("stream", "show", CODE, "Guest-g1", "--state"),
        ("at", "2", CODE, "--stream", "Guest-g1"),
        ("at", "2", CODE, "--read-model", "guests", "--key", "g1"),
        ("at", "2", CODE, "--read-model", "guests"),
    ],
    ids=["stream", "past stream", "past row", "past rows"],
)
def test_what_is_personal_is_shown_to_an_operator_who_asks_for_it_alone(
    url: str, twofold: Twofold, command: tuple[str, ...]
) -> None:
    asyncio.run(fill(url))
    masked = twofold(*command, "--url", url)
    assert masked.returncode == 0, masked.stderr
    assert "(forgotten)" in masked.stdout
    assert [each for each in GUEST.values() if each in masked.stdout] == []
    assert GUEST["name"] in twofold(*command, "--url", url, "--personal").stdout


def test_the_master_key_is_rotated(url: str, twofold: Twofold, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(fill(url))
    new = twofold("privacy", "new-key").stdout.strip()
    old = os.environ["TWOFOLD_MASTER_KEY"]
    monkeypatch.setenv("TWOFOLD_MASTER_KEY", new)
    assert "TWOFOLD_FORMER_MASTER_KEYS" in fails("privacy", "export", CODE, "g1", "--url", url)
    monkeypatch.setenv("TWOFOLD_FORMER_MASTER_KEYS", old)
    assert "keys were wrapped again" in twofold("privacy", "rotate", CODE, "--url", url).stdout
    monkeypatch.delenv("TWOFOLD_FORMER_MASTER_KEYS")
    assert GUEST["name"] in twofold("privacy", "export", CODE, "g1", "--url", url).stdout


def test_a_log_in_plain_text_is_copied_encrypted(url: str, twofold: Twofold, tmp_path: Path) -> None:
    async def write() -> None:
        async with open_event_store(url) as store:
            events = [PlainGuestRegistered(guest_id="g1", full_name=GUEST["name"], email=GUEST["email"])]
            await store.append_events("Guest-g1", "Guest", events, expected_version=NO_STREAM)

    async def look() -> None:
        async with build(target) as app:
            assert (await app.repository(Guest).load("g1")).name == GUEST["name"]
            [row] = [each.stored async for each in app.store.read()]
            assert (row.version, row.schema_version, row.type) == (1, 2, "GuestRegistered")
            assert plain_event_of(row).data["name"] == "(forgotten)"
            assert row.tags.startswith(b'["guest:g1","email:')

    asyncio.run(write())
    target = f"sqlite:///{tmp_path}/sealed.db"
    assert "holds 1 events" in twofold("privacy", "seal", CODE, target, "--url", url).stdout
    assert GUEST["name"].encode() not in (tmp_path / "sealed.db").read_bytes()
    asyncio.run(look())


def test_a_transform_that_changes_a_personal_event_needs_its_keys_and_what_it_writes_is_verified_with_them(
    url: str, twofold: Twofold, fails: Fails, tmp_path: Path
) -> None:
    asyncio.run(fill(url))
    (tmp_path / "noted.py").write_text(
        "from dataclasses import replace\n"
        "def transform(source):\n"
        "    return [replace(source.event, data={**source.event.data, 'number': 7})]\n"
    )
    target, keys = f"sqlite:///{tmp_path}/copy.db", f"sqlite:///{tmp_path}/keys.db"
    copy = ("copy", url, target, "--transform", str(tmp_path / "noted.py"))
    assert "`--keys`" in " ".join(fails(*copy).split())
    twofold(*copy, "--keys", keys)
    assert "all 2 events are intact" in twofold("verify", target, "--keys", keys).stdout
    assert GUEST["name"] in twofold("privacy", "export", CODE, "g1", "--url", target).stdout
    with closing(sqlite3.connect(tmp_path / "keys.db")) as connection, connection:
        connection.execute("DELETE FROM twofold_keys WHERE id <> 'secret'")
    for named in (("--keys", keys), ("--code", CODE)):
        damages = [json.loads(line) for line in twofold("verify", target, "--json", *named).stdout.splitlines()][:-1]
        assert [(each["check"], each["where"]) for each in damages] == [("key", "position 1"), ("key", "position 2")]


@pytest.mark.parametrize("wrong", ["short", "x" * 44])
def test_a_malformed_master_key_is_refused(url: str, fails: Fails, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("TWOFOLD_MASTER_KEY", wrong)
    text = fails("privacy", "list", CODE, "--url", url)
    assert "32 bytes" in text
    assert wrong not in text
