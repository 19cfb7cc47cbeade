"""Verifies a whole log: every event, the order of all, the storage beneath them, and the snapshots beside them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, NamedTuple, cast

from twofold.errors import CorruptEventError, StorageError
from twofold.log.chunks import Pace, Rows, scan_chunks
from twofold.log.event_store import EventStore
from twofold.log.folding.streams import Fold
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent, are_intact, is_intact
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.maintenance import PortableLog, StoredCommand
from twofold.ports.snapshots import Snapshot, SnapshotLog, is_sealed

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the position that it has reached, and the position at its end."""


def no_progress(stage: str, position: int, end: int) -> None:
    """Show no progress."""


async def verify_log(log: PortableLog, *, progress: Progress = no_progress, options: LogOptions | None = None) -> int:
    """Check every event up to today's head, and the storage beneath; return how many events are intact: all.

    Raises:
        CorruptEventError: an event does not match its checksum.
        CorruptCommandError: the record of a command does not match its checksum.
        HistoryChangedError: the log was put back to an older state while it was read.
        StorageError: an event is missing or misplaced, or the storage is damaged; the text names the first damage.
    """
    versions: dict[str, int] = {}
    head = await log.head()
    async with aclosing(verified(log, head, options=options)) as all_chunks:
        async for rows in all_chunks:
            for row in rows:
                _check_version(row, versions)
            progress("verifying", rows[-1].position, head)
    async for _ in command_chunks(log, (options or LogOptions()).whole_log_chunk):
        pass  # the log verifies the records that it reads
    if damages := await log.check():
        raise StorageError(f"the storage is damaged: {damages[0]}; restore it from a backup")
    return head


async def command_chunks(log: PortableLog, most: int, *, after: bytes = b"") -> AsyncIterator[Sequence[StoredCommand]]:
    """Iterate over the records of all commands in the order of their ids, a chunk at a time; no chunk is empty.

    Raises:
        CorruptCommandError: a record does not match its checksum.
        StorageError: the database failed.
    """
    while commands := await log.read_commands(after=after, limit=most):
        yield commands
        after = commands[-1].command_id


async def verified(
    log: EventLog, end: int, *, after: int = 0, options: LogOptions | None = None
) -> AsyncGenerator[Rows]:
    """Iterate over the log from one position to another, verified, a chunk at a time; no chunk is empty.

    Raises:
        CorruptEventError: an event does not match its checksum.
        HistoryChangedError: the log was put back to an older state while it was read.
        StorageError: an event is missing or misplaced.
    """
    options = options or LogOptions()
    pace = Pace(options.first_chunk, options.whole_log_chunk, options.chunk_bytes)
    async with aclosing(scan_chunks(log, EventQuery.all(), Mark(after), end, pace)) as all_chunks:
        async for rows in all_chunks:
            _check_rows(rows, after)
            after += len(rows)
            if rows:
                yield rows
    if after < end:
        raise StorageError(f"the log ends at {end}, but there is nothing after {after}; restore it from a backup")


def _check_rows(rows: Rows, after: int) -> None:
    """Check a chunk at once, and only where that fails row by row: so a whole log is read in half the time."""
    with suppress(TypeError, ValueError):  # a damaged file may hold a value of another type, or none
        if [row.position for row in rows] == list(range(after + 1, after + 1 + len(rows))) and are_intact(rows):
            return
    for position, row in enumerate(rows, after + 1):
        if row.position != position:
            raise StorageError(f"event {position} is missing, {row.position} follows; restore it from a backup")
        if not is_intact(row):
            raise CorruptEventError(position)


def check_intact(rows: Rows) -> None:
    """Make sure that rows match their checksums.

    Raises:
        CorruptEventError: one does not.
    """
    with suppress(TypeError, ValueError):
        if are_intact(rows):
            return
    raise CorruptEventError(next(row.position for row in rows if not is_intact(row)))


def _check_version(row: StoredEvent, versions: dict[str, int]) -> None:
    expected = versions.get(row.stream_id, 0) + 1 if row.stream_id else 0
    if row.version != expected:
        raise StorageError(
            f"event {row.position} has version {row.version} of stream {row.stream_id!r}, {expected} would follow; "
            f"restore it from a backup"
        )
    versions[row.stream_id] = expected


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
    last = await store.log.read_stream(snapshot.subject, after=snapshot.version - 1, limit=1)
    if not last or (last[0].event_id, last[0].version) != (snapshot.event_id, snapshot.version):
        return None
    fresh, _ = await store._streams.state_at(snapshot.subject, fold, snapshot.version)
    return plan.form.difference(plan.form.decode(snapshot.state), fresh) is None


def _wrong(snapshot: Snapshot, what: str) -> StorageError:
    return StorageError(
        f"the snapshot of {snapshot.fold} of {snapshot.subject!r} {what}; delete it with `twofold snapshots delete`, "
        f"and it is folded again; check the disk"
    )
