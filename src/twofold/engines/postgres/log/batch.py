"""From appends that wait at one moment to one call of `twofold_append`, and back to each one's outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, wraps
from itertools import accumulate, chain
from typing import Any, Literal, NamedTuple, TypeVar

from twofold.engines.postgres.log.event_columns import many, one, read_rows
from twofold.engines.postgres.wire import arrays
from twofold.engines.postgres.wire.arrays import Binary, UnfitError
from twofold.messages.endings import ENDINGS, TOMBSTONED
from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.stored_event import BROUGHT, ColumnKind, NewEvent
from twofold.messages.stream import ANY, ExpectedVersion, StreamState
from twofold.ports.event_log import Append, Appended, command_checksum

A = TypeVar("A")

_EXISTS = -(2**31)  # as the SQL has it
_INT4, _INT8 = 2**31 - 2, 2**63 - 1

_ARGUMENTS = {"twofold_append_one": len(BROUGHT) + 3, "twofold_append": len(BROUGHT) + 28}
APPEND_ONE, APPEND = (
    f"SELECT * FROM {name}({', '.join(f'${n}' for n in range(1, count + 1))})".encode()
    for name, count in _ARGUMENTS.items()
)


class Refusal(NamedTuple):
    """What the database says of an append that it did not store."""

    reason: Literal["known", "version", "condition", "ended"]
    head: int
    """The head of the log when it was judged, with what earlier appends of its batch had added."""
    expectation: int = 0
    """Which of the append's expectations does not hold; or the place of the event whose stream takes no more."""
    version: int = 0
    """And the version that the stream has."""
    earlier: Sequence[Sequence[Any]] = ()
    """What is recorded of the command that is known, for `found_command`."""


Outcome = Appended | Refusal
_COMMAND = (*[ColumnKind.JSON] * 3, ColumnKind.NAME, *[ColumnKind.LARGE] * 3)
"""The kinds of a command's columns, of which the first three are bytes."""
_REASONS: dict[int, Literal["known", "version", "condition", "ended"]] = {
    1: "known", 2: "version", 3: "condition", 4: "ended"
}  # fmt: skip


def is_plain(append: Append) -> bool:
    """Return whether the shorter path takes it: one event, at most its own stream expected."""
    return (
        len(append.events) == 1
        and append.condition is None
        and append.command is None
        and (not append.expected or (len(append.expected) == 1 and append.expected[0][0] == append.events[0].stream_id))
    )


def _fitting(encode: Callable[[A], tuple[Binary, ...]]) -> Callable[[A], tuple[Binary, ...]]:
    @wraps(encode)
    def encoded(of: A) -> tuple[Binary, ...]:
        try:
            return encode(of)
        except Exception as error:
            raise UnfitError(error) from error

    return encoded


@_fitting
def plain_arguments(append: Append) -> tuple[Binary, ...]:
    """Return the arguments of `twofold_append_one`.

    Raises:
        UnfitError: a value does not fit the protocol.
    """
    [event] = append.events
    expected = append.expected[0][1] if append.expected else ANY
    return (
        *one(event),
        arrays.texts(event.tag_names),
        arrays.int4(None if expected is ANY else _expected_number(expected)),
    )


def plain_outcome(row: Sequence[bytes | None]) -> Appended | None:
    """Return the outcome, None if the general path has to tell it."""
    position, version = map(arrays.read_integer, row)
    return None if position is None else Appended(position, position, version=version or 0)


