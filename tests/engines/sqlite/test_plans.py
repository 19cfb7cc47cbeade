"""On a log of a million events, every hot statement walks its index, and a limited read touches few rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engines.sqlite.large_log import EVENTS, PER_STREAM, RARE, make_large_log

from twofold import AppendCondition, EventQuery, QueryItem
from twofold.engines.sqlite.database import Transaction
from twofold.engines.sqlite.log.appending import append_to
from twofold.engines.sqlite.log.reader import find_command, read, read_head, read_stream
from twofold.engines.sqlite.log.selection import MANY_TYPES, MOST_JOINS
from twofold.ports.event_log import Append, Appended, Rejected
from twofold.testing.samples import append_of, new_command, new_event

HEAD = "SEARCH twofold_events"  # max() of the primary key: the last entry, no walk
RANGE = "SEARCH twofold_events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
OF_COMMAND = f"{RANGE} LEFT-JOIN"
AT = "SEARCH twofold_events USING INTEGER PRIMARY KEY (rowid=?)"
STREAM = "SEARCH twofold_events USING INDEX twofold_events_by_stream (stream_id=? AND version>?)"
VERSION = "SEARCH twofold_events USING COVERING INDEX twofold_events_by_stream (stream_id=?)"
ENDED = "SEARCH twofold_events USING COVERING INDEX twofold_ended_streams (stream_id=? AND type=?)"
BY_ID = "SEARCH twofold_events USING INDEX sqlite_autoindex_twofold_events_1 (event_id=?)"
TYPE = "SEARCH twofold_events USING COVERING INDEX twofold_events_by_type (type=? AND position>? AND position<?)"
LAST_TOMBSTONE = "SEARCH twofold_events USING COVERING INDEX twofold_events_by_type (type=?)"
TAG = "SEARCH t USING PRIMARY KEY (tag=? AND position>? AND position<?)"
COUNT = "SEARCH twofold_event_tags USING PRIMARY KEY (tag=? AND position>?)"
OTHER_TAG = "SEARCH t0 USING PRIMARY KEY (tag=? AND position=?)"
TYPED = "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"
TYPED_ALONE = "SEARCH e USING COVERING INDEX twofold_events_by_type (type=? AND position=? AND rowid>? AND rowid<?)"
COMMAND = "SEARCH twofold_commands USING PRIMARY KEY (command_id=?)"

QUICK = 20_000
"""Steps of SQLite's machine that a limited read may take; a walk through all events takes millions."""


