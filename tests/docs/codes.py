"""A page for each code of an error or a finding, made of what the code says of it.

`python -m tests.docs.codes` writes `docs/reference/codes`, which a test compares with the code. A page of a code that
is gone is not deleted, so that the test finds it: a code stays for ever.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.docs.surface import MODULES

import twofold.fastapi
from twofold import errors
from twofold.checks.explaining import Explanation, explain
from twofold.checks.findings import CODES
from twofold.error_codes import ERROR_CODES

FOLDER = Path(__file__).parents[2] / "docs/reference/codes"
BY_COMMAND = {
    "TF0": "twofold check",
    "TF1": "twofold check --log",
    "TF2": "twofold doctor",
    "TF3": "twofold schema check",
}
MOST = 12
"""Functions that a page names; an error that more raise is one of the storage, which any call may meet."""


def pages() -> dict[str, str]:
    """Return all pages, by the names of their files."""
    return {f"{code}.md": _page(explain(code)) for code in (*ERROR_CODES, *CODES)}


def rows(codes: Iterable[str]) -> Iterator[str]:
    """Yield a row of a table for each code, with the link to its page."""
    for code in codes:
        found = explain(code)
        yield f"| [{code}](codes/{code}.md) | {found.name} | {found.what} |\n"


def _page(found: Explanation) -> str:
    facts = "".join(f"\n*{name}:* {text}\n" for name, text in _facts(found))
    title = found.name if found.code in ERROR_CODES else found.what.rstrip(".")
    return (
        f"# {found.code}: {title}\n\n*What:* {found.what}\n\n*Why:* {found.why}\n\n*Fix:* {found.fix}\n{facts}\n"
        f"*In a terminal:* `twofold explain {found.code}`\n"
    )


def _facts(found: Explanation) -> Iterator[tuple[str, str]]:
    if found.code in CODES:
        yield "Found by", f"`{BY_COMMAND[found.code[:3]]}`, as {'an error' if found.name == 'error' else 'a warning'}"
        return
    raisers = _raisers().get(found.name, [])
    if raisers:
        more = "" if len(raisers) <= MOST else f", and {len(raisers) - MOST} more"
        yield "Raised by", ", ".join(f"`{each}`" for each in raisers[:MOST]) + more
    error = getattr(errors, found.name)
    statuses = [twofold.fastapi.STATUSES[cls] for cls in error.__mro__ if cls in twofold.fastapi.STATUSES]
    yield "Over HTTP", f"{statuses[0]}" if statuses else "500, unless your application gives it another status"


@cache
def _raisers() -> dict[str, list[str]]:
    """Return the public functions that name an error under `Raises:`, by the error."""
    found: dict[str, list[str]] = {}
    for name, thing in _public():
        _, _, raises = (inspect.getdoc(thing) or "").partition("Raises:\n")
        for line in raises.split("\n\n")[0].splitlines():
            names = re.match(r" {4}((?:\w+Error(?:, )?)+):", line)
            for error in names[1].split(", ") if names else ():
                if name not in found.setdefault(error, []):
                    found[error].append(name)
    return found


def _public() -> Iterator[tuple[str, Any]]:
    """Yield the public functions, classes and methods with their names; a name that several modules have comes once."""
    seen = set[str]()
    for module in map(import_module, MODULES):
        for name in sorted(getattr(module, "__all__", ())):
            thing = getattr(module, name)
            if name in seen or not callable(thing):
                continue
            seen.add(name)
            yield name, thing
            if inspect.isclass(thing) and thing.__module__.startswith("twofold"):
                for own, member in inspect.getmembers(thing):
                    if (
                        own[0] != "_"
                        and callable(member)
                        and str(getattr(member, "__module__", "")).startswith("twofold")
                    ):
                        yield f"{name}.{own}", member


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
