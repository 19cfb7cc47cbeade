"""The command line, run in this process."""

from __future__ import annotations

import re

import pytest
from tests.cli.failing_projections import Fussy, project
from tests.cli.typed import Done, Fails, Twofold
from tests.synchronizing import deposited, opened

from twofold.cli import run

CODE = re.compile(r" \[TE\d{3}\]$")
"""The code of an error, which `tests/cli/test_every_command.py` looks at."""


@pytest.fixture
def twofold(capsys: pytest.CaptureFixture[str]) -> Twofold:
    """Run the command in this process."""

    def run_it(*arguments: str) -> Done:
        capsys.readouterr()
        code = run(arguments)
        return Done(code, *capsys.readouterr())

    return run_it


@pytest.fixture
def fussy(url: str) -> str:
    """Return the address of a database where events 3 and 4 of the account a are parked."""
    project(url, Fussy(), opened("a"), opened("b"), deposited("a", 13), deposited("a", 5), deposited("b", 7))
    return url


@pytest.fixture
def fails(twofold: Twofold) -> Fails:
    """Run a command that is to fail, and return its one line of complaint."""

    def fail(*arguments: str, code: int = 1) -> str:
        done = twofold(*arguments)
        assert (done.returncode, done.stdout) == (code, ""), done
        (line,) = done.stderr.splitlines()
        assert line.startswith("twofold: ")
        return CODE.sub("", line.removeprefix("twofold: "))

    return fail
