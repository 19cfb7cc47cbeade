"""What pages say by name is there: commands of `twofold`, fields of options, extras, statuses of errors."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from _pytest.fixtures import FixtureFunctionDefinition
from tests.docs.pages import ROOT

import pytest_twofold
import twofold.options
from twofold.cli.commands import app
from twofold.fastapi.problems import STATUSES

PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
TYPED = re.compile(r"`(twofold [^`\n]+)`|^\s*(?:\$ )?(twofold [a-z][^\n]*)$", re.MULTILINE)
OPTION = re.compile(r"\b(\w*Options)(?:\.|\()(\w+)\b(?!\()")


def commands_of(text: str) -> list[str]:
    typed = [inline or whole for inline, whole in TYPED.findall(text)]
    parts = [part.split(" #")[0].strip() for each in typed for part in re.split(r"\|\||&&|[;|]", each)]
    return [part for part in parts if part.startswith("twofold ")]


def unknown_words(command: str) -> list[str]:
    """Return the verbs and options in a command of `twofold` that the program does not know."""
    try:
        words = shlex.split(command)[1:]
    except ValueError:  # a text that speaks of the command, and quotes something
        words = command.split()[1:]
    found: Any = app
    while words and words[0] in set(found):
        found = found[words.pop(0)]
    known = {"--help", "--install-completion"}
    if found.default_command:
        arguments = found.assemble_argument_collection(parse_docstring=False)
        known |= {name for argument in arguments for name in argument.names}
    verbs = [] if found.default_command or not words else [words[0]]
    options = [word.split("=")[0].rstrip(".,)]") for word in words if word.startswith("--")]
    return [each for each in verbs if re.fullmatch(r"[a-z-]+", each)] + [each for each in options if each not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_commands_and_options_that_there_are(page: Path) -> None:
    text = page.read_text("utf-8")
    assert {each: unknown for each in commands_of(text) if (unknown := unknown_words(each))} == {}
    classes = {name: cls for name, cls in vars(twofold.options).items() if dataclasses.is_dataclass(cls)}
    assert [
        f"{name}.{field}" for name, field in OPTION.findall(text)
        if name in classes and field not in {each.name for each in dataclasses.fields(classes[name])}
    ] == []  # fmt: skip


@pytest.mark.parametrize(
    ("command", "unknown"),
    [
        ("twofold events tails URL", ["tails"]),
        ("twofold verify URL --all", ["--all"]),
        ("twofold projections scale URL NAME 4", []),
    ],
)
def test_a_word_that_the_program_does_not_know_is_found(command: str, unknown: list[str]) -> None:
    assert unknown_words(command) == unknown


def test_the_readme_names_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [line] = re.findall(r"^Extras: .*$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", line)) == set(project["optional-dependencies"])


def test_the_page_of_fixtures_has_each_of_the_plug_in() -> None:
    page = (ROOT / "docs/how-to/test-an-application.md").read_text("utf-8")
    fixtures = {name for name, value in vars(pytest_twofold).items() if isinstance(value, FixtureFunctionDefinition)}
    assert set(re.findall(r"^\| `(twofold_\w+)`", page, re.MULTILINE)) == fixtures


def test_the_page_of_errors_over_http_has_every_status() -> None:
    page = (ROOT / "docs/how-to/answer-errors-over-http.md").read_text("utf-8")
    rows = re.findall(r"^\| (`\w+Error`.*?) \| (\d{3})", page, re.MULTILINE)
    said = {name: int(status) for names, status in rows for name in re.findall(r"`(\w+Error)`", names)}
    assert said == {error.__name__: status for error, status in STATUSES.items()}
