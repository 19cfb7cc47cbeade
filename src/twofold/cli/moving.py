"""Commands that move events from one database to another: `twofold copy | fork | import --from`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from twofold.cli.output import (
    Json,
    json_text,
    opened,
    opened_keys,
    opened_read_models,
    print_table,
    progress,
    say,
    say_document,
)
from twofold.log.copy import Copied, copy_log
from twofold.log.event_store import EventStore
from twofold.log.importers.importing import StoreKind, import_events
from twofold.log.moving.fork import fork_log
from twofold.log.moving.loading import load_transform
from twofold.log.moving.plain_event import PlainEvent, Transform, unchanged
from twofold.log.moving.report import Example, Moved
from twofold.log.moving.transform import transform_log
from twofold.messages.mark import START
from twofold.synchronizer.carried_reactions import CarriedReaction, carry_reactions, paused, read_reactions, up_to

DRY_RUN = "Store nothing; print what would become of the events, with examples."
KEYS = (
    "The key store of both logs, for a transform that changes events with personal fields; the master key comes from "
    "the environment."
)
TRANSFORM = "A file of Python whose function `transform` returns what each event becomes."


async def copy(
    source: str,
    target: str,
    /,
    *,
    transform: Annotated[Path | None, Parameter(help=TRANSFORM)] = None,
    keys: Annotated[str, Parameter(help=KEYS)] = "",
    dry_run: Annotated[bool, Parameter(negative="", help=DRY_RUN)] = False,
    as_json: Json = False,
) -> None:
    """Copy a whole log to another database, of the same engine or another, and compare both.

    Positions, ids, times and the receipts of commands stay as they are, so that checkpoints of subscribers stay
    valid. Reactions that live beside the log come along, and do nothing again; read models are rebuilt from the copy.
    To change the engine: copy while the application runs, stop it, copy again (only what is new is copied), and start
    it with the other URL.

    With --transform, events are renamed, split, dropped or tagged on the way. They keep their order, ids and times;
    positions and versions are given without gaps.

    Interrupted, it goes on where it was when it is run again. Nothing else may write to the target while it runs.

    Example: `twofold copy sqlite:///orders.db postgresql://app@db/orders`

    Parameters
    ----------
    source:
        The database to read, such as sqlite:///orders.db.
    target:
        The database to write: empty, or with the beginning of the source from an earlier run.
    """
    if source == target:
        raise ValueError("source and target are the same database")
    if transform is not None:
        await _transform(source, target, load_transform(transform), keys, dry_run=dry_run, as_json=as_json)
    elif dry_run:
        raise ValueError("`--dry-run` shows what a transform does; name its file with `--transform`")
    else:
        await _copy(source, target, as_json=as_json)


async def fork(source: str, target: str, /, *, at: int | None = None, as_json: Json = False) -> None:
    """Copy a log up to a position into another database, marked as a fork, to try things on.

    An application that starts on a fork builds its read models and takes commands. Its reactions and processes stand
    still, so that no mail is sent twice, until `twofold projections resume` lets one act.

    Interrupted, it goes on where it was when it is run again.

    Example: `twofold fork sqlite:///orders.db sqlite:///trial.db --at 1000`

    Parameters
    ----------
    source:
        The database to read, such as sqlite:///orders.db. Applications may go on writing to it.
    target:
        The database to write, which is empty.
    at:
        The last position to copy; by default the head of the log.
    """
    if source == target:
        raise ValueError("source and target are the same database")
    async with opened(source) as original, opened(target, migrate=True) as duplicate:
        async with opened_read_models(source) as beside:
            reactions = await read_reactions(beside)
        with progress() as report:
            copied = await fork_log(EventStore(original), EventStore(duplicate), at=at, progress=report)
        end = await duplicate.mark(copied.events)
        async with opened_read_models(target) as beside:
            held = await carry_reactions(paused(up_to(reactions, end or START)), beside)
    if as_json:
        say_document(copied._asdict() | {"paused": held})
        return
    say(f"{target} is a fork up to position {copied.events:,}, with {copied.commands:,} commands")
    if held:
        say(f"reactions that stand still until they are resumed: {', '.join(held)}")


async def _copy(source: str, target: str, *, as_json: bool) -> None:
    async with opened(source) as original, opened(target, migrate=True) as duplicate:
        async with opened_read_models(source) as beside:
            reactions = await read_reactions(beside)
        with progress() as report:
            copied = await copy_log(original, duplicate, progress=report)
        async with opened_read_models(target) as beside:
            carried = await carry_reactions(reactions, beside)
    if as_json:
        say_document(copied._asdict() | {"reactions": carried})
    else:
        _tell_copied(copied, carried)


def _tell_copied(copied: Copied, carried: Sequence[str]) -> None:
    new = copied.events - copied.already
    say(f"copied {new:,} events, {copied.already:,} were there already; {copied.commands:,} commands")
    if carried:
        say(f"reactions that go on where they stand: {', '.join(carried)}")
    say(f"both logs are alike up to position {copied.events:,}, with digest {copied.digest}")


async def _transform(
    source: str, target: str, transform: Transform, keys: str, *, dry_run: bool, as_json: bool
) -> None:
    async with opened(source) as original, opened_keys(source, keys) as ring:
        store = EventStore(original, keys=ring)
        async with opened_read_models(source) as beside:
            reactions = await read_reactions(beside)
        with progress() as report:
            if dry_run:
                moved = await transform_log(store, None, transform, progress=report)
            else:
                async with opened(target, migrate=True) as other:
                    moved = await transform_log(store, EventStore(other), transform, progress=report)
    late = [_late(each, moved.read) for each in reactions if each.position < moved.read or each.parked]
    if as_json:
        say_document(moved._asdict() | {"late_reactions": late})
    else:
        _tell_moved(moved, is_preview=dry_run)
        for each in late:
            say(each)


def _late(reaction: CarriedReaction, end: int) -> str:
    """Return what is said of a reaction that has not done all that it would do for the events that were copied."""
    parked = f", {len(reaction.parked)} events are parked" if reaction.parked else ""
    return (
        f"the reaction {reaction.generation.name} stands at position {reaction.position:,} of {end:,}{parked}: on the "
        f"target it begins behind what was copied; let it catch up first, and copy again"
    )


async def import_foreign(
    kind: StoreKind, url: str, target: str, mapping: Path | None, table: str, *, dry_run: bool, as_json: bool
) -> None:
    """Import the events of another store; see `twofold import`."""
    transform = load_transform(mapping) if mapping else unchanged
    with progress() as report:
        if dry_run:
            moved = await import_events(kind, url, None, transform=transform, table=table, progress=report)
        else:
            async with opened(target, migrate=True) as log:
                store = EventStore(log)
                moved = await import_events(kind, url, store, transform=transform, table=table, progress=report)
    if as_json:
        say_document(moved._asdict())
    else:
        _tell_moved(moved, is_preview=dry_run)


def _tell_moved(moved: Moved, *, is_preview: bool) -> None:
    """Print what became of the events of a source."""
    if is_preview:
        say(f"{moved.read:,} events would become {moved.written:,}; nothing was written")
    else:
        there = f"{moved.already:,} of them were there already"
        say(f"{moved.read:,} events became {moved.written:,}, {there}")
    stay = f", {moved.forgotten:,} stay behind with all their events" if moved.forgotten else ""
    if moved.commands or moved.forgotten:
        say(f"{moved.commands:,} commands{stay}")
    headings = ("type", "read", "written", "changed", "split", "dropped", "becomes")
    rows = [
        (name, *(f"{count:,}" for count in (of.read, of.written, of.changed, of.split, of.dropped)), ", ".join(of.into))
        for name, of in sorted(moved.types.items())
    ]
    print_table(headings, rows, numbers=headings[1:-1])
    if is_preview:
        for example in moved.examples:
            _show(example)
    else:
        say(f"what was written was read again and is alike, with digest {moved.digest}")


def _show(example: Example) -> None:
    say(f"event {example.position:,}")
    say(f"  was  {_line(example.before)}")
    for each in example.after:
        say(f"  is   {_line(each)}")
    if not example.after:
        say("  is dropped")


def _line(event: PlainEvent) -> str:
    stream = f" of {event.stream_id}" if event.stream_id else ""
    tags = f" tagged {', '.join(event.tags)}" if event.tags else ""
    return f"{event.type}{stream}{tags} {json_text(event.data)}"
