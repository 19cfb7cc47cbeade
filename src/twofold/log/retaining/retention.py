"""Retention: streams are ended by rules. What would be done is a plan, which is shown; then it is done, slice by slice.

1. All streams are walked through in the order of their names, a page at a time, by their last events alone.
2. The first rule that a stream fulfils takes it. What must not be removed yet is held up, and the plan says why.
3. Applied, each slice of streams is one append; a stream to which an event was appended since is left alone. The
   events of tombstoned streams are removed behind that, so an interruption leaves nothing half done that the next call
   does not complete.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, cast

from twofold.arguments import check_function, check_instance, check_items, check_port, check_text, check_texts
from twofold.log.archiving.archiving import archive_streams
from twofold.log.archiving.tidying import tidy_archives
from twofold.log.ending.appending import close_streams
from twofold.log.ending.tombstones import tombstone_streams
from twofold.log.event_store import EventStore
from twofold.log.retaining.readers import Readers, readers_of
from twofold.log.retaining.rules import RetentionRule, checked_rules
from twofold.messages.endings import CLOSED, TOMBSTONED, is_ended
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.archives import ArchivableLog
from twofold.ports.maintenance import PortableLog, StreamSize
from twofold.ports.read_database import ReadDatabase

Progress = Callable[[str, int, int], object]
"""Called with the name of a rule, how many streams were ended by it, and how many it takes."""


@dataclass
class RulePlan:
    """What a rule would do."""

    rule: str
    action: str
    streams: int = 0
    """Streams that it takes."""
    unfinished: int = 0
    """Those of them that are tombstoned already, and of which events are left, as their removal was interrupted."""
    events: int = 0
    """Events of these streams; those that a tombstone removes."""
    size: int = 0
    """Bytes of their payloads, metadata and tags."""
    oldest: datetime | None = None
    """The time of the last event of the stream to which nothing was appended for longest."""
    held: dict[str, int] = field(default_factory=dict)
    """Why streams are held up that fulfil the rule, and how many they are."""
    example: str = ""
    """The first stream that it takes, else the first that is held up."""


class RetentionApplied(NamedTuple):
    """What a rule has done."""

    rule: str
    streams: int
    """Streams that were ended or archived; none of those that went on meanwhile."""
    removed: int
    """Events that were removed; of a rule that archives, those whose payloads were archived."""


class _Taken(NamedTuple):
    rule: RetentionRule
    end: StoredEvent
    held: str


class _Done(NamedTuple):
    """Notes what has been done of a page of streams that a rule takes."""

    done: dict[str, RetentionApplied]
    rule: str
    before: RetentionApplied
    total: int
    progress: Progress

    def note(self, streams: int, removed: int = 0) -> None:
        """Note how many streams of the page were ended so far, and how many events of them removed or archived."""
        streams += self.before.streams
        self.done[self.rule] = RetentionApplied(self.rule, streams, self.before.removed + removed)
        self.progress(self.rule, streams, max(self.total, streams))


async def plan_retention(
    store: EventStore,
    rules: Sequence[RetentionRule],
    *,
    databases: Sequence[ReadDatabase] = (),
    may_miss: Collection[str] = (),
    progress: Progress = lambda *_: None,
) -> Sequence[RulePlan]:
    """Return what rules would do now; it changes nothing.

    Args:
        store: an open store.
        rules: in their order: the first that a stream fulfils takes it.
        databases: those of the read models and reactions, open. What they have not read is not removed.
        may_miss: names of projections, reactions and processes that need not read what is removed.
        progress: told the number of streams that were looked at.

    Raises:
        TypeError, ValueError: an argument cannot work.
        TenantMissingError: there are tenants, and this code does not run on behalf of all.
        StorageError: a database failed.
    """
    log, rules, may_miss = _checked(store, rules, databases, may_miss, progress)
    options = store.options
    plans = {each.name: RulePlan(each.name, each.action) for each in rules}
    readers, seen = await readers_of(log, databases, may_miss), 0
    async with aclosing(_pages(log, rules, readers, options)) as pages:
        async for looked_at, page in pages:
            seen += looked_at
            sizes = await _sizes(log, page)
            for each in page:
                _count(plans[each.rule.name], each)
            by_stream = {each.end.stream_id: plans[each.rule.name] for each in page}
            for size in sizes:
                by_stream[size.stream_id].events += size.events
                by_stream[size.stream_id].size += size.size
            progress("looking", seen, seen)
    return list(plans.values())


async def apply_retention(
    store: EventStore,
    rules: Sequence[RetentionRule],
    *,
    by: str,
    databases: Sequence[ReadDatabase] = (),
    may_miss: Collection[str] = (),
    progress: Progress = lambda *_: None,
) -> Sequence[RetentionApplied]:
    """End the streams that rules take, slice by slice, and return what was done. Applications may write on.

    Interrupted, it is called again: what was done is not done twice, and what was begun is completed.

    Args:
        store: an open store.
        rules: as for `plan_retention`.
        by: who asked for it; it is recorded.
        databases: as for `plan_retention`.
        may_miss: as for `plan_retention`.
        progress: told how many streams were ended by each rule.

    Raises:
        TypeError, ValueError: an argument cannot work.
        TenantMissingError: there are tenants, and this code does not run on behalf of all.
        ConflictError: others append to one of the streams all the while.
        StorageError: a database failed; call it again to go on.
    """
    check_text("by", by)
    log, rules, may_miss = _checked(store, rules, databases, may_miss, progress)
    options = store.options
    done = {each.name: RetentionApplied(each.name, 0, 0) for each in rules}
    readers = await readers_of(log, databases, may_miss)
    totals = await _totals(log, rules, readers, options)
    await tidy_archives(log, options=options)
    async with aclosing(_pages(log, rules, readers, options)) as pages:
        async for _, page in pages:
            for rule in rules:
                if ends := [each.end for each in page if each.rule is rule and not each.held]:
                    so_far = _Done(done, rule.name, done[rule.name], totals[rule.name], progress)
                    await _apply(log, rule, ends, by, options, so_far.note)
    return list(done.values())


def _checked(
    store: EventStore,
    rules: Sequence[RetentionRule],
    databases: Sequence[ReadDatabase],
    may_miss: Collection[str],
    progress: Progress,
) -> tuple[PortableLog, Sequence[RetentionRule], Sequence[str]]:
    check_instance("store", store, EventStore)
    check_items(
        "databases", databases, lambda each: hasattr(each, "query"), "read databases, as app.projections.databases"
    )
    check_function("progress", progress)
    log, rules = cast(PortableLog, store.log), checked_rules(rules)
    check_port("store", log, "event log", "read_stream_ends", "remove_events")
    if any(rule.action == "archive" for rule in rules):
        check_port("store", log, "event log that archives", "archives", "archive_payloads")
    return log, rules, check_texts("may_miss", may_miss)


async def _apply(
    log: PortableLog,
    rule: RetentionRule,
    ends: Sequence[StoredEvent],
    by: str,
    options: LogOptions,
    note: Callable[..., None],
) -> None:
    """End some streams, unless they got another event since, and note what was done."""
    positions = {end.position for end in ends}
    streams = [end.stream_id for end in ends]

    def is_as_it_was(end: StoredEvent) -> bool:
        return end.position in positions

    if rule.action == "archive":
        note(len(streams), await archive_streams(cast(ArchivableLog, log), streams, options=options))
        return
    end_all = close_streams if rule.action == "close" else tombstone_streams
    await end_all(log, streams, reason=rule.reason, by=by, options=options, wanted=is_as_it_was, ended=note)


async def _totals(
    log: PortableLog, rules: Sequence[RetentionRule], readers: Readers, options: LogOptions
) -> Counter[str]:
    """Return how many streams each rule takes."""
    totals = Counter[str]()
    async with aclosing(_pages(log, rules, readers, options)) as pages:
        async for _, page in pages:
            totals.update(each.rule.name for each in page if not each.held)
    return totals


async def _pages(
    log: PortableLog, rules: Sequence[RetentionRule], readers: Readers, options: LogOptions
) -> AsyncGenerator[tuple[int, list[_Taken]]]:
    """Iterate over pages of streams: how many were looked at, and those that a rule takes, or would take."""
    now, after = time.time_ns() // 1000, ""
    while ends := await log.read_stream_ends(after=after, limit=options.whole_log_chunk):
        after = ends[-1].stream_id
        unfinished, unarchived = await _unfinished(log, rules, ends), await _unarchived(log, rules, ends)
        page = list[_Taken]()
        for end in ends:
            if (taken := await _taken(log, rules, end, now, readers, unfinished, unarchived)) is not None:
                page.append(taken)
        yield len(ends), page


async def _taken(
    log: PortableLog,
    rules: Sequence[RetentionRule],
    end: StoredEvent,
    now: int,
    readers: Readers,
    unfinished: Collection[str],
    unarchived: Collection[str],
) -> _Taken | None:
    """Return the first rule that takes a stream."""
    for rule in rules:
        if end.stream_type != rule.stream_type:
            continue
        if end.type == TOMBSTONED:
            if rule.action == "tombstone" and end.stream_id in unfinished:
                return _Taken(rule, end, "")
            continue
        if now - end.recorded_at < rule.older_than // timedelta(microseconds=1) or not _is_of_state(rule, end):
            continue
        if rule.action == "archive" and end.stream_id not in unarchived:
            continue
        if rule.last and rule.last != await _last_type(log, end):
            continue
        return _Taken(rule, end, readers.hold_up(end) if rule.action == "tombstone" else "")
    return None


def _is_of_state(rule: RetentionRule, end: StoredEvent) -> bool:
    """Return whether a stream with this last event is open, if it is to be closed, or else closed."""
    if rule.action == "close":
        return not is_ended(end)
    return end.type == CLOSED or (rule.open_too and rule.action == "tombstone")


async def _unfinished(log: PortableLog, rules: Sequence[RetentionRule], ends: Sequence[StoredEvent]) -> Collection[str]:
    """Return the tombstoned streams of a page of which events are left, as far as a rule asks for them."""
    asked = _asked(rules, "tombstone", ends, TOMBSTONED)
    return {each.stream_id for each in await log.measure_streams(asked) if each.events > 1} if asked else ()


async def _unarchived(log: PortableLog, rules: Sequence[RetentionRule], ends: Sequence[StoredEvent]) -> Collection[str]:
    """Return the closed streams of a page of which payloads are in the log, as far as a rule asks for them."""
    asked = _asked(rules, "archive", ends, CLOSED)
    return {each.stream_id for each in await cast(ArchivableLog, log).measure_unarchived(asked)} if asked else ()


def _asked(rules: Sequence[RetentionRule], action: str, ends: Sequence[StoredEvent], last: str) -> list[str]:
    """Return the streams that end with an event of a type, of the stream types that rules with an action are about."""
    types = {rule.stream_type for rule in rules if rule.action == action}
    return [end.stream_id for end in ends if end.type == last and end.stream_type in types]


async def _sizes(log: PortableLog, page: Sequence[_Taken]) -> Sequence[StreamSize]:
    """Return how much of each stream of a page its rule is about."""
    taken = [each for each in page if not each.held]
    archived = [each.end.stream_id for each in taken if each.rule.action == "archive"]
    others = [each.end.stream_id for each in taken if each.rule.action != "archive"]
    sizes = list(await log.measure_streams(others))
    return [*sizes, *await cast(ArchivableLog, log).measure_unarchived(archived)] if archived else sizes


async def _last_type(log: PortableLog, end: StoredEvent) -> str:
    """Return the type of the last event of a stream, but for the one that closes it; empty: there is none."""
    if not is_ended(end):
        return end.type
    rows = await log.read_stream(end.stream_id, after=max(end.version - 2, 0), limit=1) if end.version > 1 else ()
    return rows[0].type if rows else ""


def _count(plan: RulePlan, taken: _Taken) -> None:
    if taken.held:
        plan.held[taken.held] = plan.held.get(taken.held, 0) + 1
        plan.example = plan.example or taken.end.stream_id
        return
    if not plan.streams:
        plan.example = taken.end.stream_id
    plan.streams += 1
    plan.unfinished += taken.end.type == TOMBSTONED
    at = datetime.fromtimestamp(taken.end.recorded_at / 1_000_000, UTC)
    plan.oldest = min(plan.oldest or at, at)
