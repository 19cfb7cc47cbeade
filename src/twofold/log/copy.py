"""Copies a whole log from one engine to another; positions, ids, receipts and checkpoints stay valid."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from hashlib import blake2b
from itertools import zip_longest
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from twofold.errors import LogsDifferError
from twofold.log.transfer.restoring import Restoring, mark_as_fork, restore_commands
from twofold.log.verify import Progress, command_chunks, no_progress, verified
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.maintenance import Fork, PortableLog, StoredCommand, TagChange

_encode = msgspec.msgpack.Encoder().encode


class Copied(NamedTuple):
    """A copy that was compared with its source and is alike."""

    events: int
    """Events that stand in both logs."""
    commands: int
    already: int
    """Events that the target held before, from a copy that was interrupted."""
    digest: str
    """Of all events and commands, as `digest_log` gives it for both."""


async def copy_log(
    source: PortableLog,
    target: PortableLog,
    *,
    fork: Fork | None = None,
    progress: Progress = no_progress,
    options: LogOptions | None = None,
) -> Copied:
    """Copy all events and commands up to the source's head of now, and compare both logs.

    Everything stays the same: positions, versions, ids, times, checksums, the receipts of commands. So the checkpoints
    of read models, reactions and subscribers are valid on the copy. If the target holds the beginning of the source
    already, from a copy that was interrupted or is to be brought up to date, the copy goes on from there, and brings
    along the tags that events of the source have got since. Nothing else may write to the target during a copy;
    applications may go on writing to the source.

    Args:
        source: an open log.
        target: an open log of any engine, empty or with the beginning of the source.
        fork: what the target becomes a fork of: it ends at that position, and keeps an id of its own. By default it is
            a copy of all, which is a fork if the source is one.
        progress: told how far it has come, stage by stage.
        options: how many events and commands are read at once.

    Raises:
        LogsDifferError: the target holds something else than the source; nothing was written after that was seen.
        CorruptEventError: an event of the source does not match its checksum.
        StorageError: a database failed, or an event of the source is missing; copy again to go on.
    """
    options = options or LogOptions()
    end, already = fork.position if fork else await source.head(), await target.head()
    if already > end:
        raise LogsDifferError(end + 1, "the target goes on where the source ends")
    await mark_as_fork(target, fork or await source.fork())
    tagged = await source.tagged_types()  # before the events: what they get from here on is more than it says
    alike = await _compare(source, target, already, "comparing what is there", progress, options, may_retag=True)
    if not fork and (beginning := await source.mark(0)):
        await target.adopt(beginning.event_id)
    read, stored = alike, alike.copy()
    async with (
        Restoring(target, lambda position: progress("copying", position, end)) as restoring,
        aclosing(verified(source, end, after=already, options=options)) as chunks,
    ):
        async for rows in chunks:
            await restoring.store(rows)
            _add(read, rows)
    if tagged:
        await target.record_tagged_types(tagged)
    commands = await _copy_commands(source, target, end, options.whole_log_chunk)
    async with aclosing(verified(target, end, after=already, options=options)) as chunks:
        async for rows in chunks:
            _add(stored, rows)
            progress("comparing both logs", rows[-1].position, end)
    if stored.digest() != read.digest():
        await _compare(source, target, end, "looking for the difference", progress, options)
    digest, other = await _with_commands(read, source, end, options), await _with_commands(stored, target, end, options)
    if await target.head() > end or digest != other:
        raise LogsDifferError(end, "the commands or the ends of the logs are not alike")
    return Copied(end, commands, already, digest)


async def digest_log(log: PortableLog, end: int, *, options: LogOptions | None = None) -> str:
    """Return a digest over all events up to a position and all commands that took effect up to there.

    Raises:
        CorruptEventError: an event does not match its checksum.
        StorageError: the database failed, or an event is missing.
    """
    events, options = _new_digest(), options or LogOptions()
    async with aclosing(verified(log, end, options=options)) as chunks:
        async for rows in chunks:
            _add(events, rows)
    return await _with_commands(events, log, end, options)


async def _compare(
    source: PortableLog,
    target: PortableLog,
    end: int,
    stage: str,
    progress: Progress,
    options: LogOptions,
    *,
    may_retag: bool = False,
) -> blake2b:
    """Make sure that both logs hold the same events up to a position, and return the digest of these."""
    alike = _new_digest()
    originals, copies = (verified(log, end, options=options) for log in (source, target))
    async with aclosing(originals), aclosing(copies):
        async for rows in originals:
            copied = await anext(copies)
            if list(rows) != list(copied):
                await target.replace_tags(_tag_changes(rows, copied, may_retag))
            _add(alike, rows)
            progress(stage, rows[-1].position, end)
    return alike


def _new_digest() -> blake2b:
    return blake2b(digest_size=16)


def _add(digest: blake2b, rows: Sequence[StoredEvent] | Sequence[StoredCommand]) -> None:
    """Add rows, one by one: the digest is the same for chunks of any size."""
    digest.update(b"".join(map(_encode, rows)))


async def _with_commands(events: blake2b, log: PortableLog, end: int, options: LogOptions) -> str:
    """Return the digest of events and of the commands of a log."""
    digest = events.copy()
    async for commands in _commands(log, end, options.whole_log_chunk):
        _add(digest, commands)
    return digest.hexdigest()


def _tag_changes(rows: Sequence[StoredEvent], copied: Sequence[StoredEvent], may_retag: bool) -> list[TagChange]:
    """Return what brings the tags of a copy up to those that its source has got since.

    Raises:
        LogsDifferError: anything else differs.
    """
    changes = []
    for position, (row, other) in enumerate(zip_longest(rows, copied), rows[0].position):
        if row != other:
            if not (may_retag and row and other and row == replace(other, tags=row.tags, checksum=row.checksum)):
                raise LogsDifferError(position, "the target holds another event there, or none")
            changes.append(TagChange(position, other.checksum, row.tags, row.checksum))
    return changes


async def _copy_commands(source: PortableLog, target: PortableLog, end: int, most: int) -> int:
    count, after = 0, b""
    async for commands in _commands(source, end, most):
        await restore_commands(target, commands, after, end)
        count += len(commands)
        after = commands[-1].command_id
    return count


async def _commands(log: PortableLog, end: int, most: int) -> AsyncIterator[Sequence[StoredCommand]]:
    """Iterate over the commands that took effect up to a position, in the order of their ids."""
    async for commands in command_chunks(log, most):
        if within := [command for command in commands if command.last_position <= end]:
            yield within
