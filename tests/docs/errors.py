"""The reference of the errors, made of the table of their codes.

`python -m tests.docs.errors` writes `docs/reference/errors.md`, which a test compares with the code.
"""

from __future__ import annotations

from pathlib import Path

from tests.docs.codes import rows

from twofold.error_codes import ERROR_CODES

FILE = Path(__file__).parents[2] / "docs/reference/errors.md"
HEAD = """# Errors

Every error of Twofold is a `TwofoldError` and has a `code`, which stays the same when its class is renamed. The command
line prints it at the end of an error, and with `--json` as `code`; a problem over HTTP has it as the member `code`. An
error that your own class derives from one of these has the code of that one. `twofold check` and `twofold doctor` have
[codes of their own](checks.md). Each code has a page with what happened, why, and what to do; `twofold explain TE304`
prints the same, for the release that is installed.

| code | error | what |
|---|---|---|
"""
TAIL = """
## Attributes

::: twofold.errors

::: twofold.error_codes
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(rows(ERROR_CODES)) + TAIL


if __name__ == "__main__":
    FILE.write_text(page(), "utf-8")
