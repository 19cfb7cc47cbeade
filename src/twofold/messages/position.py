"""Positions of the log, as receipts hold them and as `after=` takes them."""

from __future__ import annotations

import re
from typing import Self

_TEXT = re.compile(r"(\d{1,19})(?:-([0-9a-f]{32}))?", re.ASCII)


class Position(int):
    """How far the log has come: opaque, ordered, hashable, and the same text in every process.

    Compare positions, hand them to `after=`, and keep `position.text`; do not compute with them, and make none but with
    `Position.parse`. Wherever a position is taken, the `int` of an event's `position` is taken, too.
    """

    # A log in several partitions has positions that are no single number. Those will be another class of this
    # interface; a log in one partition keeps this one, whose values the log itself holds as plain ints.

    event_id: bytes
    """The id of the event that stands there, which tells the log from one with another history; empty: not known."""

    def __new__(cls, number: int = 0, event_id: bytes = b"") -> Self:
        """Make the position of a number; only the log and its tokens do."""
        position = int.__new__(cls, number)  # a third faster than with `super`; every receipt makes one
        position.event_id = event_id
        return position

    @property
    def text(self) -> str:
        """The position and the event that stands there, for a cookie, a header or a column."""
        return f"{int(self)}-{self.event_id.hex()}" if self.event_id else str(int(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the position that a text stands for.

        Raises:
            ValueError: the text is not that of a position.
        """
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(f"the text {text!r:.60} is no position; keep what `position.text` returned, unchanged")
        return cls(int(found[1]), bytes.fromhex(found[2] or ""))

    def __str__(self) -> str:
        return int.__repr__(self)

    def __repr__(self) -> str:
        return f"Position({self})"
