"""`twofold verify` finds what is wrong with keys and with what they encrypt, and names what and where."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import pytest_asyncio
from msgspec.structs import replace
from tests.privacy.guests import GUEST, MASTER_KEY, WishNoted, hotel

from twofold import EventQuery, EventStore
from twofold.engines.engine import connect_keys
from twofold.errors import MasterKeyError
from twofold.log.integrity.keys import damaged_keys
from twofold.log.keys.keyring import KeyContent, KeyRing
from twofold.log.keys.master_key import MasterKeys
from twofold.messages.stored_event import StoredEvent, content_checksum, seal

SUBJECTS = ("missing", "destroyed", "damaged", "swapped", "back", "unknown", "changed", "moved", "whole")
"""Each has an event, at positions 1 to 9. Two are forgotten, of which the positions 10 and 11 tell."""


class Stored:
    """A log with keys, whose databases a test damages behind the back of all code.

    Args:
        store: the log.
        url: of the log.
        keys_url: of its keys.
    """

    def __init__(self, store: EventStore, url: str, keys_url: str) -> None:
        self.store = store
        self.urls = url, keys_url

    def id_of(self, subject: str) -> str:
        assert self.store.keys is not None
        return self.store.keys.digest(subject)

    def damage_keys(self, sql: str, **values: Any) -> None:
        """Run SQL on the database of the keys."""
        _run(self.urls[1], sql, values, "SET search_path TO twofold_keys")

    async def replace(self, position: int, change: Callable[[bytes], bytes]) -> None:
        """Change the payload of an event, with a checksum that fits."""
        row = await self.row(position)
        payload = change(row.payload)
        changed = replace(row, payload=payload)
        checksum = seal(content_checksum(changed), row.position, row.version, row.recorded_at)
        values = {"payload": payload.decode(), "checksum": checksum, "position": position}
        sql = "UPDATE twofold_events SET payload = {json}, checksum = :checksum WHERE position = :position"
        _run(self.urls[0], sql, values, "ALTER TABLE twofold_events DISABLE TRIGGER USER")

    async def row(self, position: int) -> StoredEvent:
        [row] = await self.store.log.read(EventQuery.all(), after=position - 1, before=position + 1, limit=1)
        return row

    def ring(self, master_key: bytes = MASTER_KEY) -> KeyRing:
        """Return the keys as a process has them that begins now."""
        found = connect_keys(self.urls[0], self.urls[1], master_key)
        assert found is not None
        return found

    async def damages(self, after: int = 0, master_key: bytes = MASTER_KEY) -> list[tuple[str, str]]:
        """Return where something is wrong, and what."""
        ring, head = self.ring(master_key), await self.store.head()
        try:
            found = [each async for each in damaged_keys(self.store.log, ring, head, after=after)]
        finally:
            ring.close()
        assert {each.check for each in found} <= {"key"}
        return [(each.where, str(each.error)) for each in found]


def _run(url: str, sql: str, values: dict[str, Any], before: str) -> None:
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f'DROP TRIGGER "{name}"')
            connection.execute(sql.replace("{json}", ":payload"), values)
        return
    with psycopg.connect(url) as server:
        server.execute(before)
        for name in values:
            sql = sql.replace(f":{name}", f"%({name})s")
        server.execute(sql.replace("{json}", "%(payload)s::json"), values)


@pytest_asyncio.fixture
async def stored(url: str, tmp_path: Path) -> AsyncIterator[Stored]:
    keys_url = f"sqlite:///{tmp_path}/keys.db" if url.startswith("sqlite") else url
    app = hotel(url, keys_url, synchronize=False)
    async with app.store as store:
        for subject in SUBJECTS:
            await store.append([WishNoted(guest_id=subject, wish=GUEST["wish"])])
        assert store.keys is not None
        for subject in ("back", "unknown"):
            record = store.keys.forget(subject, reason="asked", by="desk")
            await app.privacy._forgetting._tell(record)
            store.keys.store.settle(record.id)
        yield Stored(store, url, keys_url)


def damage_all_keys(stored: Stored) -> None:
    """Do to each subject's key what its name says."""
    masters, ring, id_of = MasterKeys(MASTER_KEY), stored.ring(), stored.id_of
    masters.open()
    ring.open()
    keys = {key.id: key for key in ring.stored_keys()}
    ring.close()
    stored.damage_keys("DELETE FROM twofold_keys WHERE id = :id", id=id_of("missing"))
    stored.damage_keys("UPDATE twofold_keys SET wrapped = NULL WHERE id = :id", id=id_of("destroyed"))
    wrap = "UPDATE twofold_keys SET wrapped = :wrapped, master = :master WHERE id = :id"
    for subject, key in (
        ("damaged", keys[id_of("damaged")]._replace(wrapped=keys[id_of("damaged")].wrapped[:20])),
        ("swapped", masters.wrap(id_of("swapped"), masters.unwrap(keys[id_of("whole")]), 1)),
        ("back", masters.wrap(id_of("back"), msgspec.msgpack.encode(KeyContent(b"x" * 32, "back")), 1)),
    ):
        stored.damage_keys(wrap, id=id_of(subject), wrapped=key.wrapped, master=key.master)
    stored.damage_keys("DELETE FROM twofold_forgotten WHERE id = :id", id=id_of("unknown"))


