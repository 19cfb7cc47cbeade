"""Checks stored snapshots: against their checksums, the log's history, and what their events fold to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NamedTuple, cast

from twofold.errors import StorageError
from twofold.log.event_store import EventStore
from twofold.log.folding.streams import Fold
from twofold.log.integrity.damage import Damage
from twofold.messages.endings import is_gone
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.snapshots import Snapshot, SnapshotLog, is_intact


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
    async for damage in damaged_snapshots(log):
        raise damage.error
    found = VerifiedSnapshots()
    async for snapshot in stored_snapshots(log):
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
            raise _of_other_state(snapshot).error
        found = found._replace(
            compared=found.compared + bool(is_same), of_other_code=found.of_other_code + (is_same is None)
        )
    return found


async def damaged_snapshots(log: EventLog) -> AsyncGenerator[Damage]:
    """Iterate over the snapshots that do not match their checksums.

    Raises:
        StorageError: the database failed.
    """
    async for snapshot in stored_snapshots(log):
        if not is_intact(snapshot):
            yield _wrong(snapshot, "does not match its checksum")


async def differing_snapshots(store: EventStore) -> AsyncGenerator[Damage]:
    """Iterate over the snapshots of aggregates and deciders that match their checksums, and not what is folded today.

    Raises:
        StorageError: the database failed.
        Exception: an event of one cannot be read or folded.
    """
    async for snapshot in stored_snapshots(store.log):
        if is_intact(snapshot) and await _is_what_its_events_fold_to(store, snapshot) is False:
            yield _of_other_state(snapshot)


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
    last = await store.log.read_stream(snapshot.subject, after=snapshot.version - 1, limit=1)
    if not last or is_gone(last[0]) or (last[0].event_id, last[0].version) != (snapshot.event_id, snapshot.version):
        return None
    fresh, _ = await store._streams.state_at(snapshot.subject, fold, snapshot.version)
    if (state := store.snapshots.state_of(snapshot)) is None:
        return None  # a person was forgotten since
    return plan.form.difference(plan.form.decode(state), fresh) is None


def _of_other_state(snapshot: Snapshot) -> Damage:
    return _wrong(snapshot, "is not the state to which its events lead")


def _wrong(snapshot: Snapshot, what: str) -> Damage:
    error = StorageError(
        f"the snapshot of {snapshot.fold} of {snapshot.subject!r} {what}; delete it with `twofold snapshots delete`, "
        f"and it is folded again; check the disk"
    )
    return Damage("snapshot", f"{snapshot.fold} of {snapshot.subject}", error)
