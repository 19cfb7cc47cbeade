"""What can be tuned is an option that says its unit and what gets worse; no module hides a number of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import twofold

SOURCE = Path(twofold.__file__).parent

FIXED = {
    "cli/commands.py INTERRUPTED": "the exit code of shells",
    "cli/starting/customers.py CUSTOMERS": "how the demonstration is told",
    "cli/starting/demonstration.py PATIENCE": "after which the demonstration is given up",
    "cli/parked.py PAUSE": "seconds between the looks of a command for which a person waits",
    "cli/output.py WIDE": "columns that a terminal may have at most",
    "dashboard/events.py DRAWN": "what a person can look through",
    "dashboard/events.py PAGE": "what fits on a page",
    "dashboard/guard.py _LONGEST_FORM": "more than any form of these pages has",
    "dashboard/live.py EVERY": "what a person notices",
    "dashboard/live.py KEPT": "what fits in a chart",
    "dashboard/overview.py NEWEST": "what fits on a page",
    "dashboard/pictures.py GAP": "the layout of a picture",
    "dashboard/pictures.py HEIGHT": "the layout of a picture",
    "dashboard/pictures.py LETTER": "the layout of a picture",
    "dashboard/processes.py PAGE": "what fits on a page",
    "dashboard/processes.py STEPS": "what a person can look through",
    "dashboard/projections.py SHOWN": "what fits on a page",
    "dashboard/streams.py PAGE": "what fits on a page",
    "mcp/answers.py ROOM": "what an agent can read",
    "mcp/answers.py ROOM_OF_ITEM": "what an agent can read",
    "mcp/answers.py SHORTEST": "what is worth being shown",
    "mcp/log_tools.py MOST": "what an agent can read",
    "mcp/running_tools.py MOST": "what an agent can read",
    "inspection/flow.py _DEEPEST": "deeper calls are a library's, not the domain's",
    "engines/duckdb/columns.py SCALE": "how decimals are stored",
    "log/folding/fingerprint.py FORM": "the version of what is stored",
    "log/folding/kept_states.py OVERHEAD": "about what objects of Python take",
    "log/moving/transforming.py MAX_VERSION": "the range of a type",
    "engines/memory/event_log.py PAUSE_EVERY": "the memory engine has no options: it is for tests",
    "engines/postgres/capacity.py NEEDED": "the connections that the code needs",
    "engines/postgres/capacity.py NEEDED_OF_POOLER": "the connections that the code needs",
    "engines/postgres/log/batch.py _EXISTS": "as the SQL has it",
    "engines/postgres/log/batch.py _INT4": "the range of a type",
    "engines/postgres/log/batch.py _INT8": "the range of a type",
    "engines/postgres/log/selection.py END": "the range of a type",
    "engines/postgres/log/examination.py _OLDEST": "the versions that the makers of PostgreSQL care for",
    "engines/postgres/schema.py LOCK": "the name of a lock",
    "engines/postgres/schema.py LOOKS": "a start that waits for the migration of another process",
    "engines/postgres/wire/arrays.py BOOL": "the number of a type",
    "engines/postgres/wire/arrays.py BYTEA": "the number of a type",
    "engines/postgres/wire/arrays.py INT4": "the number of a type",
    "engines/postgres/wire/arrays.py INT8": "the number of a type",
    "engines/postgres/wire/arrays.py JSON": "the number of a type",
    "engines/postgres/wire/arrays.py TEXT": "the number of a type",
    "engines/postgres/wire/arrays.py UUID": "the number of a type",
    "engines/sqlite/log/selection.py END": "the range of a type",
    "engines/sqlite/log/selection.py MANY_TYPES": "where another way is faster, with the same answer",
    "engines/sqlite/log/selection.py MOST_JOINS": "a limit of SQLite",
    "engines/sqlite/log/selection.py MOST_MARKS": "a limit of SQLite",
    "engines/sqlite/watch.py IN_MODIFY": "a constant of the kernel",
    "engines/sqlite/writing.py MARKS": "where another way is faster, with the same answer",
    "engines/urls.py SHORTEST": "what counts as a password in a text",
    "fastapi/bodies.py MAX_BODY": "the default of an argument",
    "fastapi/bodies.py MAX_EXPONENT": "a limit that is documented",
    "fastapi/command_ids.py _LONGEST": "a limit that is documented",
    "fastapi/consistency.py MAX_WAIT": "the default of an argument",
    "fastapi/outages.py LEAST": "part of a promise to clients: an answer within five seconds",
    "fastapi/outages.py PATIENCE": "part of a promise to clients: an answer within five seconds",
    "fastapi/outages.py PROBE": "part of a promise to clients: an answer within five seconds",
    "fastapi/shutdown.py GRACE": "the default of an argument",
    "fastapi/tokens.py _ALL": "the format of a token",
    "fastapi/tokens.py _MARKS": "the format of a token",
    "fastapi/tokens.py _SEAL": "the format of a token",
    "fastapi/watch.py FAREWELL": "part of a promise: a server that is told to end does so",
    "fastapi/watch.py RETRY": "what browsers are told",
    "log/codec/event_types.py MANY": "where another way is faster, with the same answer",
    "log/codec/event_types.py MAX_PREPARED": "a bound for what is remembered, with the same answer",
    "log/codec/fidelity.py SHOWN": "characters of a text in an error",
    "log/codec/payload.py MAX_PAYLOAD": "a limit of the format, documented",
    "schema/lock.py FORM": "stored: of the lock file",
    "schema/differences.py _DEEPEST": "records within records: a class that holds itself has no end",
    "log/codec/upcasting.py MAX_STEPS": "tells a circle of upcasters, which is a mistake in them",
    "log/codec/stored_names.py MAX_NAME": "a limit of the format, documented",
    "privacy/forgetting.py _ATTEMPTS": "tries under contention, all but the first of which succeed at once",
    "messages/session.py MAX_MARKS": "the format of a token",
    "messages/stored_event.py SEAL_MODULUS": "the format of the checksum",
    "messages/stream.py NO_STREAM": "a version",
    "ports/checkpoints.py GRACE_OF_PREVIOUS": "all processes must agree on it",
    "ports/event_log.py MAX_CONFLICTS": "a promise of the port",
    "ports/full_text.py MAX_FOUND": "a limit that both engines share",
    "ports/full_text.py MAX_LETTERS": "a limit that both engines share",
    "ports/full_text.py MAX_TEXT": "a limit that both engines share",
    "ports/full_text.py MAX_WORDS": "a limit that both engines share",
    "ports/read_database.py IDLE": "the default of an argument",
    "ports/read_database.py REPLICATION": "the default of an argument",
    "ports/segments.py SLOTS": "the format of checkpoints",
    "processes/control.py TRIES": "tries under contention, all but the first of which succeed at once",
    "processes/runner.py LOADS": "tries under contention, all but the first of which succeed at once",
    "projections/failure.py MAX_CAUSE": "characters of a stored text",
    "projections/failure.py MAX_TRACEBACK": "characters of a stored text",
    "projections/keys/lookups.py MOST_ROWS": "no limit",
    "projections/keys/lookups.py VALUES": "a limit that all engines share",
    "projections/reading/declared_reads.py MOST": "a limit that all engines share",
    "projections/rows/row_columns.py MAX_DIGITS": "a limit of PostgreSQL",
    "projections/rows/row_type.py MAX_NAME": "a limit of PostgreSQL",
    "queries/filters.py _LIMIT": "the range of a type",
    "queries/read_model.py _LAST": "the range of a type",
    "sync.py _STOPPING": "the end of a process that nothing tunes",
    "synchronizer/segments/movement.py GRAINS": "steps in which work is counted",
    "log/transfer/header.py FORMAT": "the version of a format",
    "log/transfer/json_lines.py _LONGEST_TRAILER": "more than the last line ever takes",
    "telemetry.py LOOKED_AT": "fewer than the 128 links that a span of OpenTelemetry keeps",
}
"""Numbers that are no tuning, and why."""


def numbers() -> Iterator[str]:
    """Yield the constants of all modules whose values are numbers."""
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name == "options.py" or name.startswith("testing/"):
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            value = getattr(node, "value", None)
            if value is not None and _is_number(value):
                names = [each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
                yield from (f"{name} {each.id}" for each in names if each.id.isupper())


def _is_number(value: ast.expr) -> bool:
    parts = value.elts if isinstance(value, ast.Tuple) else [value]
    kinds = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
    return bool(parts) and all(
        all(isinstance(each, kinds) for each in ast.walk(part))
        and all(type(each.value) in (int, float) for each in ast.walk(part) if isinstance(each, ast.Constant))
        for part in parts
    )


def test_no_module_has_a_number_that_could_be_an_option() -> None:
    assert set(numbers()) == set(FIXED), "make it a field of a class in options.py, or say why it is fixed"


def fields() -> dict[str, str]:
    """Return the text of each number in the options."""
    found = {}
    for cls in ast.parse((SOURCE / "options.py").read_text("utf-8")).body:
        if isinstance(cls, ast.ClassDef):
            for field, text in zip(cls.body, cls.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and ast.unparse(field.annotation) in ("int", "float"):
                    is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
                    found[f"{cls.name}.{ast.unparse(field.target)}"] = str(text.value.value) if is_text else ""  # type: ignore[attr-defined]
    return found


WORSE = re.compile(r"raised|lowered|lower|higher|more|less|fewer|larger|at 0|same", re.IGNORECASE)


@pytest.mark.parametrize(("name", "text"), fields().items(), ids=fields())
def test_an_option_says_what_gets_worse_when_it_is_raised_or_lowered(name: str, text: str) -> None:
    assert WORSE.search(text), f"{name}: {text or 'has no text'}"
