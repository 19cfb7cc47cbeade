"""Names in the log: of streams, of their types, of events and tags; what every engine can store."""

from __future__ import annotations

from twofold.errors import LimitExceededError

MAX_NAME = 500
"""Characters of a name, at most. stored: a lower limit makes what is stored unreadable."""


def check_name(what: str, name: str, parameter: str = "") -> None:
    """Refuse a name that an engine could not store; the text names the parameter that was given, if it was one.

    Raises:
        TypeError: it is no text.
        LimitExceededError: it is empty, too long, or holds a NUL character or half of a surrogate pair.
    """
    if not isinstance(name, str):
        raise TypeError(f"a {what} is a text, got {name!r:.60}")
    if not 0 < len(name) <= MAX_NAME or not can_be_stored(name):
        given = f"`{parameter}`: " if parameter else ""
        raise LimitExceededError(f"{given}a {what} has 1 to {MAX_NAME} characters and no NUL; got {name[:60]!r}")


def can_be_stored(text: str) -> bool:
    """Return whether every engine can hold a text: it has no NUL character and no half of a surrogate pair."""
    return "\0" not in text and (text.isascii() or _is_encodable(text))


def _is_encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
