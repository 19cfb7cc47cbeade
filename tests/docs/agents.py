"""What coding agents read, made of the documentation, so that every snippet in it is one that the tests run.

`python -m tests.docs.agents` writes `llms.txt`, `AGENTS.md` and `SKILL.md` into the package, and so into the wheel; a
test compares them with the documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT, Block, blocks

from twofold.error_codes import ERROR_CODES

FOLDER = ROOT / "src/twofold/agents"
SITE = "docs/"
TUTORIAL = ("events.py", "book.py", "test_book.py", "commands.py", "views.py", "readers.py", "reminders.py")
"""The files of the tutorial that show how each part is written."""
RULES = """
- An event is a frozen class, named in the past tense; it is stored for ever. Never change a field's meaning: write an
  upcaster, and let `twofold schema check` say what is missing.
- A command handler has no effect but what it stores: it may run again after a conflict. Effects belong into reactions
  and processes.
- A query handler reads read models, never the log.
- A projection's method is pure: it returns the row that follows from the row and the event.
- Read what you wrote with `after=receipt`; do not sleep.
- Run `twofold check`, `twofold schema check` and the tests before you say that it is done.
- Each error ends in a code such as `TE304`; the table below and `twofold explain TE304` say what to do.
- With the extra `mcp`, `twofold mcp MODULE:APPLICATION --url URL` is a server of the Model Context Protocol that looks
  into the application and changes nothing: ask `status`, `parked_by_cause`, `trace_event` and `show_state` instead of
  guessing.
"""


def files() -> dict[str, str]:
    """Return the contents of the files, by their names."""
    return {"llms.txt": _llms(), "AGENTS.md": _agents(), "SKILL.md": _skill()}


def _llms() -> str:
    lines = [f"# Twofold\n\n> {_claim()}\n"]
    for title, pages in _sections():
        lines.append(f"\n## {title}\n\n")
        lines += [f"- [{_title(page)}]({page.relative_to(ROOT)}): {_first_sentence(page)}\n" for page in pages]
    return "".join(lines)


def _agents() -> str:
    shown = [
        block for block in blocks(ROOT / "docs/tutorial.md") if block.title in TUTORIAL and block.language == "python"
    ]
    [first] = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
    parts = "".join(f"\n`{each.title}`:\n\n```python\n{each.text}```\n" for each in _last_of_each(shown))
    fixes = "".join(f"| {code} | {each.error} | {each.fix} |\n" for code, each in ERROR_CODES.items())
    return "\n".join((
        "# Twofold, for coding agents\n", _claim(), "\n## Rules", RULES, "## The smallest application\n",
        f"```python\n{first.text}```\n", "## How each part is written", parts, "## What to do about an error\n",
        "| code | error | fix |\n|---|---|---|", fixes,
    ))  # fmt: skip


def _skill() -> str:
    head = (
        "---\nname: twofold\ndescription: Write, test and operate applications on Twofold, the CQRS and event sourcing "
        "library for Python. Use it where `twofold` is imported, or where events, commands, projections or processes "
        "are asked for.\n---\n\n"
    )
    return head + _agents()


def _claim() -> str:
    text = (ROOT / "README.md").read_text("utf-8").split("\n\n")[1]
    return " ".join(text.replace("**", "").split())


def _sections() -> Iterator[tuple[str, list[Path]]]:
    yield "Begin", [ROOT / "docs/tutorial.md"]
    for title, folder in (("How to", "how-to"), ("Explanation", "explanation"), ("Reference", "reference")):
        yield title, sorted((ROOT / SITE / folder).glob("*.md"))


def _title(page: Path) -> str:
    return page.read_text("utf-8").splitlines()[0].removeprefix("# ")


def _first_sentence(page: Path) -> str:
    paragraphs = page.read_text("utf-8").split("\n\n")[1:]
    text = next(
        (
            " ".join(each.split())
            for each in paragraphs
            if each[:1].isalpha() or (each[:1] == "`" and each[:3] != "```")
        ),
        "",
    )
    return re.split(r"(?<=\.)\s", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))[0] or _title(page) + "."


def _last_of_each(shown: list[Block]) -> list[Block]:
    return list({block.title: block for block in shown}.values())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, "utf-8")
