"""Failures of the user's code: which errors are not, and what is stored of those that are."""

from __future__ import annotations

import traceback

from twofold.errors import OutcomeUnknownError, StorageError

INFRASTRUCTURE = (StorageError, OutcomeUnknownError)
"""Errors that no event is to blame for."""
MAX_CAUSE, MAX_TRACEBACK = 1000, 20_000
"""Characters that are stored of an error, at most."""


def described(error: BaseException | None) -> tuple[str, str]:
    """Return the cause and the traceback of an error, as they are stored, whatever the error is made of."""
    if error is None:
        return "", ""
    name = type(error).__name__
    try:
        cause = f"{name}: {error}"
    except Exception as also:  # its text is the user's code
        cause = f"{name}, whose text cannot be had: {type(also).__name__}"
    trace = "".join(traceback.format_exception(error))
    return storable(cause, MAX_CAUSE), storable(trace, MAX_TRACEBACK)


def storable(text: str, limit: int) -> str:
    """Return text that every engine can store; of a long one, its beginning and its end."""
    if len(text) > limit:
        text = f"{text[: limit // 2]} […] {text[-limit // 2 :]}"
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
