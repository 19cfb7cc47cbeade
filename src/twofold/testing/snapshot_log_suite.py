"""The conformance suite of `SnapshotLog`, for adapters whose logs keep snapshots.

class TestMyLog(SnapshotLogConformance):
@pytest_asyncio.fixture
async def log(self): ...        # an open, empty log
"""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import asyncio
from typing import Protocol

from twofold.messages.event_query import EventQuery
from twofold.messages.ids import uuid7
from twofold.ports.maintenance import PortableLog, TagChange
from twofold.ports.snapshots import Snapshot, SnapshotLog, is_intact, with_checksum
from twofold.testing.samples import append_of, new_event


class SnapshotPortableLog(SnapshotLog, PortableLog, Protocol):
    """A log with both ports."""


def snapshot(
    position: int = 1, *, fold: str = "aggregate Note", subject: str = "Note-1", state: str = "{}"
) -> Snapshot:
    """Return a snapshot with its checksum."""
    version, event_id, fingerprint = position % 2**31, uuid7().bytes, b"\0\xff" * 8
    row = (fold, subject, version, position, event_id, 2**32 - 1, 0, fingerprint, state.encode(), 5, 0)
    return with_checksum(Snapshot(*row))


class SnapshotLogConformance:
    """What is saved is found as it was; the newest one wins."""

    async def test_a_snapshot_is_found_exactly_as_it_was_saved(self, log: SnapshotPortableLog) -> None:
        for n, state in enumerate(('{"a":"\u00fc \\u0000 \\\\ \\" \U0001f600"}', "0", '"' + "x" * 300_000 + '"')):
            saved = snapshot(2**40 + n, state=state)
            assert await log.save_snapshot(saved)
            found = (await log.find_snapshot(*saved[:2])).snapshot
            assert found == saved
            assert is_intact(saved)

    async def test_what_was_never_saved_is_not_found(self, log: SnapshotPortableLog) -> None:
        await log.save_snapshot(snapshot())
        assert await log.find_snapshot("aggregate Note", "Note-2") == (None, 0)
        assert await log.find_snapshot("aggregate Other", "Note-1") == (None, 0)

    async def test_a_short_stream_is_read_whole_and_a_longer_one_not_at_all(self, log: SnapshotPortableLog) -> None:
        assert await log.read_short_stream("Note-1", limit=3) == []
        for n in range(1, 5):
            await log.append(append_of(new_event("Note-2"), new_event("Note-1", str(n)), new_event()))
            rows = await log.read_stream("Note-1", limit=10)
            assert [row.version for row in rows] == list(range(1, n + 1))
            for limit in range(1, 7):
                read = await log.read_short_stream("Note-1", limit=limit)
                assert read == (rows if n < limit else None), f"{n} events, limit {limit}"
        assert await log.read_short_stream("", limit=100) == [], "events of no stream are none of it"
        assert len(await log.read_short_stream("Note-2", limit=2**70) or ()) == 4

    async def test_of_several_snapshots_the_one_of_the_highest_position_stays(self, log: SnapshotPortableLog) -> None:
        newest = snapshot(9)
        saved = await asyncio.gather(*(log.save_snapshot(each) for each in (snapshot(3), newest, snapshot(5))))
        assert saved[1]
        assert not await log.save_snapshot(snapshot(9)), "of the same position"
        assert not await log.save_snapshot(snapshot(8))
        assert (await log.find_snapshot(*newest[:2])).snapshot == newest

    async def test_one_that_was_found_useless_gives_way_and_no_other_one_does(self, log: SnapshotPortableLog) -> None:
        useless, older = snapshot(9), snapshot(3)
        await log.save_snapshot(useless)
        assert not await log.save_snapshot(older, instead_of=useless.checksum + 1)
        assert await log.save_snapshot(older, instead_of=useless.checksum)
        assert (await log.find_snapshot(*older[:2])).snapshot == older
        assert not await log.save_snapshot(snapshot(2), instead_of=useless.checksum)

    async def test_snapshots_are_read_in_the_order_of_their_keys_page_by_page(self, log: SnapshotPortableLog) -> None:
        keys = [("b", "1"), ("a", "2"), ("a", "10"), ("a", "\u00e9"), ("B", "1")]
        for fold, subject in keys:
            await log.save_snapshot(snapshot(fold=fold, subject=subject))
        found: list[Snapshot] = []
        while page := await log.read_snapshots(after=found[-1][:2] if found else ("", ""), limit=2):
            assert len(page) <= 2
            found += page
        assert [each[:2] for each in found] == sorted(keys)

    async def test_snapshots_are_deleted_by_fold_by_subject_or_all(self, log: SnapshotPortableLog) -> None:
        keys = [(fold, subject) for fold in "ab" for subject in "123"]

        async def left() -> list[tuple[str, str]]:
            return [each[:2] for each in await log.read_snapshots(limit=100)]

        for fold, subject in keys:
            await log.save_snapshot(snapshot(fold=fold, subject=subject))
        assert await log.delete_snapshots("a", "1") == 1
        assert await log.delete_snapshots(subject="2") == 2
        assert await left() == [("a", "3"), ("b", "1"), ("b", "3")]
        assert await log.delete_snapshots(fold="b") == 2
        assert await log.delete_snapshots() == 1
        assert await log.delete_snapshots() == 0
        assert await left() == []

    async def test_tags_that_are_added_to_stored_events_are_counted(self, log: SnapshotPortableLog) -> None:
        await log.append(append_of(new_event("Note-1", "x")))
        [row] = await log.read(EventQuery.all(), limit=1)
        assert (await log.find_snapshot("a", "b")).tag_changes == await log.tag_changes() == 0
        for n in (1, 2):
            await log.replace_tags([TagChange(1, row.checksum, row.tags, row.checksum)])
            assert (await log.find_snapshot("a", "b")).tag_changes == await log.tag_changes() == n
