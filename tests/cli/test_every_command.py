"""What every command keeps to: an example, JSON for programs, a question before what cannot be undone."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App
from tests.cli.typed import Fails, Twofold

import twofold
from twofold.cli.commands import app
from twofold.error_codes import ERROR_CODES

DANGEROUS = {
    ("parked", "skip"): ["sqlite:///a.db", "x", "1", "--reason", "x"],
    ("parked", "skip-row"): ["sqlite:///a.db", "x", "a", "--reason", "x"],
    ("projections", "set-position"): ["sqlite:///a.db", "x", "1"],
    ("projections", "rewind"): ["sqlite:///a.db", "x"],
    ("projections", "drop-previous"): ["sqlite:///a.db", "x"],
    ("processes", "cancel"): ["sqlite:///a.db", "x", "a", "--reason", "x"],
    ("processes", "restore"): ["sqlite:///a.db", "x"],
    ("cancel-rebuild",): ["a:b", "x"],
    ("stream", "tombstone"): ["sqlite:///a.db", "s-1", "--reason", "x", "--by", "x"],
    ("retention", "apply"): ["sqlite:///a.db", "--rules", "none.toml", "--by", "x"],
    ("privacy", "forget"): ["a:b", "c1", "--reason", "x", "--by", "x"],
}
"""Commands whose effects cannot be undone, with arguments for each."""
COUNTS_FIRST = {("commands", "prune"), ("processes", "prune"), ("tags", "add")}
"""Commands that only tell what they would do, without --yes."""


def commands(parent: App = app, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command of the tree with its function."""
    if path and parent.default_command is not None:
        yield path, parent.default_command
    for name in parent:
        if not name.startswith("-"):
            yield from commands(parent[name], (*path, name))


TREE = dict(commands())
PAGES = Path(__file__).parents[2] / "docs"


def test_the_tree_is_walked() -> None:
    assert len(TREE) > 35
    assert {*DANGEROUS, *COUNTS_FIRST} <= set(TREE)


def texts(source: Path) -> Iterator[str]:
    """Yield each text of a module as it is shown, with "…" for what is filled in, or a whole page."""
    if source.suffix == ".md":
        yield source.read_text("utf-8")
        return
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def leads_to_a_command(named: str) -> bool:
    """Tell whether words after `twofold` name a command, with or without arguments, or all those of a group."""
    words, node = named.split(), app
    while words and re.fullmatch("[a-z][a-z-]*", words[0]) and words[0] in node:
        node = node[words.pop(0)]
    if words and words[0] == "…":
        return node is not app
    is_group = any(not name.startswith("-") for name in node)
    return node.default_command is not None and not (is_group and words and words[0].isalpha() and words[0].islower())


def test_each_command_that_a_text_or_a_page_names_is_there() -> None:
    root, found = Path(twofold.__file__).parent, []
    sources = [*root.rglob("*.py"), *PAGES.rglob("*.md")]
    for source in sources:
        for text in texts(source):
            found += [(source.name, named) for named in re.findall(r"`twofold ([a-z][^`]*)`", text)]
    assert len(found) > 60
    assert [each for each in found if not leads_to_a_command(each[1])] == []


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_a_command_has_an_example_and_prints_json(twofold: Twofold, path: tuple[str, ...]) -> None:
    done = twofold(*path, "--help")
    assert done.returncode == 0
    shown = " ".join(done.stdout.replace("│", " ").split())
    assert f"twofold {' '.join(path)} " in shown.partition("Example")[2]
    assert "--json" in shown


def test_exit_codes_colours_and_completion_are_told_on_the_first_page(twofold: Twofold) -> None:
    shown = " ".join(twofold("--help").stdout.split())
    for word in ("0 if all is well, 1 if not, 2 if", "130 after Ctrl-C", "--json", "--yes", "NO_COLOR"):
        assert word in shown
    assert "--install-completion" in shown


@pytest.mark.parametrize("path", DANGEROUS, ids=" ".join)
def test_what_cannot_be_undone_is_not_done_without_yes(
    fails: Fails, path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "which cannot be undone; to do so, add --yes" in fails(*path, *DANGEROUS[path])
    assert list(tmp_path.iterdir()) == []


def test_each_command_that_takes_yes_is_known_here() -> None:
    taking = {path for path, function in TREE.items() if "yes" in inspect.signature(function).parameters}
    assert taking == {*DANGEROUS, *COUNTS_FIRST}


def test_json_is_the_same_facts_for_commands_that_tell_a_sentence(twofold: Twofold, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    for arguments, expected in (
        (["migrate", url], {"migration": 1}),
        (["verify", url], {"events": 0, "snapshots": 0}),
        (["snapshots", "delete", url], {"deleted": 0}),
        (["commands", "prune", url], {"found": 0, "removed": 0}),
    ):
        assert json.loads(twofold(*arguments, "--json").stdout) == expected
    assert json.loads(twofold("status", url, "--json").stdout)["head"] == 0
    for silent in (["projections", url], ["processes", url], ["snapshots", "list", url], ["parked", "list", url]):
        done = twofold(*silent, "--json")
        assert (done.returncode, done.stdout) == (0, "")


def test_an_error_ends_with_its_code_and_is_json_where_json_was_asked_for(twofold: Twofold, tmp_path: Path) -> None:
    absent = f"sqlite:///{tmp_path}/absent/a.db"
    plain, as_json = twofold("status", absent), twofold("status", absent, "--json")
    assert (plain.returncode, as_json.returncode, as_json.stdout) == (1, 1, "")
    told = json.loads(as_json.stderr)
    assert told["code"] in ERROR_CODES
    assert plain.stderr == f"twofold: {told['error']} [{told['code']}]\n"
    assert json.loads(twofold("status", "nosuch://x", "--json").stderr)["code"] is None


def test_colours_are_left_out_where_they_are_not_wanted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    environment = {**os.environ, "NO_COLOR": "1", "FORCE_COLOR": ""}
    command = [sys.executable, "-m", "twofold", "doctor", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert "TF201" in done.stdout
    assert "\x1b[3" not in done.stdout


def test_a_completion_for_the_shell_is_written(tmp_path: Path) -> None:
    file = tmp_path / "completion"
    command = [sys.executable, "-m", "twofold", "--install-completion", "--shell", "bash", "--output", str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    assert "parked" in file.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ("at", "0", "tests.cli.test_past:build"),
        ("check", "tests.cli.test_past:build", "--log"),
        ("stream", "show", "tests.cli.test_past:build", "account-a"),
        ("snapshots", "verify", "tests.cli.test_past:build"),
        ("tags", "add", "tests.cli.test_past:build", "Deposited"),
    ],
    ids=" ".join,
)
def test_a_command_that_looks_makes_no_file_of_a_misspelt_name(
    twofold: Twofold, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = twofold(*arguments, "--url", f"sqlite:///{tmp_path}/misspelt.db")
    assert done.returncode == 1
    assert "misspelt.db" in done.stderr
    assert list(tmp_path.iterdir()) == []
