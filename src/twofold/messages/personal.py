"""Personal data: how the fields of an event say whose they are, and the event that tells that a person is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from twofold.arguments import check_flag, check_text
from twofold.messages.event import event_type
from twofold.messages.stream import RESERVED


@dataclass(frozen=True)
class Personal:
    """Mark an event's field as personal: `email: Annotated[str, Personal(placeholder="(forgotten)")]`.

    The field is stored encrypted with the key of its subject. When the subject is forgotten, readers get the
    placeholder.

    Args:
        placeholder: what is read instead; a value that the field admits. It is stored in plain text.
        subject: the name of the event's field that says whose it is; by default the one that is marked with
            `Subject()`.
        blind: whether the field may be a tag: the tag is then a digest, made with a secret key. It stays when the
            subject is forgotten.
    """

    placeholder: Any = "(forgotten)"
    subject: str | None = None
    blind: bool = False

    def __post_init__(self) -> None:
        if self.subject is not None:
            check_text("subject", self.subject)
        check_flag("blind", self.blind)


@dataclass(frozen=True)
class Subject:
    """Mark the event's field that says whose the personal fields are: `customer_id: Annotated[str, Subject()]`.

    Let it be an id that has no meaning, such as a UUID: it is stored in plain text, and stays.
    """


@event_type(f"{RESERVED}SubjectForgotten")
class SubjectForgotten(msgspec.Struct, frozen=True):
    """A person was forgotten: the key of the personal fields is destroyed. It names no person."""

    subject: str
    """The digest of the subject, as it stands beside the encrypted fields."""
    number: int
    """How many subjects were forgotten up to this one."""
