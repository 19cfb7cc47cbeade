"""What coding agents read is what the documentation says, and comes with the package."""

from __future__ import annotations

import pytest
from tests.docs.agents import FOLDER, TUTORIAL, files


@pytest.mark.parametrize("name", ["llms.txt", "AGENTS.md", "SKILL.md"])
def test_a_file_is_what_the_documentation_makes(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == files()[name], "run `make surface`"


def test_each_part_of_an_application_is_shown() -> None:
    shown = files()["AGENTS.md"]
    assert [name for name in TUTORIAL if f"`{name}`:" not in shown] == []
