"""The port of key stores: one key for each person, kept apart from the log, and destroyed when the person is forgotten.

A store holds keys only as a master key has wrapped them. Its methods are short transactions that block; they are called
in threads. Only code that decodes events without waiting, such as that of a tool, calls `find` and `forgotten` where it
runs. A store may be used by several threads and processes at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

ForgettingState = Literal["", "begun", "done"]
"""stored: change it with care."""


class StoredKey(NamedTuple):
    """A key as a store holds it."""

    id: str
    """A digest of the subject as 32 hexadecimal digits, or the name of what else the key is for."""
    wrapped: bytes
    """The key as the master key has wrapped it; empty if it was destroyed."""
    master: str
    """Which master key has wrapped it."""
    created_at: int
    """Microseconds since 1970-01-01 UTC, by the clock of the process that made it."""


class Forgotten(NamedTuple):
    """The record of a subject that was forgotten."""

    number: int
    """The first one has 1, and no number is left out."""
    id: str
    """Of the destroyed key."""
    at: int
    """Microseconds since 1970-01-01 UTC."""
    reason: str
    by: str
    state: ForgettingState
    """`begun` as long as something may still hold what was read before."""


class KeyStore(Protocol):
    """Holds wrapped keys. Adapters pass `twofold.testing.KeyStoreConformance`.

    All methods raise `StorageError` if the database fails; what they should have stored is then not stored, or it is
    found by the next call.
    """

    def open(self) -> None:
        """Open the store, and make it if there is none; may be repeated."""

    def close(self) -> None:
        """Close the store; may be repeated."""

    def find(self, ids: Sequence[str]) -> Sequence[StoredKey]:
        """Return the keys that there are for ids, in any order, also those that were destroyed."""

    def add(self, keys: Sequence[StoredKey], *, forgotten: int | None = None) -> None:
        """Store keys durably; one whose id is known, even of a destroyed key, changes nothing.

        Args:
            keys: which.
            forgotten: store them only if this is the number of the last subject that was forgotten.
        """

    def destroy(self, id: str, *, at: int, reason: str, by: str, also: str) -> Forgotten:
        """Destroy the key of a subject, durably, in one transaction; one without a key gets a record all the same.

        A repeat changes nothing and returns the first record.

        Args:
            id: of the key.
            at: microseconds since 1970-01-01 UTC.
            reason: why.
            by: who asked for it.
            also: keys whose ids begin with this are removed with it; they are no subject's.
        """

    def settle(self, id: str) -> None:
        """Record durably that nothing holds any more what was read of a forgotten subject."""

    def last_forgotten(self) -> int:
        """Return the number of the last subject that was forgotten, 0 if there is none."""

    def forgotten(self, *, after: int = 0, limit: int = 1000) -> Sequence[Forgotten]:
        """Return the records of forgotten subjects with a number greater than `after`, in the order of the numbers."""

    def read_keys(self, *, after: str = "", limit: int = 1000) -> Sequence[StoredKey]:
        """Return keys whose ids are greater than `after`, in the order of their ids, without those destroyed."""

    def rewrap(self, old: StoredKey, new: StoredKey) -> bool:
        """Replace the wrapping of a key, unless it was destroyed or wrapped again since; return whether it was."""

    def purge(self) -> None:
        """Free, as far as the database can, the space of what was destroyed and replaced."""
