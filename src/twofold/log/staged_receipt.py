"""What an append returns within a command handler."""

from __future__ import annotations

from typing import ClassVar, NoReturn, TypeVar

from twofold.errors import NotCommittedError
from twofold.messages.receipt import Receipt

T = TypeVar("T")


class NotCommitted:
    """What stands in place of a position that there is not yet. No encoder knows it, so that it asks what to do."""

    __slots__ = ("stream_id",)

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id


class StagedReceipt(Receipt[T]):
    """What an append, or a command, returns within a command handler: its events are stored when that has returned.

    It has no position and no version yet: asking for them raises `NotCommittedError`. The receipt that `execute`
    returns for the outermost command has both.
    """

    is_staged: ClassVar[bool] = True

    def __init__(self, value: T, stream_id: str, types: tuple[str, ...], tags: tuple[str, ...]) -> None:
        vars(self).update(value=value, stream_id=stream_id, types=types, tags=tags, repeated=False)
        # An encoder reads the attributes without asking the properties; it meets this there.
        vars(self)["position"] = NotCommitted(stream_id)

    @property
    def position(self) -> NoReturn:  # pyright: ignore[reportIncompatibleVariableOverride]
        """There is none yet.

        Raises:
            NotCommittedError: always.
        """
        raise NotCommittedError("position", self.stream_id)

    @property
    def version(self) -> NoReturn:  # pyright: ignore[reportIncompatibleVariableOverride]
        """There is none yet.

        Raises:
            NotCommittedError: always.
        """
        raise NotCommittedError("version", self.stream_id)

    def __repr__(self) -> str:
        return f"StagedReceipt(value={self.value!r}, stream_id={self.stream_id!r}, types={self.types!r})"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)
