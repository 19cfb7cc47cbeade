"""Judges a race: compares what processes were told with what stands in the log."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.stored_event import StoredEvent, is_intact
from twofold.ports.event_log import EventLog

Fact = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What a race consisted of."""

    events: int
    stored: int
    refused: int
    unanswered: int
    """Appends whose process was killed before it heard of them."""
    seen: int
    """Events that readers saw, all readers together."""
    found_again: int
    """Appends that a first try had stored, whose answer was lost, as a repeat found out."""


def judge(events: list[StoredEvent], folder: Path) -> Report:
    """Compare the ledgers in a folder with the whole log.

    Raises:
        AssertionError: an invariant of the log is broken; the text says which, and where.
    """
    written = [fact for path in sorted(folder.glob("writer-*")) for fact in facts(path)]
    stored = [fact for fact in written if fact["told"] == "stored"]
    refused = [fact for fact in written if fact["told"] == "refused"]
    tried = [fact for fact in written if fact["told"] == "about to"]
    contradicted = [fact["answer"] for fact in written if fact["told"] == "contradicted"]
    _check_rows(events)
    _check_acknowledged(events, stored)
    _check_whole(events, tried, refused)
    _check_decisions(events, stored)
    assert not contradicted, f"told one thing first, and then another: {contradicted[:3]}"
    seen = [_check_reader(events, list(facts(path))) for path in sorted(folder.glob("reader-*"))]
    unanswered = len(tried) - len(stored) - len(refused)
    found_again = sum(fact["repeated"] for fact in stored)
    return Report(len(events), len(stored), len(refused), unanswered, sum(seen), found_again)


async def whole_log(open_log: Callable[[], EventLog]) -> list[StoredEvent]:
    """Read a log from its first event to its last."""
    log = open_log()
    await log.open()
    events: list[StoredEvent] = []
    while rows := await log.read(EventQuery.all(), after=events[-1].position if events else 0, limit=10_000):
        events += rows
    await log.close()
    return events


def facts(path: Path) -> Iterator[Fact]:
    """Read a ledger; a line that a kill has cut off was never written."""
    for line in path.read_text().splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def _check_rows(events: list[StoredEvent]) -> None:
    """I2: positions 1..m and versions 1..n, no gap; every row as it was written, and no intent twice."""
    versions: Counter[str] = Counter()
    for position, event in enumerate(events, 1):
        assert event.position == position, f"after position {position - 1} comes {event.position}"
        assert is_intact(event), f"event {position} does not match its checksum"
        if event.stream_id:
            versions[event.stream_id] += 1
        assert event.version == versions[event.stream_id], f"event {position} is {event.stream_id}@{event.version}"
    ids = Counter(event.event_id for event in events)
    doubled = [UUID(bytes=event_id) for event_id, count in ids.items() if count > 1]
    assert not doubled, f"stored twice: {doubled[:3]}"
    contents = Counter(event.payload for event in events)  # writers never say the same thing twice
    again = [content.decode() for content, count in contents.items() if count > 1]
    assert not again, f"stored twice, under several ids: {again[:3]}"


def _check_acknowledged(events: list[StoredEvent], stored: list[Fact]) -> None:
    """I1: what was acknowledged stands where it was said to stand."""
    for fact in stored:
        there = [str(UUID(bytes=event.event_id)) for event in events[fact["first"] - 1 : fact["last"]]]
        assert there == fact["ids"], f"acknowledged at {fact['first']}..{fact['last']}, found {there}"


def _check_whole(events: list[StoredEvent], tried: list[Fact], refused: list[Fact]) -> None:
    """I3: what was not acknowledged is there as a whole or not at all; what was refused is not there."""
    there = {str(UUID(bytes=event.event_id)) for event in events}
    announced = {event_id for fact in tried for event_id in fact["ids"]}
    assert there <= announced, f"stored, and yet never tried: {sorted(there - announced)[:3]}"
    for fact in tried:
        count = sum(event_id in there for event_id in fact["ids"])
        assert count in (0, len(fact["ids"])), f"{count} of {len(fact['ids'])} events of one append are stored"
    for fact in refused:
        assert not there.intersection(fact["ids"]), f"refused, and yet stored: {fact['ids']}"


def _check_decisions(events: list[StoredEvent], stored: list[Fact]) -> None:
    """Every accepted expectation and condition held at the position at which it was accepted."""
    by_tag: dict[str, list[StoredEvent]] = defaultdict(list)
    for event in events:
        for tag in msgspec.json.decode(event.tags):
            by_tag[tag].append(event)
    for fact in stored:
        first = fact["first"]
        for stream_id, expected in fact["expected"].items():
            versions = [e.version for e in events[first - 1 : fact["last"]] if e.stream_id == stream_id]
            assert versions[0] == expected + 1, f"{stream_id} was expected at {expected}, got {versions} at {first}"
        if "tags" in fact:
            item = QueryItem(tuple(fact["types"]), tuple(fact["tags"]))
            missed = [
                e.position
                for e in by_tag[item.tags[0]]
                if fact["after"] < e.position < first and item.matches(e.type, msgspec.json.decode(e.tags))
            ]
            assert not missed, f"accepted at {first} after {fact['after']}, against events {missed} that it never read"


def _check_reader(events: list[StoredEvent], facts: Iterable[Fact]) -> int:
    """I4: a reader saw exactly the log, in order; after a restart it may only go on where it was."""
    position = 0
    for fact in facts:
        if fact["told"] == "begin":
            assert fact["after"] == position, f"a reader that was at {position} began after {fact['after']}"
        for at, event_id in fact.get("events", ()):
            assert at == position + 1, f"a reader saw {at} after {position}"
            assert event_id == str(UUID(bytes=events[at - 1].event_id)), f"a reader saw another event at {at}"
            position = at
    assert position == len(events), f"a reader ended at {position} of {len(events)}"
    return position