class Batch:
    """The arguments of `twofold_append` for some appends, none of which repeats an id of another."""

    def __init__(self, appends: Sequence[Append], *, careful: bool = False) -> None:
        self.appends = appends
        self.careful = careful
        """Whether each append has to be judged by itself, as they touch each other."""
        self._counts = [len(append.events) for append in appends]
        self._ends = list(accumulate(self._counts))
        self._slots: dict[str, int] = {}
        self._slot_expected: list[int | None] = []
        self._event_slots: list[int] = []
        self._event_nths: list[int] = []
        self._expectations: list[tuple[int, int, int, int]] = []

    @property
    def size(self) -> int:
        """How many events there are."""
        return self._ends[-1]

    @cached_property
    @_fitting
    def arguments(self) -> tuple[Binary, ...]:
        """The arguments in their order; `careful` is set if the appends turn out to touch each other.

        Raises:
            UnfitError: a value does not fit the protocol.
        """
        self._number_streams()
        events, conditions, commands = self._event_columns(), self._condition_columns(), self._command_columns()
        streams = (arrays.texts(self._slots), arrays.nullable_int4s(self._slot_expected))
        expectations = [arrays.int4s(column) for column in _columns(self._expectations, 4)[:3]]
        return (
            arrays.int4s(self._counts), *events, *streams, *expectations, *conditions, *commands,
            Binary(b"\1" if self.careful else b"\0", arrays.BOOL),
        )  # fmt: skip

    def outcomes(self, row: Sequence[bytes | None]) -> list[Outcome]:
        """Return what became of each append, as the row of the answer has it in the binary format."""
        head = arrays.read_integer(row[0]) or 0
        verdicts, stale, versions = map(arrays.read_int4s, row[1:4])
        earlier = _earlier_commands(row[4]) if row[4] else {}
        outcomes: list[Outcome] = []
        slots, nths = self._event_slots, self._event_nths
        for place, (append, count, end) in enumerate(zip(self.appends, self._counts, self._ends, strict=True)):
            if verdicts and (verdict := verdicts[place]):
                which = self._expectations[stale[place] - 1][3] if verdict == 2 else max(stale[place] - 1, 0)
                found = earlier.get(append.command.command_id, ()) if append.command else ()
                outcomes.append(Refusal(_REASONS[verdict], head, which, versions[place], found))
                continue
            slot = slots[end - 1]
            version = versions[place] if verdicts else (versions[slot - 1] + nths[end - 1] if slot else 0)
            result = append.command.result if append.command else b""
            outcomes.append(Appended(head + 1, head + count, False, result, version))
            head += count
        return outcomes

    def _number_streams(self) -> None:
        """Give each stream that matters a number, and each event its place among those of its stream."""
        for numbers in (self._slots, self._slot_expected, self._event_slots, self._event_nths, self._expectations):
            numbers.clear()  # a second try, after a value that did not fit
        touched: dict[int, int] = {}
        slots = self._slots
        for place, append in enumerate(self.appends, 1):
            for which, (stream_id, expected) in enumerate(append.expected):
                if expected is not ANY:
                    slot, number = self._slot(stream_id), _expected_number(expected)
                    self._expectations.append((place, slot, number, which))
                    if self._slot_expected[slot - 1] is None:
                        self._slot_expected[slot - 1] = number
                    elif self._slot_expected[slot - 1] != number:
                        self.careful = True
                    if slot in touched:
                        self.careful = True  # whether it holds depends on what becomes of an earlier append
            for event in append.events:
                slot = nth = 0
                if stream_id := event.stream_id:
                    slot = slots.get(stream_id) or self._slot(stream_id)
                    nth = touched[slot] = touched.get(slot, 0) + 1
                    if event.type in ENDINGS:
                        self.careful = True  # the stream takes nothing of the appends behind it
                self._event_slots.append(slot)
                self._event_nths.append(nth)

    def _slot(self, stream_id: str) -> int:
        slot = self._slots.get(stream_id)
        if slot is None:
            slot = self._slots[stream_id] = len(self._slots) + 1
            self._slot_expected.append(None)
        return slot

    def _event_columns(self) -> tuple[Binary, ...]:
        columns, tag_names = many(chain.from_iterable(append.events for append in self.appends))
        tagged = [(tag, place) for place, each in enumerate(tag_names, 1) for tag in each]
        tags, places = _columns(tagged, 2)
        return (
            *columns,
            arrays.int4s(self._event_slots),
            arrays.int4s(self._event_nths),
            arrays.texts(tags),
            arrays.int4s(places),
        )

    def _condition_columns(self) -> tuple[Binary, ...]:
        """Return the items of all conditions, and which events of the batch itself would break them."""
        if not any(append.condition for append in self.appends):
            return _NO_CONDITIONS
        items: list[tuple[int, int, bytes | None, bytes | None, bytes | None]] = []
        breaking: list[tuple[int, int, int]] = []
        earlier = _Earlier()
        for place, append in enumerate(self.appends, 1):
            if condition := append.condition:
                after = bounded_position(condition.after or 0)
                items.extend((place, after, *item_columns(item)) for item in condition.fail_if.items)
                breaking.extend((place, n, after) for n in earlier.breaking(condition.fail_if))
            earlier.add(append.events)
        if breaking:
            self.careful = True
        return _conditions(items, breaking)

    def _command_columns(self) -> tuple[Binary, ...]:
        rows = [
            (place, *append.command, end - count + 1, end, command_checksum(append.command))
            for place, (append, count, end) in enumerate(zip(self.appends, self._counts, self._ends, strict=True), 1)
            if append.command
        ]
        return _commands(rows) if rows else _NO_COMMANDS


