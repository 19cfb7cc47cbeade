"""Each position of the log that is stored stands beside the id of its event, or says why it needs none.

A bare position means another event once the log was restored to an older state. Whatever reads it would skip events.
"""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

ENGINES = ("sqlite", "postgres", "duckdb")
NO_ID_NEEDED = {
    "twofold_event_tags.position": "the log's own index, written and restored with the event",
    "twofold_commands.first_position": "the log's own, written with the events and restored with them",
    "twofold_commands.last_position": "the log's own, written with the events and restored with them",
}
"""Positions without an id beside them, and what tells their events all the same."""
NO_POSITION = re.compile(
    r"id|.*_at|.*_until|.*_slot|slot|generation|.*version|epoch|segments|retry|number|.*checksum|tail|one|schema.*|adds_tags|removes_events|"
    r"prunes_commands|tag_changes|times|archives_events|changes|events|size"
)
"""Names of whole numbers that are no positions: times, slots, counts, versions, flags."""


def columns(engine: str) -> dict[str, dict[str, str]]:
    """Return the type of each column, by table."""
    sql = files(f"twofold.engines.{engine}").joinpath("migrations/0001_schema.sql").read_text("utf-8")
    tables = re.findall(r"^CREATE (?:UNLOGGED )?TABLE (\w+) \((.*?)^\)", re.sub(r"--.*", "", sql), re.S | re.M)
    return {table: dict(re.findall(r"^ +([a-z_]+) +([A-Za-z]+)", body, re.M)) for table, body in tables}


@pytest.mark.parametrize("engine", ENGINES)
def test_each_stored_position_stands_beside_the_id_of_its_event(engine: str) -> None:
    bare = {
        f"{table}.{name}"
        for table, found in columns(engine).items()
        for name in found
        if "position" in name and "event_id" not in found
    }
    assert bare <= NO_ID_NEEDED.keys(), "store the event's id beside it and compare it, or write down why not"
    assert bare == NO_ID_NEEDED.keys() if engine != "duckdb" else not bare


@pytest.mark.parametrize("engine", ENGINES)
def test_each_whole_number_that_is_stored_is_known_for_what_it_is(engine: str) -> None:
    numbers = {
        f"{table}.{name}"
        for table, found in columns(engine).items()
        for name, kind in found.items()
        if kind.lower() in ("integer", "bigint", "smallint") and "position" not in name
    }
    assert len(numbers) > 10
    assert {each for each in numbers if not NO_POSITION.fullmatch(each.split(".")[1])} == set(), (
        "call a position of the log a position, so that the test above sees it; name other numbers in NO_POSITION"
    )
