"""Payloads: the events of one class as JSON and back. What would not come back equal is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from twofold.errors import InvalidEventError, InvalidMessageTypeError, LimitExceededError
from twofold.log.codec.fidelity import compares_all, difference, field_names, is_equal
from twofold.log.codec.mutable_fields import refuse_mutable_parts
from twofold.log.codec.personal_fields import blind_fields, personal_groups
from twofold.log.codec.proofs import proof_of
from twofold.log.codec.stored_fields import knows_fields
from twofold.log.codec.stored_names import check_name
from twofold.log.codec.tags import Blind, Tags
from twofold.log.event_fields import check_record, is_pydantic, refuse_what_cannot_be_stored
from twofold.messages.event import EventType, event_type_of
from twofold.messages.stream import RESERVED

MAX_PAYLOAD = 16 * 1024 * 1024
"""Bytes of a payload, at most. A higher value makes one event delay all others for longer."""

encoder = msgspec.json.Encoder(order="deterministic")  # a set must encode alike on a retry in another process
_escaped_nul = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # and not an escaped backslash before the text u0000


class PayloadCodec:
    """What is worked out once per event class.

    Args:
        cls: the class.
        blind: gives the digest that takes the place of a personal value in a tag.

    Raises:
        InvalidMessageTypeError: its events cannot be stored as they are declared.
    """

    def __init__(self, cls: type, blind: Blind | None = None) -> None:
        self.cls = cls
        check_record(cls)
        self.stored: EventType = event_type_of(cls)
        check_name("stored name", self.stored.name)
        _refuse_reserved(self.stored, cls)
        self._records = refuse_what_cannot_be_stored(cls)
        refuse_mutable_parts(cls.__qualname__, cls, InvalidMessageTypeError)
        self._dump, self._load, self.convert, self.read = _serializer(cls)
        self.personal = personal_groups(cls)
        """The fields that are stored encrypted."""
        self.tags = Tags(cls, blind_fields(cls) if self.personal else frozenset(), blind)
        self._compares_all = all(map(compares_all, self._records))
        self._is_proven = _never if is_pydantic(cls) else proof_of(cls) or _never

    @property
    def names(self) -> tuple[str, ...]:
        """The stored names of the events: today's, then the former ones."""
        return self.stored.names

    def encode(self, event: object) -> bytes:
        """Return an event as JSON.

        Raises:
            InvalidEventError: it would not come back equal, or not at all; what cannot be read must not be stored.
            LimitExceededError: it is too large.
        """
        try:
            payload = self._dump(event)
            if not self._is_proven(event):
                self._compare(event, payload)
        except InvalidEventError:
            raise
        except Exception as error:  # msgspec's, pydantic's, or one of the user's constructor
            culprit = self._culprit(event)
            if self.is_personal(culprit):
                raise InvalidEventError(f"{culprit} cannot be stored: {type(error).__name__}") from None
            raise InvalidEventError(f"{culprit} cannot be stored: {error}") from error
        if len(payload) > MAX_PAYLOAD or b"\\" in payload:  # one character is found many times faster than six
            self._check(event, payload)
        return payload

    def encode_all(self, events: Sequence[object]) -> list[bytes]:
        """Encode events as `encode` does."""
        try:
            payloads = list(map(self._dump, events))
            for event, payload in zip(events, payloads, strict=True):
                if not self._is_proven(event):
                    self._compare(event, payload)
        except Exception:  # of whatever kind: what is wrong is found out one by one
            return [self.encode(event) for event in events]
        for event, payload in zip(events, payloads, strict=True):
            if len(payload) > MAX_PAYLOAD or b"\\" in payload:
                self._check(event, payload)
        return payloads

    def refuse_unreadable(self, placeholders: bytes) -> None:
        """Refuse an event that could not be read any more once its subject is forgotten.

        Raises:
            InvalidEventError: its class does not admit the placeholders.
        """
        if self._is_proven is not _never:
            return  # all that its fields admit can be read
        try:
            self._load(placeholders)
        except Exception as error:  # of a constructor of the user's, or of pydantic
            raise InvalidEventError(
                f"{self.cls.__name__} could not be read once its subject is forgotten: the class does not admit the "
                f"placeholders of its personal fields ({type(error).__name__}); choose others, or check less"
            ) from None

    def _compare(self, event: object, payload: bytes) -> None:
        back = self._load(payload)
        if self._compares_all and is_equal(back, event):
            return
        if found := difference(event, back, self.cls.__name__):
            place = found.partition(" ")[0]
            if self.is_personal(place):
                found = f"{place} would come back as another value, which is personal; declare the type that it has"
            raise InvalidEventError(f"{found}. Nothing was stored")

    def is_personal(self, place: str) -> bool:
        """Return whether a place, such as `OrderCreated.name`, may hold a personal value, which no text may show."""
        of_class = place in (self.cls.__name__, self.cls.__qualname__)
        names = [f"{self.cls.__name__}.{field.attribute}" for group in self.personal for field in group.fields]
        within = any(place == name or place.startswith((f"{name}.", f"{name}[")) for name in names)
        return within or (of_class and bool(names))

    def _culprit(self, event: object) -> str:
        """Return the name of the first field that cannot be encoded, or of the class, as the error's text says it."""
        for name in field_names(self.cls) or ():
            try:
                payload = self._dump_field(event, name)
            except Exception:
                return f"{self.cls.__name__}.{name}"
            if _escaped_nul.search(payload):
                return f"{self.cls.__name__}.{name}"
        return self.cls.__name__

    def _dump_field(self, event: Any, name: str) -> bytes:
        if is_pydantic(self.cls):
            return event.model_dump_json(include={name}).encode()  # type: ignore[no-any-return]
        return encoder.encode(getattr(event, name))

    def _check(self, event: object, payload: bytes) -> None:
        if len(payload) > MAX_PAYLOAD:
            raise LimitExceededError(
                f"{self.cls.__name__} takes {len(payload)} bytes, the limit is {MAX_PAYLOAD}; "
                f"store large content elsewhere and its address in the event"
            )
        if b"\\u0000" in payload and _escaped_nul.search(payload):
            refuse_nul(self._culprit(event), payload)


