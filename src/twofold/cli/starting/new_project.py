"""`twofold new`: a project that runs and whose tests pass, to be changed into one's own."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from twofold.cli.output import Json, say, say_document

NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
SUFFIX = ".txt"
"""Ends the names of the templates, so that no tool takes them for code of Twofold."""
NEXT = """\
{folder} is made: {count} files. Go on with

  cd {folder}
  python -m venv .venv && source .venv/bin/activate
  pip install -e '.[dev]'  # until Twofold is on PyPI, first: pip install path/to/its/clone
  pytest
  uvicorn {package}.web:api --reload

and open http://127.0.0.1:8000/docs and http://127.0.0.1:8000/twofold/"""


def new(
    name: Annotated[str, Parameter(help="Of the project, such as my-shop; its folder is made here.")],
    /,
    *,
    into: Annotated[Path, Parameter(help="The folder in which the project's folder is made.")] = Path(),
    as_json: Json = False,
) -> None:
    """Make a project that runs: a domain, a read model, an HTTP application, a dashboard, tests, a Dockerfile and CI.

    Its example, a list of tasks, shows one of each: replace it with what your application is about.

    Example: `twofold new my-shop`
    """
    package = _package_of(name)
    folder = into / name
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"{folder} exists already; choose another name, or another folder with --into")
    _refuse_taken(name, package)
    made = list(_write(folder, name, package))
    if as_json:
        say_document({"folder": str(folder), "package": package, "files": made})
    else:
        say(NEXT.format(folder=folder, count=len(made), package=package))


def _package_of(name: str) -> str:
    """Return the name of a project's package, or refuse the project's name with one that it can have."""
    if not NAME.fullmatch(name):
        proposed = "-".join(re.findall(r"[a-z0-9]+", name.lower())).lstrip("0123456789-")
        remedy = f", such as {proposed}" if NAME.fullmatch(proposed) else ", such as my-shop"
        raise ValueError(f"{name!r} cannot be a project's name: write small letters, digits and hyphens{remedy}")
    return name.replace("-", "_")


def _refuse_taken(name: str, package: str) -> None:
    """Refuse a package that could not be imported, or that an installed one would hide or be hidden by."""
    is_word = keyword.iskeyword(package) or package in sys.stdlib_module_names or package == "tests"
    if is_word or find_spec(package) is not None:
        raise ValueError(f"the package {package!r} is one of Python's or of a library's; write {name}-app")


def _write(folder: Path, name: str, package: str) -> Iterator[str]:
    """Write all files of a project, and yield their names."""
    for path, template in _templates(files("twofold.cli.starting") / "project"):
        path = path.removesuffix(SUFFIX).replace("dot-", ".").replace("PACKAGE", package)
        text = template.read_text("utf-8").replace("PROJECT", name).replace("PACKAGE", package)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
        yield path


def _templates(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for each in sorted(folder.iterdir(), key=lambda found: found.name):
        if each.is_dir():
            yield from _templates(each, f"{prefix}{each.name}/")
        elif each.name.endswith(SUFFIX):
            yield prefix + each.name, each
