"""What a code of an error or of a finding means: what happened, why, and what to do."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from twofold import errors
from twofold.checks.findings import CODES
from twofold.error_codes import ERROR_CODES


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What is known of a code."""

    code: str
    name: str
    """The class of the error; of a finding, its level."""
    what: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.code} {self.name}\n\nWhat: {self.what}\n\nWhy: {self.why}\n\nFix: {self.fix}\n"


def explain(code: str) -> Explanation:
    """Return what a code means, such as `TE304` of an error, or `TF003` of a finding.

    Raises:
        ValueError: there is no such code.
    """
    code = code.strip().upper().partition(":")[0]
    if code in ERROR_CODES:
        name, why, fix = ERROR_CODES[code]
        return Explanation(code=code, name=name, what=_what(name), why=why, fix=fix)
    if code in CODES:
        level, what, why, fix = CODES[code]
        return Explanation(code=code, name=level, what=what, why=why, fix=fix)
    raise ValueError(
        f"there is no code {code!r}; those of errors are TE000 to {max(ERROR_CODES)}, those of findings "
        f"TF001 to {max(CODES)}"
    )


def _what(name: str) -> str:
    """Return the first sentence of the docstring of a class of errors."""
    text = " ".join((inspect.getdoc(getattr(errors, name)) or "").split())
    return re.split(r"(?<=\.)\s", text)[0]