def refuse_nul(what: str, encoded: bytes) -> None:
    """Refuse JSON that PostgreSQL cannot keep.

    Raises:
        InvalidEventError: it holds a NUL character.
    """
    if _escaped_nul.search(encoded):
        raise InvalidEventError(f"{what} holds a NUL character, which PostgreSQL cannot keep in JSON; remove it")


def _never(event: object) -> bool:
    return False


_Serializer = tuple[Callable[[Any], bytes], Callable[[bytes], Any], Callable[[Any], Any], Callable[[bytes], Any]]


def _serializer(cls: type) -> _Serializer:
    """Return how to dump, load, convert from plain values, and read what is stored."""
    if is_pydantic(cls):
        load = cls.model_validate_json  # type: ignore[attr-defined]
        # A strict model reads a date or a tuple from JSON only, so that upcast payloads pass through JSON, too.
        return (
            lambda event: event.model_dump_json().encode(), load, lambda data: load(encoder.encode(data)),
            knows_fields(cls, load),
        )  # fmt: skip
    try:
        load = msgspec.json.Decoder(cls).decode
    except (TypeError, NameError) as error:
        raise InvalidMessageTypeError(f"{cls.__qualname__} cannot be stored: {error}") from error
    return encoder.encode, load, lambda data: msgspec.convert(data, cls), knows_fields(cls, load)


def _refuse_reserved(stored: EventType, cls: type) -> None:
    """Refuse a class of the application that is stored under a name of Twofold's own.

    Raises:
        InvalidMessageTypeError: it is one.
    """
    if cls.__module__.partition(".")[0] == "twofold":
        return
    if reserved := next((name for name in (stored.name, *stored.aliases) if name.startswith(RESERVED)), None):
        raise InvalidMessageTypeError(
            f"{cls.__qualname__} cannot be stored as {reserved!r}: names that begin with {RESERVED!r} are Twofold's "
            f"own; give it another one with @event_type(...)"
        )
