"""The reference of the errors, made of their docstrings and of the table of their codes.

`python -m tests.docs.errors` writes `docs/reference/errors.md`, which a test compares with the code.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from twofold import errors
from twofold.error_codes import ERROR_CODES

FILE = Path(__file__).parents[2] / "docs/reference/errors.md"
HEAD = """# Errors

Every error of Twofold is a `TwofoldError` and has a `code`, which stays the same when its class is renamed. The command
line prints it at the end of an error, and with `--json` as `code`; a problem over HTTP has it as the member `code`. An
error that your own class derives from one of these has the code of that one. `twofold check` and `twofold doctor` have
[codes of their own](checks.md).
"""
TAIL = """
## Attributes

::: twofold.errors

::: twofold.error_codes
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(_section(code) for code in ERROR_CODES) + TAIL


def _section(code: str) -> str:
    name, why, fix = ERROR_CODES[code]
    return f"\n## {code}\n\n**{name}**\n\n*What:* {_what(name)}\n\n*Why:* {why}\n\n*Fix:* {fix}\n"


def _what(name: str) -> str:
    """Return the first sentence of the docstring of a class."""
    text = " ".join((inspect.getdoc(getattr(errors, name)) or "").split())
    return re.split(r"(?<=\.)\s", text)[0]


if __name__ == "__main__":
    FILE.write_text(page(), "utf-8")