def _earlier_commands(sent: bytes) -> dict[bytes, list[tuple[Any, ...]]]:
    """Return what is recorded of commands that are known, by their ids."""
    found: dict[bytes, list[tuple[Any, ...]]] = {}
    for row in read_rows(arrays.read_byteas(sent), _COMMAND):
        found.setdefault(row[0], []).append(row)
    return found


def head_after(outcomes: Sequence[Outcome]) -> int:
    """Return the head of the log after a batch."""
    last = outcomes[-1]
    return last.last if isinstance(last, Appended) else last.head


class _Earlier:
    """The events of earlier appends of a batch, by what conditions ask for."""

    def __init__(self) -> None:
        self._events: list[NewEvent] = []
        self._by_tag: dict[str, list[int]] = {}
        self._by_type: dict[str, list[int]] = {}

    def add(self, events: Sequence[NewEvent]) -> None:
        for place, event in enumerate(events, len(self._events) + 1):
            self._by_type.setdefault(event.type, []).append(place)
            for tag in event.tag_names:
                self._by_tag.setdefault(tag, []).append(place)
        self._events.extend(events)

    def breaking(self, query: EventQuery) -> list[int]:
        """Return the places, from 1, of those that a query matches, and of tombstones."""
        places = set(self._by_type.get(TOMBSTONED, ()))
        for item in query.items:
            places.update(n for n in self._candidates(item) if item.matches(*self._of(n)))
        return sorted(places)

    def _of(self, place: int) -> tuple[str, tuple[str, ...]]:
        event = self._events[place - 1]
        return event.type, event.tag_names

    def _candidates(self, item: QueryItem) -> Iterable[int]:
        if item.tags:
            return self._by_tag.get(item.tags[0], ())
        if item.types:
            return chain.from_iterable(self._by_type.get(name, ()) for name in item.types)
        return range(1, len(self._events) + 1)


def item_columns(item: QueryItem) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Return a query item as its first tag, its other tags and its types, the latter two as array literals."""
    first = item.tags[0].encode() if item.tags else None
    return first, _literal(item.tags[1:]), _literal(item.types)


def bounded_position(position: int) -> int:
    """Return a position that the engine can hold; beyond the head they are all alike."""
    return min(max(position, 0), _INT8)


def _literal(names: Sequence[str]) -> bytes | None:
    if not names:
        return None
    quoted = ('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    return f"{{{','.join(quoted)}}}".encode()


def _expected_number(expected: ExpectedVersion) -> int:
    if isinstance(expected, StreamState):
        return _EXISTS
    return min(max(expected, _EXISTS + 1), _INT4)


def _conditions(
    items: Sequence[tuple[int, int, bytes | None, bytes | None, bytes | None]],
    breaking: Sequence[tuple[int, int, int]],
) -> tuple[Binary, ...]:
    appends, afters, tags, more, types = _columns(items, 5)
    blocked, events, behind = _columns(breaking, 3)
    return (
        arrays.int4s(appends),
        arrays.int8s(afters),
        *(arrays.array(column, arrays.TEXT) for column in (tags, more, types)),
        arrays.int4s(blocked),
        arrays.int4s(events),
        arrays.int8s(behind),
    )


def _commands(rows: Sequence[tuple[Any, ...]]) -> tuple[Binary, ...]:
    places, ids, hashes, results, names, firsts, lasts, contents = _columns(rows, 8)
    return (
        arrays.int4s(places),
        arrays.array(ids, arrays.UUID),
        arrays.array(hashes, arrays.BYTEA),
        arrays.array(results, arrays.TEXT),
        arrays.texts(names),
        arrays.int4s(firsts),
        arrays.int4s(lasts),
        arrays.int8s(contents),
    )


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * count


_NO_CONDITIONS = _conditions((), ())
_NO_COMMANDS = _commands(())
