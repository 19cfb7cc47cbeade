"""The page of what is refused, made of the names of the tests that prove it.

`python -m tests.docs.refusals` writes `docs/explanation/what-is-refused.md`, which a test compares with the tests. A
new promise is a test in one of the modules below; a new module is a line in `PARAGRAPHS`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/explanation/what-is-refused.md"
HEAD = """# What is refused

A mistake is refused where it is made, with the name of the field or the line to write. A fault hits only the caller
that made it, and a machine that works unseen says so when it does not. Each sentence below is the name of a test,
which fails if it is not true.
"""


class Paragraph(NamedTuple):
    """A kind of promises, and the modules of tests that hold them."""

    title: str
    modules: Sequence[str]


PARAGRAPHS = (
    Paragraph(
        "What is accepted comes back equal, or is refused with the field's name",
        (
            "tests/refusals/test_what_comes_back.py",
            "tests/unit/log/test_fidelity.py",
            "tests/unit/log/test_event_fields.py",
            "tests/unit/commands/test_results.py",
            "tests/projections/test_row_fidelity.py",
        ),
    ),
    Paragraph(
        "A declaration that cannot work is refused when it is made",
        (
            "tests/unit/projections/test_declaration.py",
            "tests/unit/projections/test_fold_signatures.py",
            "tests/unit/commands/test_aggregate.py",
            "tests/unit/messages/test_event_query.py",
            "tests/unit/test_middleware.py",
            "tests/refusals/test_arguments.py",
        ),
    ),
    Paragraph(
        "What is safe by default",
        (
            "tests/refusals/test_safe_defaults.py",
            "tests/log/test_tagged_types.py",
            "tests/cli/test_tags.py",
            "tests/fastapi/test_command_ids.py",
        ),
    ),
    Paragraph(
        "Machines that work unseen",
        (
            "tests/synchronizer/test_health.py",
            "tests/synchronizer/test_reactions.py",
            "tests/synchronizer/test_supervision.py",
            "tests/projections/test_slow_folds.py",
            "tests/engines/test_owner.py",
        ),
    ),
    Paragraph(
        "One member's fault hits that member",
        (
            "tests/acceptance/test_one_members_fault.py",
            "tests/engines/postgres/test_bad_values.py",
            "tests/engines/test_impossible_keys.py",
            "tests/unit/test_errors.py",
        ),
    ),
    Paragraph(
        "The world outside",
        (
            "tests/synchronizer/test_history.py",
            "tests/engines/sqlite/test_replaced_file.py",
            "tests/engines/postgres/test_session.py",
            "tests/unit/engines/test_urls.py",
            "tests/cli/test_passwords.py",
        ),
    ),
    Paragraph(
        "HTTP", ("tests/fastapi/test_promises.py", "tests/fastapi/test_outages.py", "tests/acceptance/test_promises.py")
    ),
)


def page() -> str:
    """Return the page as the tests of today make it."""
    contents = " · ".join(f"[{title}](#{_anchor(title)})" for title, _ in PARAGRAPHS)
    paragraphs = "".join(f"\n## {title}\n{''.join(map(_section, modules))}" for title, modules in PARAGRAPHS)
    return f"{HEAD}\n{contents}\n{paragraphs}"


def _anchor(title: str) -> str:
    return "-".join(re.sub(r"[^\w ]", "", title).lower().split())


def _section(module: str) -> str:
    lines = "".join(f"- {sentence}\n" for sentence in _sentences(ROOT / module))
    return f"\n`{module}`:\n\n{lines}"


def _sentences(module: Path) -> Iterator[str]:
    for node in ast.parse(module.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            text = node.name.removeprefix("test_").replace("_", " ")
            yield f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    FILE.write_text(page(), "utf-8")
