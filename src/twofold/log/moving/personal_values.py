"""The personal fields of events that are moved: opened for a transform, and encrypted again as what it returns.

What is encrypted is bound to the event's id and type. An event that gets another one of both, or whose personal fields
change, cannot keep the ciphertext: it would be found unreadable, or a field that was dropped would come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from twofold.log.codec.encrypt import Encryption, joined
from twofold.log.keys.keyring import DataKey
from twofold.log.moving.plain_event import PlainEvent, SourceEvent, encode, plain_event_of
from twofold.messages.stored_event import MARKER, StoredEvent, is_sealed


class Personal:
    """Opens the personal fields of the events of a source, and encrypts them again.

    Args:
        encryption: of the source; None: its keys are not known here.
    """

    def __init__(self, encryption: Encryption | None) -> None:
        self._encryption = encryption

    async def opened(self, rows: Sequence[StoredEvent]) -> Sequence[SourceEvent]:
        """Return rows as a transform gets them.

        Raises:
            KeyMissingError: the key store lacks a key that was not destroyed.
            UnreadableEventError: what is encrypted belongs to another event, or was changed.
            StorageError: the key store failed.
        """
        if self._encryption is not None:
            await self._encryption.fetch(rows)
        return [SourceEvent(event=plain_event_of(row, self._values(row)), stored=row) for row in rows]

    def payload(self, stored: StoredEvent, before: PlainEvent, event: PlainEvent, event_id: bytes) -> bytes:
        """Return the payload of an event that a transform has made of a stored one, and changed.

        Args:
            stored: what was read.
            before: what the transform got.
            event: what it made.
            event_id: of what it made.

        Raises:
            ValueError: personal values would be lost, or come back.
        """
        if MARKER in event.data:
            raise ValueError(
                f"its data has a field {MARKER!r}, which is Twofold's own; personal values are in `personal`"
            )
        if is_sealed(stored.payload) and self._encryption is None:
            raise ValueError(
                "its personal fields are encrypted, and bound to its id and its type; name the key store of the source "
                "(keys_url=…, or `--keys`), so that they are encrypted again"
            )
        _refuse_lost(before, event)
        personal = {
            key_id: (self._key(key_id), {name: msgspec.Raw(encode(value)) for name, value in values.items()})
            for key_id, values in event.personal.items()
            if values
        }
        public = encode(event.data)
        return joined(personal, event_id, event.type, public) if personal else public

    def _values(self, row: StoredEvent) -> Mapping[str, Mapping[str, Any]]:
        if self._encryption is None or not is_sealed(row.payload):
            return {}
        return self._encryption.values(row.type, row.event_id, row.payload, row.position)

    def _key(self, key_id: str) -> DataKey:
        if self._encryption is None:
            raise ValueError("it has `personal` values, and its source has no keys to encrypt them with")
        if (key := self._encryption.keys.keys([key_id])[key_id]) is None:
            raise ValueError(f"`personal` has values of a person who is forgotten: the key {key_id} is destroyed")
        return key


def _refuse_lost(before: PlainEvent, event: PlainEvent) -> None:
    """Refuse an event in which a personal value has no field, or a field has lost its personal value.

    Raises:
        ValueError: it is such.
    """
    kept = {name for values in event.personal.values() for name in values}
    if absent := sorted(kept - event.data.keys()):
        raise ValueError(
            f"`personal` has a value of {absent[0]!r}, and `data` has no such field; drop or rename it in both"
        )
    for name in sorted({name for values in before.personal.values() for name in values} - kept):
        if name in event.data and event.data[name] == before.data.get(name):
            raise ValueError(
                f"the personal value of {name!r} would be lost; pass it on (`dataclasses.replace` does), or drop the "
                f"field from `data`, too"
            )
