"""The port of stored snapshots: states that were folded, kept beside the log, and never believed without a look.

A log that keeps snapshots has these methods beside those of `EventLog`. A snapshot is a cache of the log: each may be
deleted at any time, and none is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent
from twofold.ports.event_log import EventLog


class Snapshot(NamedTuple):
    """A state, what folded it, and the last event that it contains."""

    fold: str
    """What folded it, such as `aggregate Order`."""
    subject: str
    """The stream, or the event query of a decision model as JSON."""
    version: int
    """Of the stream; 0 for a decision model."""
    position: int
    """Of the last event that it contains."""
    event_id: bytes
    """Of that event."""
    event_checksum: int
    """Of that event: in another history, a repeat may have brought the same event to the same place."""
    tag_changes: int
    """How often tags had been added to stored events when the fold began."""
    fingerprint: bytes
    """Digest of the code that folds, of the state's type and of the classes of the events."""
    state: bytes
    """JSON."""
    saved_at: int
    """Microseconds since 1970-01-01 UTC, by the clock of the process that saved it."""
    checksum: int
    """Over all of the above; see `with_checksum`."""

    @property
    def mark(self) -> Mark:
        """Where it ends in the log."""
        return Mark(self.position, self.event_id)


class FoundSnapshot(NamedTuple):
    """What is stored under a key, and what the log says at the same moment."""

    snapshot: Snapshot | None
    tag_changes: int
    """How often tags were added to stored events."""


class SnapshotLog(EventLog, Protocol):
    """An event log that keeps snapshots. Adapters pass `twofold.testing.SnapshotLogConformance`."""

    async def read_short_stream(self, stream_id: str, *, limit: int) -> Sequence[StoredEvent] | None:
        """Return all events of a stream that has fewer than `limit`, in order, and None if it has more.

        The rows of a longer one are not read, as its fold begins with a snapshot. One statement finds out and reads, so
        that a short stream costs no second round trip.

        Raises:
            StorageError: the database failed.
        """

    async def find_snapshot(self, fold: str, subject: str) -> FoundSnapshot:
        """Return what is stored under a key; neither its checksum nor anything else was compared.

        Raises:
            StorageError: the database failed.
        """

    async def tag_changes(self) -> int:
        """Return how often tags were added to stored events, so that queries match events which they did not before.

        Raises:
            StorageError: the database failed.
        """

    async def save_snapshot(self, snapshot: Snapshot, *, instead_of: int | None = None) -> bool:
        """Store a snapshot durably, unless one of the same position or a later one is there; return whether it was.

        Args:
            snapshot: which.
            instead_of: the checksum of a snapshot that was found to be useless, which gives way whatever its position.

        Raises:
            StorageError: the database failed.
        """

    async def read_snapshots(self, *, after: tuple[str, str] = ("", ""), limit: int) -> Sequence[Snapshot]:
        """Return up to `limit` snapshots whose fold and subject are behind `after`, in their order.

        Raises:
            StorageError: the database failed.
        """

    async def delete_snapshots(self, fold: str | None = None, subject: str | None = None) -> int:
        """Delete the snapshots of a fold and of a subject, by default of any; return how many there were.

        Raises:
            StorageError: the database failed.
        """


def with_checksum(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot with its checksum, 64 bits of BLAKE2b over all of its other columns."""
    digest = blake2b(digest_size=8)
    for each in snapshot[:-1]:
        part = each if isinstance(each, bytes) else str(each).encode()
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return snapshot._replace(checksum=int.from_bytes(digest.digest(), "big", signed=True))


def is_intact(snapshot: Snapshot) -> bool:
    """Return whether a snapshot matches its checksum."""
    try:
        return with_checksum(snapshot).checksum == snapshot.checksum
    except (TypeError, ValueError, UnicodeError):  # a damaged file may hold a value of another type
        return False