async def test_whatever_is_wrong_with_keys_and_ciphertexts_is_named_with_its_place(stored: Stored) -> None:
    assert await stored.damages() == await stored.damages(after=3) == []
    damage_all_keys(stored)
    assert stored.store.keys is not None
    untold = stored.store.keys.forget("under way", reason="asked", by="desk")
    other = await stored.row(SUBJECTS.index("whole") + 1)
    await stored.replace(SUBJECTS.index("changed") + 1, lambda payload: payload.replace(payload[60:64], b"AAAA"))
    await stored.replace(SUBJECTS.index("moved") + 1, lambda payload: other.payload)
    found = await stored.damages()
    id_of = stored.id_of
    assert [where for where, _ in found] == [
        *sorted(f"key {id_of(each)}" for each in ("damaged", "swapped")),
        *(f"position {SUBJECTS.index(each) + 1}" for each in ("missing", "destroyed", "swapped", "back", "unknown")),
        *(f"position {SUBJECTS.index(each) + 1}" for each in ("changed", "moved")),
        f"key {id_of('back')}",
        "position 11",
    ]
    texts = [(where, text) for where, text in found if not where.startswith("key")]
    for subject, expected in (
        ("missing", f"the key {id_of('missing')}, which is not in the key store"),
        ("destroyed", "which is destroyed, and no forgetting is recorded"),
        ("swapped", "its personal fields belong to another event, or were changed"),
        ("back", "its personal fields belong to another event, or were changed"),
        ("unknown", "which is destroyed, and no forgetting is recorded"),
        ("changed", "its personal fields belong to another event, or were changed"),
        ("moved", "its personal fields belong to another event, or were changed"),
    ):
        where = f"position {SUBJECTS.index(subject) + 1}"
        assert [expected in text for place, text in texts if place == where] == [True], subject
    by_place = dict(found)
    assert "is damaged" in by_place[f"key {id_of('damaged')}"]
    assert "is the one of another subject" in by_place[f"key {id_of('swapped')}"]
    assert "its subject was forgotten by event 10" in by_place[f"key {id_of('back')}"]
    assert "the key store has no record of it" in by_place["position 11"]
    stored.store.keys.store.settle(untold.id)  # until then it may be under way
    [new] = [(where, text) for where, text in await stored.damages() if (where, text) not in found]
    assert (new[0], "is not told in the log" in new[1]) == (f"forgetting {untold.number}", True)
    with pytest.raises(MasterKeyError, match="not among those given"):
        await stored.damages(master_key=b"1" * 32)


async def test_personal_fields_that_the_payload_no_longer_has_are_named(stored: Stored) -> None:
    position = SUBJECTS.index("whole") + 1
    await stored.replace(position, lambda payload: re.sub(rb',"wish":"[^"]*"', b"", payload))
    [(where, text)] = await stored.damages()
    assert (where, "belong to another event, or were changed" in text) == (f"position {position}", True)
