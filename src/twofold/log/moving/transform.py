"""Copies a log into another one with its events changed: `twofold copy --transform`."""

from __future__ import annotations

from typing import NamedTuple

from twofold.arguments import check_function, check_instance, check_whole
from twofold.log.event_store import EventStore
from twofold.log.moving.log_source import LogSource
from twofold.log.moving.moving import Stored, move, preview
from twofold.log.moving.personal_values import Personal
from twofold.log.moving.plain_event import Transform
from twofold.log.moving.renumbering import Renumbering
from twofold.log.moving.report import Moved, Report
from twofold.log.moving.transforming import Transforming
from twofold.log.transfer.formats import portable
from twofold.log.transfer.restoring import mark_as_fork, restore_commands
from twofold.log.verify import Progress, command_chunks, no_progress
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog, StoredCommand


async def transform_log(
    source: EventStore,
    target: EventStore | None,
    transform: Transform,
    *,
    examples: int = 3,
    progress: Progress = no_progress,
) -> Moved:
    """Copy all events of a log into another one, each as what a transform makes of it.

    A transform gets personal fields opened, in `PlainEvent.personal`, if the source has its keys; they are encrypted
    again with these, as they are bound to the event's id and type. Without keys, an event with personal fields can be
    dropped, get other tags and come into another stream; what else would change of it is refused.

    Events keep their order, ids and times. Where one becomes several, the others get ids that follow from its id and
    their place (UUID version 5); all have its time. Positions and versions are given without gaps, so that the target
    is another log: receipts, tokens, snapshots and the checkpoints of subscribers do not fit it. Records of commands
    come along with the positions that their events have got; those stay behind whose events were all dropped.

    Interrupted, also by a crash, it goes on when it is run again: what the target holds is compared. Run later, it adds
    what the source has got since. Applications may go on writing to the source, and nothing else to the target.
    Memory stays flat.

    Args:
        source: an open store.
        target: an open store whose log is empty, or holds what an earlier run has stored. None stores nothing: what is
            returned is what would be done.
        transform: called for each event in order; see `Transform`.
        examples: of each type, how many changes are returned.
        progress: told how far it has come.

    Raises:
        TypeError, ValueError: an argument cannot work.
        TransformFailedError: the transform raised, or returned what cannot be stored; it names the event. What was
            stored before stays.
        LogsDifferError: the target holds other events, or another program writes to it.
        CorruptEventError: an event of the source does not match its checksum.
        StorageError: a database failed, or an event of the source is missing; run it again to go on.
    """
    check_instance("source", source, EventStore)
    if target is not None:
        check_instance("target", target, EventStore)
    check_function("transform", transform)
    check_whole("examples", examples)
    check_function("progress", progress)
    log, report, options = portable(source), Report(examples), source.options
    personal = Personal(source.events._encryption)
    tagged = await log.tagged_types()  # before the events: what they get from here on is more than it says
    events = LogSource(log, options, personal)
    end = await events.end()
    with Renumbering() as renumbering:
        transforming = Transforming(transform, renumbering, report, personal)
        if target is None:
            await preview(events, end, transforming, progress)
            stored = Stored(renumbering.position, 0, "")
        else:
            await mark_as_fork(portable(target), await log.fork())
            stored = await move(events, end, portable(target), transforming, progress, options)
            if kept := {name: tags for name, tags in tagged.items() if name not in report.changed_types}:
                await portable(target).record_tagged_types(kept)
        commands = await _move_commands(log, portable(target) if target else None, end, renumbering, options)
    return Moved(
        report.read, stored.last, stored.already, commands.kept, commands.forgotten, stored.digest, report.types,
        report.examples,
    )  # fmt: skip


class _Commands(NamedTuple):
    kept: int
    forgotten: int


async def _move_commands(
    source: PortableLog, target: PortableLog | None, end: int, renumbering: Renumbering, options: LogOptions
) -> _Commands:
    """Store the records of commands with the positions that their events have got."""
    kept, forgotten, after = 0, 0, b""
    async for commands in command_chunks(source, options.whole_log_chunk):
        within = [each for each in commands if each.last_position <= end]
        moved = [each for each in (_moved(command, renumbering) for command in within) if each is not None]
        if moved and target is not None:
            await restore_commands(target, moved, after, renumbering.position)
            after = moved[-1].command_id
        kept, forgotten = kept + len(moved), forgotten + len(within) - len(moved)
    return _Commands(kept, forgotten)


def _moved(command: StoredCommand, renumbering: Renumbering) -> StoredCommand | None:
    """Return a record whose positions are those of what its events became; None if they were all dropped."""
    first, last = renumbering.last_of(command.first_position - 1) + 1, renumbering.last_of(command.last_position)
    return command._replace(first_position=first, last_position=last) if first <= last else None
