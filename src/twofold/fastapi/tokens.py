"""Consistency tokens: what a client has written, in a form that it can send back to any process."""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from struct import Struct

from twofold.errors import InvalidTokenError
from twofold.log.event_store import EventStore
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.position import Position
from twofold.messages.session import MAX_MARKS, WriteToken

_HEAD = Struct(">BQ16s")  # what kind of token it is, the position, and the event that stands there; 0: not known
_MARKS, _ALL = 1, 2  # stored in clients: the marks follow; or there are none, anything may have been written
_SEAL = 8
_LONGEST = 4 * -(-(_HEAD.size + 4 * MAX_MARKS + _SEAL) // 3)


class Tokens:
    """Makes and checks the tokens of one log.

    A token is sealed with the id of the log's first event. So every process that reads the log can check it, with
    nothing to configure, and a token that is damaged, made up or of another log is told at once. It is no secret and
    gives no right: all that one could do with a forged one is to wait, for as long as the server allows.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._key = b""
        self._head = self._losses = 0

    async def write(self, written: WriteToken) -> str | None:
        """Return the token for what was written; None while the log is empty.

        Raises:
            StorageError: the database failed.
        """
        if written.position > self._head:
            self._head = int(written.position)
        if not (key := self._known_key() or await self._sealing_key()):
            return None
        kind, marks = (_ALL, frozenset[int]()) if written.marks is None else (_MARKS, written.marks)
        head = _HEAD.pack(kind, written.position, Mark.of(written.position).event_id)
        body = head + b"".join(mark.to_bytes(4, "big") for mark in sorted(marks))
        return urlsafe_b64encode(body + _seal(body, key)).decode().rstrip("=")

    async def read(self, token: str) -> WriteToken:
        """Return what a token stands for.

        Raises:
            InvalidTokenError: it is none of this log's, is of another history of it, or names a position that the log
                has not reached.
            StorageError: the database failed.
        """
        data = _decoded(token)
        body, seal = data[:-_SEAL], data[-_SEAL:]
        key = self._known_key() or await self._sealing_key()
        if not key or not hmac.compare_digest(seal, _seal(body, key)):
            raise InvalidTokenError("the consistency token is damaged, or comes from another log; go on without it")
        kind, number, event_id = _HEAD.unpack_from(body)
        position = Position(number, event_id if any(event_id) else b"")
        if position > self._head:
            self._head = max(self._head, await self._store.head())
        if position > self._head:
            raise InvalidTokenError(f"the consistency token is from the future: the log ends at {self._head}")
        await self._store.known_positions.compare(position)
        return WriteToken(position, _marks(body[_HEAD.size :]) if kind == _MARKS else None)

    async def check_storage(self) -> None:
        """Make sure that the log can be read.

        Raises:
            StorageError: it cannot.
        """
        self._head = max(self._head, await self._store.head())

    def _known_key(self) -> bytes:
        """Return the key if the log is still the one whose key it is."""
        return self._key if self._losses == self._store.log.times_set_back else b""

    async def _sealing_key(self) -> bytes:
        if self._losses != self._store.log.times_set_back:  # it may be another log by now
            self._key, self._head, self._losses = b"", 0, self._store.log.times_set_back
        if not self._key and (first := await self._store.log.read(EventQuery.all(), limit=1)):
            self._key = first[0].event_id
        return self._key


def _marks(packed: bytes) -> frozenset[int]:
    return frozenset(int.from_bytes(packed[at : at + 4], "big") for at in range(0, len(packed), 4))


def _seal(body: bytes, key: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_SEAL, person=b"twofold-token").digest()


def _decoded(token: str) -> bytes:
    try:
        if len(token) > _LONGEST or not token.isascii():
            raise ValueError
        data = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        data = b""
    if len(data) < _HEAD.size + _SEAL:
        raise InvalidTokenError("this is no consistency token; send back what an earlier response carried, unchanged")
    return data
