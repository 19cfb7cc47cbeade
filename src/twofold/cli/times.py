"""Times as operators write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from twofold.messages.event import utc_now

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def age(text: str, name: str) -> timedelta:
    """Return the age that a text says.

    Raises:
        ValueError: it says none; the text names the argument.
    """
    if not (parts := re.fullmatch(r"(\d{1,6})([dhms])", text)):
        raise ValueError(f"{name} {text!r} is no age; write 90d, 12h, 30m or 10s")
    return timedelta(**{_UNITS[parts[2]]: int(parts[1])})


def moment(text: str, name: str) -> datetime:
    """Return the time that a text says: an age before now, or a date with or without a time, in UTC by default.

    Raises:
        ValueError: it says none; the text names the argument.
    """
    if re.fullmatch(r"\d+[dhms]", text):
        return utc_now() - age(text, name)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{name} {text!r} is no time; write 2026-05-31, 2026-05-31T12:30:00+02:00, or an age such as 2h"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
