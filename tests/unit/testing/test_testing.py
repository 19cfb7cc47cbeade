from __future__ import annotations

import subprocess
import sys

import pytest

import twofold.testing


@pytest.mark.parametrize(("name", "package"), [("EventLogConformance", "pytest"), ("event_log_machine", "hypothesis")])
def test_a_part_whose_package_is_missing_says_what_to_install(name: str, package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from twofold.testing import {name}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"twofold.testing.{name}" in run.stderr
    assert f"pip install {package}" in run.stderr


def test_the_package_by_itself_needs_neither() -> None:
    code = "import sys, twofold.testing; sys.exit(any(name in sys.modules for name in ('pytest', 'hypothesis')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        twofold.testing.Nothing  # noqa: B018
