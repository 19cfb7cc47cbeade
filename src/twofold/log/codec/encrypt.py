"""The step of the codec that encrypts personal fields, and gives them back.

A payload with personal fields holds their placeholders where the fields stand, and behind all others `~personal`: for
each subject, the id of its key and the encrypted members of the payload.

    {"order_id":"o1","customer_id":"c1","name":"(forgotten)","~personal":{"<id>":"<base64>"}}

Readers append the decrypted members: of two members of one name, the last one counts. Those whose key is destroyed are
left out, so that the placeholders stay. What is encrypted is bound to the event's id, its type, the names of the fields
and the subject: it cannot be moved to another event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from twofold.errors import InvalidEventError, UnreadableEventError
from twofold.log.codec.personal_fields import MARKER, PersonalGroup
from twofold.log.keys.keyring import DataKey, KeyRing, refuse_forgotten
from twofold.messages.stored_event import StoredEvent
from twofold.tenants import current_tenant

_MEMBER = b',"' + MARKER.encode() + b'":'
_END = b'"}}'
_ID = len(_MEMBER) + len('{"')
"""Bytes from the beginning of the member to the id of its first key."""
_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_keys = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.Encoder().encode


_masked: ContextVar[bool] = ContextVar("twofold_masked", default=False)


@contextmanager
def masked() -> Iterator[None]:
    """Let personal fields be read as their placeholders within the block, as if all persons were forgotten.

    That holds for what is decoded and folded here, such as by `stream_state`; rows of read models are what they are.
    """
    token = _masked.set(True)
    try:
        yield
    finally:
        _masked.reset(token)


class Encryption:
    """Encrypts and decrypts the personal fields of payloads.

    Args:
        keys: of the subjects.
        tenants: whether each tenant has subjects of its own.
    """

    def __init__(self, keys: KeyRing, *, tenants: bool = False) -> None:
        self.keys = keys
        self._has_tenants = tenants

    def subjects(self, groups: Sequence[PersonalGroup], event: object) -> list[str]:
        """Return the subjects of an event, as keys are made for them."""
        return [self.subject(value) for group in groups if (value := getattr(event, group.subject)) is not None]

    def subject(self, value: object) -> str:
        """Return a subject as a key is made for it: each tenant has its own."""
        return f"{current_tenant('personal data')}/{value}" if self._has_tenants else str(value)

    def encrypt(
        self,
        groups: Sequence[PersonalGroup],
        event: object,
        event_id: bytes,
        type_name: str,
        payload: bytes,
        stream_name: str = "",
    ) -> tuple[bytes, bytes]:
        """Return a payload with its personal fields encrypted, and what is read of it after a forgetting.

        Raises:
            SubjectForgottenError: a subject is forgotten.
            InvalidEventError: a subject is missing, or a personal value names the stream.
            StorageError: the key store failed.
        """
        parts, sealed = _parts(payload), dict[str, str]()
        for group in groups:
            given = [
                each for each in group.fields if each.stored in parts and bytes(parts[each.stored]) != each.placeholder
            ]
            if not given:
                continue
            if stream_name and stream_name in [getattr(event, each.attribute) for each in given]:
                raise InvalidEventError(
                    f"a personal value of {type_name} is the name of its stream, which is stored in plain text; name "
                    f"the stream by the subject. Nothing was stored"
                )
            members = b",".join(_encode(each.stored) + b":" + bytes(parts[each.stored]) for each in given)
            key_id, encrypted = self._encrypted(group, event, event_id, type_name, members)
            sealed[key_id] = encrypted if key_id not in sealed else sealed[key_id] + " " + encrypted
            for each in given:
                parts[each.stored] = msgspec.Raw(each.placeholder)
        if not sealed:
            return payload, payload
        public = _encode(parts)
        return public[:-1] + _MEMBER + _encode(sealed) + b"}", public

    def _encrypted(
        self, group: PersonalGroup, event: object, event_id: bytes, type_name: str, members: bytes
    ) -> tuple[str, str]:
        if (value := getattr(event, group.subject)) is None:
            raise InvalidEventError(
                f"{type_name}.{group.fields[0].attribute} is personal, and {group.subject}, which says whose it is, is "
                f"None; give the subject. Nothing was stored"
            )
        key_id, found = self.keys.key_of(self.subject(value))
        key = refuse_forgotten(found, type_name, group.subject)
        return key_id, key.encrypt(members, _identity(event_id, type_name, key_id)).decode()

    def decrypt(self, type_name: str, event_id: bytes, payload: bytes, position: int, *, only: str = "") -> bytes:
        """Return a payload with its personal fields, or the placeholders of those that are forgotten.

        Args:
            type_name: the stored name of the event's type.
            event_id: of the event.
            payload: from the log.
            position: of the event, for the texts of errors.
            only: the id of the only key that is used; by default all are.

        Raises:
            UnreadableEventError: what is encrypted does not belong to this event, or was changed.
            KeyMissingError: the store lacks a key that was not destroyed.
            StorageError: the key store failed.
        """
        if payload[-3:] != _END or not (found := _split(payload)):
            return payload
        public, sealed = found
        keys = dict.fromkeys(sealed) if _masked.get() else self.keys.keys(sealed)
        for key_id, encrypted in sealed.items():
            if (key := keys[key_id]) is None or (only and key_id != only):
                continue
            for each in encrypted.split(" "):
                try:
                    public += b"," + key.decrypt(each.encode(), _identity(event_id, type_name, key_id))
                except Exception as error:  # the library's InvalidTag
                    raise UnreadableEventError(
                        type_name, position, 0, "its personal fields belong to another event, or were changed"
                    ) from error
        return public + b"}"

    def decrypt_all(self, rows: Sequence[StoredEvent]) -> list[bytes]:
        """Return the payloads of rows as `decrypt` does; the missing keys are read at once."""
        if _masked.get():
            return [self.decrypt(row.type, row.event_id, row.payload, row.position) for row in rows]
        ids = {each for row in rows if row.payload[-3:] == _END for each in _only_key_id(row.payload)}
        known = self.keys.keys(ids) if ids else {}
        decrypted = []
        for row in rows:
            payload = row.payload
            if payload[-3:] == _END:
                payload = self._decrypt_quickly(row, known)
            decrypted.append(payload)
        return decrypted

    def _decrypt_quickly(self, row: StoredEvent, known: Mapping[str, DataKey | None]) -> bytes:
        """Decrypt what has one subject, as nearly all events have, with few calls; all else as `decrypt` does."""
        payload = row.payload
        place = payload.rfind(_MEMBER)
        first = place + _ID
        key_id, encrypted = payload[first : first + 32], payload[first + 35 : -3]
        if place < 0 or payload[first + 32 : first + 35] != b'":"' or b'"' in encrypted or b" " in encrypted:
            return self.decrypt(row.type, row.event_id, payload, row.position)
        if (key := known.get(key_id.decode())) is None:
            return self.decrypt(row.type, row.event_id, payload, row.position)
        try:
            plain = key.decrypt(encrypted, row.event_id + row.type.encode() + b"\0" + key_id)
        except Exception:  # the text of the error is made there
            return self.decrypt(row.type, row.event_id, payload, row.position)
        return b"%b,%b}" % (payload[:place], plain)


def key_ids(payload: bytes) -> Sequence[str]:
    """Return the ids of the keys with which parts of a stored payload are encrypted."""
    found = _split(payload) if payload[-3:] == _END else None
    return list(found[1]) if found else ()


def _only_key_id(payload: bytes) -> Sequence[str]:
    """Return the id of the first key, at its place, if there is one."""
    place = payload.rfind(_MEMBER)
    first = place + _ID
    if place < 0 or payload[first + 32 : first + 35] != b'":"' or payload[-4:] == b'"}}}':
        return ()
    return (payload[first : first + 32].decode(),)


def _split(payload: bytes) -> tuple[bytes, dict[str, str]] | None:
    """Return a payload without its last bracket and what is encrypted, and that; None if nothing is.

    Within texts quotes are escaped, so that the marker is never found in one; nested values end with more brackets.
    """
    public, marker, rest = payload.rpartition(_MEMBER)
    if not marker or payload[-4:] == b'"}}}':
        return None
    try:
        return public, _keys(rest[:-1])
    except msgspec.DecodeError:  # a value of the application's own, of which the marker is a key
        return None


def _identity(event_id: bytes, type_name: str, key_id: str) -> bytes:
    """Return what is authenticated beside the fields, whose names are encrypted with them. stored."""
    return event_id + f"{type_name}\0{key_id}".encode()
