"""Verifies stored snapshots: that they are intact, of the log's history, and what the events fold to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple, cast

from twofold.errors import StorageError
from twofold.log.event_store import EventStore
from twofold.log.folding.streams import Fold
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.snapshots import Snapshot, SnapshotLog, is_sealed


class VerifiedSnapshots(NamedTuple):
    """What was found; a snapshot that no load believes is no damage."""

    intact: int = 0
    of_other_history: int = 0
    """They end with an event that the log does not hold."""
    compared: int = 0
    """They are what today's code folds."""
    of_other_code: int = 0
    """The code that has folded them is another one, or not known here, as that of decision models."""


async def verify_snapshots(log: EventLog) -> VerifiedSnapshots:
    """Compare each snapshot with its checksum and with the log's history.

    Raises:
        StorageError: one is damaged; the text names it, and the remedy.
    """
    found = VerifiedSnapshots()
    async for snapshot in stored_snapshots(log):
        if not is_sealed(snapshot):
            raise _wrong(snapshot, "does not match its checksum")
        mark = await log.mark(snapshot.position)
        is_of_history = mark is not None and snapshot.mark.agrees(mark)
        found = found._replace(intact=found.intact + 1, of_other_history=found.of_other_history + (not is_of_history))
    return found


async def compare_snapshots(store: EventStore) -> VerifiedSnapshots:
    """Verify the snapshots, and compare those of aggregates and deciders with what their events fold to today.

    The aggregates and deciders are those of which the application has made repositories and handlers.

    Raises:
        StorageError: one is damaged, or is another state; the text names it, and the remedy.
    """
    found = await verify_snapshots(store.log)
    async for snapshot in stored_snapshots(store.log):
        is_same = await _is_what_its_events_fold_to(store, snapshot)
        if is_same is False:
            raise _wrong(snapshot, "is not the state to which its events lead")
        found = found._replace(
            compared=found.compared + bool(is_same), of_other_code=found.of_other_code + (is_same is None)
        )
    return found


async def stored_snapshots(log: EventLog) -> AsyncIterator[Snapshot]:
    """Iterate over all stored snapshots; over none, if the log keeps none."""
    keeper, after, at_once = cast(SnapshotLog, log), ("", ""), LogOptions().snapshots_waiting
    while hasattr(log, "read_snapshots") and (page := await keeper.read_snapshots(after=after, limit=at_once)):
        for each in page:
            yield each
        after = (page[-1].fold, page[-1].subject)


async def _is_what_its_events_fold_to(store: EventStore, snapshot: Snapshot) -> bool | None:
    """Return whether a snapshot is what today's code folds; None if it is of another code, or of another history."""
    make = store._folds.get(snapshot.fold)
    fold: Fold[Any] | None = make(snapshot.subject) if make else None
    if fold is None or (plan := fold.plan()).fingerprint != snapshot.fingerprint:
        return None
    rows = await _stream_up_to(store.log, snapshot.subject, snapshot.version)
    if not rows or (rows[-1].event_id, rows[-1].version) != (snapshot.event_id, snapshot.version):
        return None
    taken = store.events.decode([row for row in rows if row.type not in fold.ignored])
    fresh = fold.at(fold.take(fold.begin(), taken), snapshot.version)
    return plan.form.difference(plan.form.decode(snapshot.state), fresh) is None


async def _stream_up_to(log: EventLog, stream_id: str, version: int) -> list[StoredEvent]:
    rows: list[StoredEvent] = []
    while len(rows) < version and (
        more := await log.read_stream(stream_id, after=len(rows), limit=min(1000, version - len(rows)))
    ):
        rows += more
    return rows


def _wrong(snapshot: Snapshot, what: str) -> StorageError:
    return StorageError(
        f"the snapshot of {snapshot.fold} of {snapshot.subject!r} {what}; delete it with `twofold snapshots delete`, "
        f"and it is folded again; check the disk"
    )
