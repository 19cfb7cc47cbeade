"""Whether SQLite's answers can be true. It has no checksums of its own: a damaged index or page may lead it astray.

What an event holds is covered by the event's checksum; here it is about which events are answered, and in what order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from twofold.errors import StorageError
from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.stored_event import StoredEvent

_encode = msgspec.json.Encoder().encode
_decode_tags = msgspec.json.Decoder(list[str]).decode


def check_range(rows: Sequence[StoredEvent], after: int, limit: int, *, backwards: bool) -> None:
    """Check that rows of the whole log follow each other without a gap.

    Raises:
        StorageError: the file is damaged.
    """
    if not rows:
        return
    first, last = (rows[-1].position, rows[0].position) if backwards else (rows[0].position, rows[-1].position)
    expected: Iterable[int] = range(last, last - len(rows), -1) if backwards else range(first, first + len(rows))
    begins_late = first != after + 1 and (not backwards or len(rows) < limit)
    if begins_late or [row.position for row in rows] != list(expected):
        raise _damaged(f"between {after} and {last}, events are missing or are not where they belong")


def check_positions(positions: Sequence[object]) -> None:
    """Check that what an index names are positions: a flipped bit can make anything of a number.

    Raises:
        StorageError: the file is damaged.
    """
    if not {int}.issuperset(map(type, positions)):
        raise _damaged("an index names something that is no position")


def check_stream(rows: Sequence[StoredEvent], stream_id: str, after: int, *, is_whole: bool) -> None:
    """Check that rows are of the stream, that the first is the next one, and that their versions rise.

    Args:
        rows: what was answered.
        stream_id: of which stream.
        after: the version before the first.
        is_whole: whether their versions follow each other without a gap, too.

    Raises:
        StorageError: the file is damaged.
    """
    versions, streams = [row.version for row in rows], {row.stream_id for row in rows}
    expected = list(range(after + 1, after + 1 + len(rows))) if is_whole or not rows else sorted({after + 1, *versions})
    if versions != expected or not streams <= {stream_id}:
        raise _damaged(f"after version {after}, stream {stream_id!r} is not as its index says")


def check_matches(rows: Sequence[StoredEvent], query: EventQuery, found: int) -> None:
    """Check that every position that an index names has a row, and that the row matches.

    Raises:
        StorageError: the file is damaged.
    """
    if len(rows) != found:
        raise _damaged(f"an index names {found} events, and {len(rows)} of them are there")
    if suspects := _suspects(rows, query):
        untagged, tagged = _sorted_out(query)
        for row in suspects:
            if row.type not in untagged and not _matches_tagged(row, tagged):
                raise _damaged(f"event {row.position} does not match the query that an index named it for")


def _suspects(rows: Sequence[StoredEvent], query: EventQuery) -> Sequence[StoredEvent]:
    """Return the rows that need a closer look: with one item, the fewest, found without decoding their tags."""
    item, *others = query.items
    if others:
        return rows
    types = frozenset(item.types)
    suspects = [row for row in rows if row.type not in types] if types else []
    for tag in map(_encode, item.tags):
        suspects += [row for row in rows if tag not in (row.tags or b"")]
    return suspects


def _sorted_out(query: EventQuery) -> tuple[set[str], dict[str, list[QueryItem]]]:
    """Return the types that match by themselves, and the other items by their first tag."""
    untagged: set[str] = set()
    tagged: defaultdict[str, list[QueryItem]] = defaultdict(list)
    for item in query.items:
        if item.tags:
            tagged[item.tags[0]].append(item)
        else:
            untagged.update(item.types)
    return untagged, tagged


def _matches_tagged(row: StoredEvent, tagged: dict[str, list[QueryItem]]) -> bool:
    try:
        tags = _decode_tags(row.tags)
    except (msgspec.DecodeError, ValueError, TypeError):
        return False
    return any(item.matches(row.type, tags) for tag in tags for item in tagged.get(tag, ()))


def _damaged(what: str) -> StorageError:
    return StorageError(f"the database file is damaged: {what}; restore it from a backup")
