"""The states of a generation stand in one module: no SQL of the engines spells one out."""

from __future__ import annotations

from pathlib import Path

import twofold
from twofold.ports.checkpoints import ROLES, SQL, STANDING_STILL, GenerationState

STATEMENTS = [path for path in sorted(Path(twofold.__file__).parent.rglob("*.sql")) if path.parent.name != "migrations"]


def test_every_state_has_a_role() -> None:
    assert set(ROLES) == set(GenerationState)


def test_no_statement_spells_a_state_out() -> None:
    assert len(STATEMENTS) >= 3
    spelt = {
        str(path): state for path in STATEMENTS for state in GenerationState if f"'{state}'" in path.read_text("utf-8")
    }
    assert spelt == {}


def test_statements_about_what_answers_name_all_states_that_do() -> None:
    answering = ", ".join(f"'{state}'" for state, role in ROLES.items() if role == "serving")
    named = [name for name, sql in SQL.items() if answering in sql]
    assert {"answering", "remember_marks", "segments_to_write", "serving_source"} <= set(named)
    still = [state for state, role in ROLES.items() if role == "serving" and state in STANDING_STILL]
    assert f"p.state IN ({', '.join(map(repr, map(str, still)))}) THEN 1" in SQL["segments_to_write"]
