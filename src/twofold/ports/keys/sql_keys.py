"""The key store on a SQL database: the statements are the same on each engine, which offers its sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from twofold.ports.keys import Forgotten, StoredKey
from twofold.ports.sql import sql_blocks

Run = Callable[..., Sequence[Sequence[Any]]]
"""Runs a statement with named parameters and returns its rows."""


class KeySession(Protocol):
    """A connection to the database of the keys. Its methods raise `StorageError`, as those of the store do."""

    bytes_type: str
    """The type of a column of bytes."""
    ids: str
    """The query that makes rows of the JSON array `:ids`."""

    def open(self, make: str) -> None:
        """Open the connection and run the statements that make what is missing; may be repeated."""

    def close(self) -> None:
        """Close it; may be repeated."""

    def read(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Return the rows of a query."""

    def writing(self) -> AbstractContextManager[Run]:
        """Open a transaction with which no other one writes at a time; leaving it commits durably."""

    def purge(self) -> None:
        """Free the space of what was destroyed and replaced."""


class SqlKeyStore:
    """A `KeyStore` on a SQL database.

    Args:
        session: the connection to it.
    """

    def __init__(self, session: KeySession) -> None:
        self._session = session
        self._sql = sql_blocks("twofold.ports.keys", "keys.sql", bytes=session.bytes_type, ids=session.ids)

    def open(self) -> None:
        """Open the store, and make it if there is none."""
        self._session.open(self._sql["make"])

    def close(self) -> None:
        """Close the store."""
        self._session.close()

    def find(self, ids: Sequence[str]) -> Sequence[StoredKey]:
        """Return the keys that there are for ids."""
        return _keys(self._session.read(self._sql["find"], ids=_array(ids)))

    def add(self, keys: Sequence[StoredKey], *, forgotten: int | None = None) -> None:
        """Store keys; one whose id is known changes nothing."""
        with self._session.writing() as run:
            if forgotten is None or run(self._sql["last_forgotten"])[0][0] == forgotten:
                for key in keys:
                    run(self._sql["add"], **key._asdict())

    def destroy(self, id: str, *, at: int, reason: str, by: str, also: str) -> Forgotten:
        """Destroy the key of a subject, and record that."""
        with self._session.writing() as run:
            if not (known := run(self._sql["forgotten_of"], id=id)):
                run(self._sql["destroy"], id=id, at=at)
                number = run(self._sql["last_forgotten"])[0][0] + 1
                run(self._sql["forget"], number=number, id=id, at=at, reason=reason, by_whom=by)
                run(self._sql["remove"], prefix=also)
                known = run(self._sql["forgotten_of"], id=id)
        return Forgotten(*known[0])

    def settle(self, id: str) -> None:
        """Record that a subject is forgotten everywhere."""
        with self._session.writing() as run:
            run(self._sql["settle"], id=id)

    def last_forgotten(self) -> int:
        """Return the number of the last subject that was forgotten."""
        return int(self._session.read(self._sql["last_forgotten"])[0][0])

    def forgotten(self, *, after: int = 0, limit: int = 1000) -> Sequence[Forgotten]:
        """Return the records of forgotten subjects, in order."""
        return [Forgotten(*row) for row in self._session.read(self._sql["forgotten"], after=after, limit=limit)]

    def read_keys(self, *, after: str = "", limit: int = 1000) -> Sequence[StoredKey]:
        """Return keys in the order of their ids, without those destroyed."""
        return _keys(self._session.read(self._sql["keys"], after=after, limit=limit))

    def rewrap(self, old: StoredKey, new: StoredKey) -> bool:
        """Replace the wrapping of a key that is still the old one."""
        with self._session.writing() as run:
            run(self._sql["rewrap"], id=old.id, old=old.wrapped, wrapped=new.wrapped, master=new.master)
            found = _keys(run(self._sql["find"], ids=_array([old.id])))
        return bool(found) and found[0].wrapped == new.wrapped

    def purge(self) -> None:
        """Free the space of what was destroyed and replaced."""
        self._session.purge()


def _keys(rows: Sequence[Sequence[Any]]) -> list[StoredKey]:
    return [StoredKey(row[0], bytes(row[1] or b""), *row[2:]) for row in rows]


def _array(ids: Sequence[str]) -> str:
    return msgspec.json.encode(list(ids)).decode()
