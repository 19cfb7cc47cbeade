"""What a successful write returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from twofold.messages.position import Position

T_co = TypeVar("T_co", covariant=True)

_START = Position()


@dataclass(frozen=True, kw_only=True, init=False)
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
    position: Position = _START
    """The position of the last event in the log."""
    types: tuple[str, ...] = ()
    """The stored names of the events' types."""
    tags: tuple[str, ...] = ()
    """The tags of the events."""
    repeated: bool = False
    """This call stored nothing, since an earlier one with the same id had done so; this is that one's receipt."""

    def __init__(
        self,
        *,
        value: T_co,
        stream_id: str = "",
        version: int = 0,
        position: Position = _START,
        types: tuple[str, ...] = (),
        tags: tuple[str, ...] = (),
        repeated: bool = False,
    ) -> None:
        # The one that `dataclass` makes for a frozen class takes twice as long, and every append makes a receipt.
        fields = vars(self)
        fields["value"] = value
        fields["stream_id"] = stream_id
        fields["version"] = version
        fields["position"] = position
        fields["types"] = types
        fields["tags"] = tags
        fields["repeated"] = repeated


def nothing_written(value: Any) -> Receipt[Any]:
    """Return the receipt of a command that had nothing to record."""
    receipt: Receipt[Any] = _new(Receipt)
    fields = receipt.__dict__
    fields.update(_NOTHING)
    fields["value"] = value
    return receipt


_new = object.__new__
_NOTHING = dict(vars(Receipt(value=None)))
