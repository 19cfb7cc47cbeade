"""What a successful write returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from twofold.messages.position import Position

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Receipt(Generic[T_co]):
    """Proof of a durable append, and the token with which a query can ask to see it.

    A command that had nothing to record gets a receipt at position 0, which is visible everywhere.
    """

    is_staged: ClassVar[bool] = False
    """Whether the events are still to be stored, together with the command that is being handled."""

    value: T_co
    """What the command handler returned."""
    stream_id: str = ""
    """The stream of the last event; empty if it belongs to none."""
    version: int = 0
    """The version of that stream after the append."""
    position: Position = Position()  # noqa: RUF009 - it is immutable
    """The position of the last event in the log."""
    types: tuple[str, ...] = ()
    """The stored names of the events' types."""
    tags: tuple[str, ...] = ()
    """The tags of the events."""
    repeated: bool = False
    """This call stored nothing, since an earlier one with the same id had done so; this is that one's receipt."""
