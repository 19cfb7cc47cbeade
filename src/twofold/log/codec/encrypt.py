"""The step of the codec that encrypts personal fields, and gives them back.

A payload with personal fields holds their placeholders where the fields stand, and before all others `~personal`: the
id of the subject's key, and the encrypted members of the payload.

    {"~personal":{"<id>":"<base64>"},"order_id":"o1","customer_id":"c1","name":"(forgotten)"}

With several subjects it is a list of such objects. It stands first, and the id at the same place in each payload, as
nearly all events have one subject: a reader finds it without a search.

Readers append the decrypted members: of two members of one name, the last one counts. Those whose key is destroyed are
left out, so that the placeholders stay. What is encrypted is bound to the event's id, its type, the names of the fields
and the subject, whose key it is: it cannot be moved to another event.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import msgspec

from twofold.errors import InvalidEventError, SubjectForgottenError, UnreadableEventError
from twofold.log.codec.personal_fields import PersonalGroup
from twofold.log.keys.keyring import DataKey, KeyRing
from twofold.messages.stored_event import SEALED, StoredEvent, is_sealed
from twofold.messages.stream import RESERVED
from twofold.tenants import current_tenant

_MEMBER_END = len(SEALED)
_BEGIN = SEALED + b'{"'
_ID = len(_BEGIN)
"""Bytes before the id of the only key."""
_ID_END = _ID + 32
_TEXT = _ID_END + len('":')
"""Bytes before the base64 of what is encrypted, with its quotation mark."""
Members = dict[str, msgspec.Raw]
"""The members of a payload, by their names."""
members_of = msgspec.json.Decoder(Members).decode
_bytes = msgspec.json.Decoder(bytes).decode  # four times as fast as `binascii`
_sealed = msgspec.json.Decoder(list[dict[str, bytes]]).decode
_encode = msgspec.json.Encoder().encode
_any_id = re.compile(rb'[{]"([0-9a-f]{32})":"')


class Sealed(NamedTuple):
    """A stored payload, taken apart."""

    parts: Sequence[tuple[str, bytes]]
    """The ids of keys, and what is encrypted with them."""
    public: bytes
    """The payload without what is encrypted."""


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
        public = members_of(payload)
        personal: dict[str, tuple[DataKey, Members]] = {}  # an alias of a type that is called takes a fifth of it all
        for group in groups:
            given: Members = {}
            for _, name, placeholder in group.fields:
                if (value := public.get(name, placeholder)) != placeholder:
                    given[name], public[name] = value, placeholder
            if not given:
                continue
            if stream_name:
                _refuse_name(group, event, type_name, stream_name)
            key_id, key = self._key_of(group, event, type_name)
            if key_id in personal:  # another group's subject is the same person
                given |= personal[key_id][1]
            personal[key_id] = key, given
        if not personal:
            return payload, payload
        placeholders = _encode(public)
        return joined(personal, event_id, type_name, placeholders), placeholders

    def _key_of(self, group: PersonalGroup, event: object, type_name: str) -> tuple[str, DataKey]:
        if (value := getattr(event, group.subject)) is None:
            raise InvalidEventError(
                f"{type_name}.{group.fields[0].attribute} is personal, and {group.subject}, which says whose it is, is "
                f"None; give the subject. Nothing was stored"
            )
        key_id, key = self.keys.key_of(self.subject(value) if self._has_tenants else str(value))
        if key is None:
            raise SubjectForgottenError(type_name, group.subject)
        return key_id, key

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
        if not is_sealed(payload):
            return payload
        sealed = _split(type_name, payload, position)
        opened = self._opened(sealed, type_name, event_id, position, only) if not _masked.get() else ()
        return b",".join([sealed.public[:-1], *(plain for _, plain in opened)]) + b"}"

    def _opened(
        self, sealed: Sealed, type_name: str, event_id: bytes, position: int, only: str = ""
    ) -> Iterator[tuple[str, bytes]]:
        keys, identity = self.keys.keys([key_id for key_id, _ in sealed.parts]), identity_of(event_id, type_name)
        for key_id, encrypted in sealed.parts:
            if (key := keys[key_id]) is None or (only and key_id != only):
                continue
            try:
                yield key_id, key.decrypt(encrypted, identity)
            except Exception as error:  # the library's InvalidTag
                raise _changed(type_name, position) from error

    def values(self, type_name: str, event_id: bytes, payload: bytes, position: int) -> dict[str, dict[str, Any]]:
        """Return the personal fields of a stored payload, by the ids of their keys; none of those that are destroyed.

        Raises what `decrypt` raises.
        """
        opened = self._opened(_split(type_name, payload, position), type_name, event_id, position)
        return {key_id: msgspec.json.decode(b"{" + plain + b"}") for key_id, plain in opened}

    async def fetch(self, rows: Sequence[StoredEvent]) -> None:
        """Have the keys of rows at hand, read at once and away from the event loop: decoding them then asks no store.

        Raises:
            KeyMissingError: the store lacks a key that was not destroyed.
            StorageError: the key store failed.
        """
        if _masked.get():
            return
        if (missing := self.missing(rows)) or self.keys.is_due:
            await self.keys.fetch(missing)

    def missing(self, rows: Sequence[StoredEvent]) -> set[str]:
        """Return the ids of the keys of rows that this process does not have yet."""
        known, wanted = self.keys.known, set[str]()
        for row in rows:
            payload = row.payload
            if payload[:_ID] == _BEGIN:
                wanted.add(payload[_ID:_ID_END].decode())
            elif payload[:_MEMBER_END] == SEALED:
                wanted.update(key_ids(payload))
            elif row.type[:1] == RESERVED[:1]:
                wanted.update(all_key_ids(row))
        return wanted.difference(known)

    def decrypt_all(self, rows: Sequence[StoredEvent]) -> list[bytes]:
        """Return the payloads of rows as `decrypt` does, in about the time that the cipher takes."""
        if _masked.get():
            return [self.decrypt(row.type, row.event_id, row.payload, row.position) for row in rows]
        self.keys.refresh()
        known, decrypted, type_name, stored_name = self.keys.known, list[bytes](), "", b""
        for row in rows:
            payload = row.payload
            if payload[:_ID] == _BEGIN:
                if row.type != type_name:  # most are of the type of the one before
                    type_name, stored_name = row.type, row.type.encode()
                end = payload.find(b'"}', _TEXT) + 1
                try:
                    given = _bytes(payload[_TEXT:end])
                    plain = known[
                        payload[_ID:_ID_END].decode()
                    ].open(  # type: ignore[union-attr]
                        given[:12], given[12:], row.event_id + stored_name
                    )
                    payload = b"{" + payload[end + 2 : -1] + b"," + plain + b"}"
                except Exception:  # a key that is destroyed, or an error, whose text is made there
                    payload = self.decrypt(row.type, row.event_id, payload, row.position)
            elif payload[:_MEMBER_END] == SEALED:
                payload = self.decrypt(row.type, row.event_id, payload, row.position)
            decrypted.append(payload)
        return decrypted


def joined(
    personal: Mapping[str, tuple[DataKey, Members]], event_id: bytes, type_name: str, placeholders: bytes
) -> bytes:
    """Return a payload with what is personal encrypted.

    Args:
        personal: the keys, by their ids, each with the members that are encrypted with it.
        event_id: of the event, to which they are bound.
        type_name: the stored name of its type, to which they are bound, too.
        placeholders: the payload that is read after a forgetting.
    """
    identity = identity_of(event_id, type_name)
    if len(personal) == 1:
        [(key_id, (key, members))] = personal.items()
        sealed = _sealed_part(key_id, key, members, identity)
    else:
        sealed = b"[%b]" % b",".join([_sealed_part(key_id, *each, identity) for key_id, each in personal.items()])
    return b"%b%b,%b" % (SEALED, sealed, placeholders[1:])


def _sealed_part(key_id: str, key: DataKey, members: Members, identity: bytes) -> bytes:
    return b'{"%b":%b}' % (key_id.encode(), _encode(key.encrypt(_encode(members)[1:-1], identity)))


def sealed_of(payload: bytes) -> Sealed:
    """Return a stored payload taken apart; without parts if nothing of it is encrypted.

    Raises:
        ValueError, MsgspecError: it was changed.
    """
    if not is_sealed(payload):
        return Sealed((), payload)
    last = b'"}' if payload.startswith(_BEGIN) else b'"}]'
    end = payload.index(last) + len(last)
    given = payload[_MEMBER_END:end]
    parts = _sealed(given if len(last) > 2 else b"[" + given + b"]")
    return Sealed([each for part in parts for each in part.items()], b"{" + payload[end + 1 :])


def key_ids(payload: bytes) -> Sequence[str]:
    """Return the ids of the keys with which parts of a stored payload are encrypted; none if it was changed."""
    try:
        return [key_id for key_id, _ in sealed_of(payload).parts]
    except (ValueError, msgspec.MsgspecError):
        return ()


def all_key_ids(row: StoredEvent) -> Sequence[str]:
    """Return what `key_ids` does, and the ids in an event that a step of a process keeps."""
    if row.type.startswith(RESERVED) and SEALED in row.payload:
        return [each.decode() for each in _any_id.findall(row.payload)]
    return key_ids(row.payload)


def identity_of(event_id: bytes, type_name: str) -> bytes:
    """Return what is authenticated beside the fields, whose names are encrypted with them. stored."""
    return event_id + type_name.encode()


def _refuse_name(group: PersonalGroup, event: object, type_name: str, stream_name: str) -> None:
    """Refuse an event whose stream has a personal value as its name.

    Raises:
        InvalidEventError: it is one.
    """
    if stream_name in [getattr(event, each.attribute) for each in group.fields]:
        raise InvalidEventError(
            f"a personal value of {type_name} is the name of its stream, which is stored in plain text; name "
            f"the stream by the subject. Nothing was stored"
        )


def _split(type_name: str, payload: bytes, position: int) -> Sealed:
    try:
        return sealed_of(payload)
    except (ValueError, msgspec.MsgspecError) as error:
        raise _changed(type_name, position) from error


def _changed(type_name: str, position: int) -> UnreadableEventError:
    return UnreadableEventError(type_name, position, 0, "its personal fields belong to another event, or were changed")
