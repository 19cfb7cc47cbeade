"""The port of what operators do with a whole log: copy it to another engine, check it, look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol, cast
from uuid import UUID

import msgspec

from twofold.messages.stored_event import StoredEvent
from twofold.options import InspectionOptions
from twofold.ports.event_log import CommandRecord, EventLog, intact_command, sealed_command

_decode_tags = msgspec.json.Decoder(list[str]).decode


class StoredCommand(NamedTuple):
    """A command that took effect, as the log records it."""

    command_id: bytes
    content_hash: bytes
    result: bytes
    name: str
    first_position: int
    last_position: int


def as_sealed(command: StoredCommand) -> tuple[object, ...]:
    """Return the columns of a command, with the checksum over them."""
    record, first, last = CommandRecord(*command[:4]), command.first_position, command.last_position
    return (*command, sealed_command(record, first, last))


def as_intact(row: Sequence[Any]) -> StoredCommand:
    """Return a command as it was stored.

    Raises:
        CorruptCommandError: it does not match its checksum.
    """
    *content, first, last, checksum = row
    return StoredCommand(*intact_command(CommandRecord(*content), first, last, checksum), first, last)


class PrunedCommands(NamedTuple):
    """What came of a slice of the records of commands."""

    found: int
    """Records that were removed, or that would be."""
    last: bytes
    """The id of the last command of the slice."""


class StoredCheckpoint(NamedTuple):
    """How far a projection has come, as its database records it."""

    projection: str
    version: int
    position: int


class Inspection(NamedTuple):
    """What a database holds."""

    head: int
    types: Mapping[str, int]
    """Number of events of each stored type."""
    commands: int
    size: int
    """Bytes on disk, with all that belongs to the database."""
    migration: int
    """The number of the last migration that was applied."""
    checkpoints: Sequence[StoredCheckpoint]


class Fork(NamedTuple):
    """What a log is a fork of: a copy up to a position, to try things on."""

    log: bytes
    """The id of the log that it was made of."""
    position: int
    """The last position that both have in common."""

    def __str__(self) -> str:
        return f"a fork of the log {UUID(bytes=self.log)} up to position {self.position}"


class Symptom(NamedTuple):
    """Something about a database that an operator should see to."""

    code: str
    """That of a kind of finding, such as `TF202`; see `twofold.checks.findings`."""
    subject: str
    text: str
    """What is wrong with it, in one sentence."""


class Examination(NamedTuple):
    """What an engine says of the database and the machine beneath a log."""

    facts: Mapping[str, str]
    """Versions and settings, by their names."""
    symptoms: Sequence[Symptom]


class TagChange(NamedTuple):
    """Other tags for an event that is stored, with the checksum over them."""

    position: int
    found: int
    """The checksum of the row that was read."""
    tags: bytes
    """JSON array of strings."""
    checksum: int


class Removal(NamedTuple):
    """What is stored in the place of an event that is removed, with the checksum over it."""

    position: int
    found: int
    """The checksum of the row that was read."""
    payload: bytes
    """JSON: the digest of what stood there."""
    tags: bytes
    """JSON array of strings: the tag that says whose the event was."""
    checksum: int
    gone_tags: Sequence[str]
    """Those by which the event is no longer found."""


class StreamSize(NamedTuple):
    """How much a stream holds."""

    stream_id: str
    events: int
    """Without those that were removed."""
    size: int
    """Bytes of their payloads, metadata and tags."""


class PortableLog(EventLog, Protocol):
    """An event log that can be copied from and to."""

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        """Store rows of another log exactly as they are, at their own positions, durably and in one transaction.

        Raises:
            ValueError: the rows do not begin right after the head, or not each follows the one before it; or a
                command names positions that the log does not hold. Nothing was stored.
            StorageError: nothing was stored.
        """

    async def find_events(self, event_ids: Sequence[bytes]) -> Sequence[StoredEvent]:
        """Return the events that have one of these ids, in the order of their positions, by the index of ids.

        Raises:
            StorageError: the database failed.
        """

    async def read_mentioning(
        self, text: str, *, after: int, before: int, limit: int, backwards: bool = False
    ) -> Sequence[StoredEvent]:
        """Return up to `limit` events whose stored metadata holds a text, with `after < position < before`.

        No index leads there, as one would cost each append more than looking costs the few who ask: the rows are
        walked through, within the engine. The caller bounds the range.

        Raises:
            StorageError: the database failed.
        """

    async def adopt(self, log_id: bytes) -> None:
        """Take over the id of the log that this one becomes a copy of; a log that holds events keeps its own.

        Raises:
            StorageError: the database failed.
        """

    async def fork(self) -> Fork | None:
        """Return what this log is a fork of; None if it is none.

        Raises:
            StorageError: the database failed.
        """

    async def mark_fork(self, fork: Fork) -> bool:
        """Record durably that this log is a fork; return whether it is recorded so.

        It is not if the log holds events, and is no fork or another one.

        Raises:
            StorageError: the database failed.
        """

    async def read_commands(self, *, after: bytes = b"", limit: int) -> Sequence[StoredCommand]:
        """Return up to `limit` commands whose id is greater than `after`, in the order of their ids.

        Raises:
            StorageError: the database failed.
        """

    async def prune_commands(
        self, *, before: int, tag: str = "", after: bytes = b"", limit: int, write: bool
    ) -> PrunedCommands | None:
        """Remove the old ones among `limit` records of commands whose ids are greater than `after`, durably.

        Their events stay. Appends go on at the same time. None is returned if there are no further records.

        Args:
            before: records of commands that took effect before this time, in microseconds since 1970-01-01 UTC.
            tag: only those whose last event carries this tag; empty: all.
            after: the id behind which the slice begins.
            limit: records that are looked at.
            write: whether they are removed; else they are only counted.

        Raises:
            StorageError: nothing was removed.
        """

    async def tagged_types(self) -> Mapping[str, str]:
        """Return by their stored names what is recorded of types of events: which tags all of their events carry.

        Raises:
            StorageError: the database failed.
        """

    async def record_tagged_types(self, types: Mapping[str, str], *, seen: int | None = None) -> bool:
        """Record durably which tags all events of types carry; return whether that was done.

        Args:
            types: what to record, by stored names. Other types keep their record.
            seen: record it only if no event of the types stands behind this position. No append comes between.

        Raises:
            StorageError: nothing was stored.
        """

    async def replace_tags(self, changes: Sequence[TagChange]) -> None:
        """Replace the tags of events durably, in one transaction, in the rows and wherever tags are looked up.

        Nothing else of an event can be changed. A row that is no longer as it was found stays so.

        Raises:
            StorageError: nothing was stored.
        """

    async def read_stream_ends(self, *, after: str = "", limit: int) -> Sequence[StoredEvent]:
        """Return the last events of up to `limit` streams whose names are greater than `after`, in their order.

        Names are compared as their bytes are.

        Raises:
            StorageError: the database failed.
        """

    async def find_stream_ends(self, stream_ids: Sequence[str]) -> Sequence[StoredEvent]:
        """Return the last events of these streams, as far as they exist, in any order.

        Raises:
            StorageError: the database failed.
        """

    async def measure_streams(self, stream_ids: Sequence[str]) -> Sequence[StreamSize]:
        """Return how much each of these streams holds, as far as they exist, in any order.

        Raises:
            StorageError: the database failed.
        """

    async def remove_events(self, removals: Sequence[Removal]) -> None:
        """Remove events durably, in one transaction; their places stay: position, version, id, stream and time.

        Their types become that of a removed event. A row that is no longer as it was found stays so. The caller removes
        events of streams that are tombstoned only.

        Raises:
            StorageError: nothing was removed.
        """

    async def check(self) -> Sequence[str]:
        """Return what is wrong with the storage beneath the events, such as damaged pages and indexes; it reads all.

        Raises:
            StorageError: the database failed.
        """

    async def examine(self, options: InspectionOptions) -> Examination:
        """Return versions, settings, and what about them endangers the log or the applications on it; it reads only.

        Args:
            options: from where on a difference or a number is a symptom.

        Raises:
            StorageError: the database failed.
        """

    async def inspect(self) -> Inspection:
        """Return what the database holds.

        Raises:
            StorageError: the database failed.
        """


async def fork_of(log: EventLog) -> Fork | None:
    """Return what a log is a fork of; None if it is none, or of an engine that has no forks.

    Raises:
        StorageError: the database failed.
    """
    return await cast(PortableLog, log).fork() if hasattr(log, "fork") else None


def index_entries(rows: Sequence[StoredEvent]) -> list[tuple[str, int]]:
    """Return each tag of rows with the position of its event, in the order of the index, which takes them faster so."""
    entries = [(tag, row.position) for row in rows for tag in dict.fromkeys(_decode_tags(row.tags))]
    entries.sort(key=itemgetter(0))
    return entries


def refuse_gaps(rows: Sequence[StoredEvent], commands: Sequence[StoredCommand], head: int) -> None:
    """Refuse what cannot be restored to a log with this head.

    Raises:
        ValueError: it would leave a gap, or a command would point nowhere.
    """
    for position, row in enumerate(rows, head + 1):
        if row.position != position:
            raise ValueError(f"the log goes on at position {position}, the rows to restore with {row.position}")
    for command in commands:
        if not 0 < command.first_position <= command.last_position <= head + len(rows):
            raise ValueError(f"a command to restore names position {command.last_position}, which is not in the log")