class Watched(sqlite3.Connection):
    """Notes every statement, with its parameters as they are bound, and counts the steps of SQLite's machine."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.statements: list[tuple[str, Any]] = []
        self.steps = 0
        self.set_progress_handler(self._step, 100)

    def execute(self, sql: str, arguments: Any = ()) -> sqlite3.Cursor:
        self.statements.append((sql, arguments))
        return super().execute(sql, arguments)

    def plans(self) -> set[str]:
        """Return each step of the plans of what was selected; steps within json_each are its own business."""
        details: set[str] = set()
        for sql, arguments in self.statements:
            if sql.startswith("SELECT"):
                details.update(row[3] for row in super().execute(f"EXPLAIN QUERY PLAN {sql}", arguments))
        return {each for each in details if "VIRTUAL TABLE" not in each and not each.startswith(HARMLESS)}

    def _step(self) -> int:
        self.steps += 100
        return 0


HARMLESS = (
    "CO-ROUTINE",
    "SCAN (subquery",
    "LIST SUBQUERY",
    "CORRELATED SCALAR SUBQUERY",
    "SCALAR SUBQUERY",
    "SCAN SUBQUERY",
)
"""What stands around the steps that read tables."""


@pytest.fixture(scope="session")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("large") / "events.db"
    make_large_log(path)
    yield path
    path.unlink()


@pytest.fixture
def log(large_file: Path) -> Iterator[Watched]:
    connection = sqlite3.connect(large_file, isolation_level=None, factory=Watched)
    yield connection
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    connection.close()


def item(*tags: str, types: tuple[str, ...] = ()) -> EventQuery:
    return EventQuery((QueryItem(types, tags),))


def types(count: int) -> tuple[str, ...]:
    return tuple(f"Type{n}" for n in range(count))


def append(log: Watched, decision: Append) -> Appended | Rejected:
    log.execute("BEGIN IMMEDIATE")
    return append_to(Transaction(log, careful=False), decision)


READS: dict[str, tuple[EventQuery, set[str]]] = {
    "all": (EventQuery.all(), {RANGE}),
    "one type": (item(types=types(1)), {TYPE, RANGE, AT}),
    "several types": (item(types=types(5)), {TYPE, RANGE, AT}),
    "many types": (item(types=types(MANY_TYPES + 1)), {RANGE, AT}),
    "one tag": (item("kind:1"), {TAG, RANGE, AT}),
    "two tags": (item("kind:0", "rare:x"), {COUNT, TAG, OTHER_TAG, RANGE, AT}),
    "two frequent tags": (item("kind:1", "customer:1"), {COUNT, TAG, OTHER_TAG, RANGE, AT}),
    "a tag and a type": (item("kind:1", types=types(20)), {TAG, TYPED, RANGE, AT}),
    "two items": (item("customer:1") | item("customer:2"), {TAG, RANGE, AT}),
}


@pytest.mark.parametrize("after", [0, EVENTS // 2, EVENTS - 1000])
@pytest.mark.parametrize("name", READS)
def test_a_read_walks_its_index_in_the_order_of_positions(log: Watched, name: str, after: int) -> None:
    query, expected = READS[name]
    read(log, query, after, None, 10, False)
    assert log.plans() <= expected
    assert log.steps < QUICK


@pytest.mark.parametrize("name", READS)
def test_a_read_backwards_walks_the_same_index(log: Watched, name: str) -> None:
    query, expected = READS[name]
    rows = read(log, query, 0, None, 10, True)
    assert len(rows) == 10
    assert log.plans() <= expected
    assert log.steps < QUICK


def test_a_projection_of_several_types_catches_up_chunk_by_chunk_without_going_back(log: Watched) -> None:
    query, after, most = item(types=types(6)), 0, 0
    for _ in range(20):
        before = log.steps
        after = read(log, query, after, None, 100, False)[-1].position
        most = max(most, log.steps - before)
    assert log.plans() <= READS["several types"][1]
    assert most < QUICK


def test_a_stream_is_read_by_its_index(log: Watched) -> None:
    rows = read_stream(log, "Note-50000", 0, 1000)
    assert [row.version for row in rows] == list(range(1, PER_STREAM + 1))
    assert log.plans() == {STREAM}
    assert log.steps < QUICK


def test_the_head_and_a_command_are_found_at_once(log: Watched) -> None:
    assert read_head(log) == EVENTS
    assert log.plans() == {HEAD}
    log.statements.clear()
    find_command(log, bytes(16))
    assert log.plans() == {COMMAND, OF_COMMAND}
    assert log.steps < QUICK


def test_an_append_looks_its_version_up_in_the_index(log: Watched) -> None:
    outcome = append(log, append_of(new_event("Note-50000"), expected={"Note-50000": PER_STREAM}))
    assert isinstance(outcome, Appended)
    assert log.plans() == {VERSION, ENDED, HEAD}
    assert log.steps < QUICK


def test_a_rejected_append_finds_what_caused_it_in_the_index(log: Watched) -> None:
    outcome = append(log, append_of(new_event("Note-50000"), expected={"Note-50000": 3}, command=new_command()))
    assert isinstance(outcome, Rejected)
    assert [row.version for row in outcome.conflicts] == [4, 5, 6, 7, 8, 9, 10]
    assert log.plans() == {VERSION, ENDED, STREAM, BY_ID, COMMAND, OF_COMMAND}
    assert log.steps < QUICK


CONDITIONS: dict[str, tuple[EventQuery, int | None, set[str]]] = {
    "one absent tag": (item("customer:none"), None, {TAG}),
    "one tag, recently": (item("kind:1"), EVENTS, {TAG}),
    "two tags that never meet": (item("rare:x", "kind:1"), None, {COUNT, TAG, OTHER_TAG}),
    "a tag and a type that never meet": (item("rare:x", types=("Type1",)), None, {TAG, TYPED_ALONE}),
    "an absent type": (item(types=("Absent",)), None, {TYPE}),
    "many types, recently": (item(types=types(MANY_TYPES + 1)), EVENTS, {RANGE}),
    "more tags than joins": (item("rare:x", *(f"none:{n}" for n in range(2 * MOST_JOINS))), None, {COUNT, TAG}),
    "a thousand items": (
        EventQuery(tuple(QueryItem((), (f"absent:{n}",)) for n in range(1000))), None, {TAG},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_that_holds_is_judged_by_the_index(log: Watched, name: str) -> None:
    query, after, expected = CONDITIONS[name]
    outcome = append(log, Append((new_event(),), condition=AppendCondition(query, after)))
    assert isinstance(outcome, Appended)
    joined = {f"SEARCH t{n} USING PRIMARY KEY (tag=? AND position=?)" for n in range(MOST_JOINS)}
    lacking = {"SEARCH o USING PRIMARY KEY (tag=? AND position=?)"}
    assert log.plans() <= expected | {HEAD, LAST_TOMBSTONE} | (joined | lacking if "joins" in name else set())
    assert log.steps < QUICK * (10 if "thousand" in name else 1)


def test_two_tags_are_judged_by_the_rarer_one_wherever_it_stands(log: Watched) -> None:
    for tags in (("rare:x", "kind:0"), ("kind:0", "rare:x")):
        log.steps = 0
        rows = read(log, item(*tags), 0, None, 1000, False)
        assert [row.position for row in rows] == list(range(RARE, EVENTS + 1, RARE))
        assert log.steps < QUICK


@pytest.mark.parametrize(
    "slow",
    [
        lambda log: log.execute("SELECT position FROM twofold_events WHERE stream_type = 'x' LIMIT 10").fetchall(),
        lambda log: log.execute("SELECT position FROM twofold_events ORDER BY checksum LIMIT 10").fetchall(),
    ],
)
def test_a_scan_or_a_sort_would_be_noticed(log: Watched, slow: Callable[[Watched], Any]) -> None:
    slow(log)
    assert any("SCAN twofold_events" in each or "TEMP B-TREE" in each for each in log.plans())
    assert log.steps > 50 * QUICK
