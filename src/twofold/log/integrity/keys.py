"""Checks the keys of persons, and whether they open what is encrypted in the log.

1. Each stored key is unwrapped, and is the one of its subject.
2. No key is there of a person who is recorded as forgotten.
3. Each event's encrypted parts have a key that opens them, or one that was destroyed by a forgetting.
4. The log and the key store tell of the same forgettings.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress

import msgspec

from twofold.errors import KeyMissingError, MasterKeyError, StorageError, UnreadableEventError
from twofold.log.chunks import Rows, pace_of_all, scan_chunks
from twofold.log.codec.encrypt import Sealed, all_key_ids, identity_of, members_of, sealed_of
from twofold.log.integrity.damage import Damage
from twofold.log.keys.keyring import DataKey, KeyRing
from twofold.messages.event import event_type_of
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.personal import SubjectForgotten
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.keys import Forgotten, StoredKey
from twofold.tasks import run_in_thread

_FORGOTTEN = event_type_of(SubjectForgotten).name
_decode_forgotten = msgspec.json.Decoder(SubjectForgotten).decode


async def damaged_keys(
    log: EventLog,
    keys: KeyRing,
    end: int,
    *,
    after: int = 0,
    reached: Callable[[int], object] = lambda _: None,
    options: LogOptions | None = None,
) -> AsyncGenerator[Damage]:
    """Iterate over what is wrong with the keys of persons, and with what is encrypted behind a position of the log.

    Args:
        log: the log.
        keys: of the persons.
        end: the last position.
        after: the position behind which it begins.
        reached: told the position of each chunk.
        options: how large a chunk is.

    Raises:
        MasterKeyError: there is no master key.
        StorageError: a database failed.
        CorruptEventError: the log is damaged; `damaged_events` says where.
    """
    options = options or LogOptions()
    for damage in await run_in_thread(_damaged_keys, keys):
        yield damage
    check = _Check(keys, await run_in_thread(_records, keys))
    async with aclosing(scan_chunks(log, EventQuery.all(), Mark(after), end, pace_of_all(options))) as chunks:
        async for rows in chunks:
            for damage in await run_in_thread(check.of, rows):
                yield damage
            if rows:
                reached(rows[-1].position)
    for damage in check.untold() if not after else ():
        yield damage


def _damaged_keys(keys: KeyRing) -> list[Damage]:
    """Return what is wrong with the stored keys that are not destroyed."""
    keys.open()
    found = list[Damage]()
    for key in keys.stored_keys():
        try:
            subject = keys.subject_of(key)
        except MasterKeyError as error:
            found.append(Damage("key", f"key {key.id}", error))
        except msgspec.MsgspecError:
            found.append(_of_key(key.id, "holds something else than a key; restore the key store from a backup"))
        else:
            if subject and keys.digest(subject) != key.id:
                found.append(_of_key(key.id, "is the one of another subject; restore the key store from a backup"))
    return found


def _records(keys: KeyRing) -> Mapping[str, Forgotten]:
    """Return the records of forgettings, by the ids of the destroyed keys."""
    found, after = dict[str, Forgotten](), 0
    while page := keys.store.forgotten(after=after):
        found |= {each.id: each for each in page}
        after = page[-1].number
    return found


class _Check:
    """What each chunk is checked for.

    Args:
        keys: of the persons.
        records: of those who are forgotten.
    """

    def __init__(self, keys: KeyRing, records: Mapping[str, Forgotten]) -> None:
        self._keys = keys
        self._records = records
        self._told = set[str]()

    def of(self, rows: Rows) -> list[Damage]:
        """Return what is wrong with rows; blocks."""
        ids = {row.position: all_key_ids(row) for row in rows}
        told = {row.position: _decode_forgotten(row.payload).subject for row in rows if row.type == _FORGOTTEN}
        wanted = sorted({*told.values(), *(each for found in ids.values() for each in found)})
        stored = {key.id: key for key in self._keys.store.find(wanted)} if wanted else {}
        found, keys = list[Damage](), dict(self._usable(stored.values()))
        for row in rows:
            found += self._of_ids(row, ids[row.position], stored)
            found += self._of_parts(row, keys)
            if (subject := told.get(row.position)) is not None:
                found += self._of_forgotten(row.position, subject, stored)
        return found

    def untold(self) -> Iterator[Damage]:
        """Iterate over the forgettings that are done, and of which the log does not tell."""
        for record in self._records.values():
            if record.state == "done" and record.id not in self._told:
                text = (
                    f"the forgetting {record.number}, of the key {record.id}, is not told in the log: the log was put "
                    f"back to an older state, or the key store is that of another log; forget the person again"
                )
                yield Damage("key", f"forgetting {record.number}", StorageError(text))

    def _usable(self, stored: Iterable[StoredKey]) -> Iterator[tuple[str, DataKey]]:
        """Iterate over the keys that open something."""
        for each in stored:
            with suppress(MasterKeyError, msgspec.MsgspecError):  # the key itself is named already
                if (key := self._keys.key_in(each)) is not None:
                    yield each.id, key

    def _of_ids(self, row: StoredEvent, ids: Sequence[str], stored: Mapping[str, StoredKey]) -> Iterator[Damage]:
        for key_id in ids:
            key = stored.get(key_id)
            if key is None:
                text = (
                    f"event {row.position} is encrypted with the key {key_id}, which is not in the key store, and was "
                    f"not destroyed there; name the key store that belongs to this log, or restore it from a backup"
                )
                yield Damage("key", f"position {row.position}", KeyMissingError(text))
            elif not key.wrapped and key_id not in self._records:
                text = (
                    f"event {row.position} is encrypted with the key {key_id}, which is destroyed, and no forgetting "
                    f"is recorded; restore the key store from a backup"
                )
                yield Damage("key", f"position {row.position}", KeyMissingError(text))

    def _of_parts(self, row: StoredEvent, keys: Mapping[str, DataKey]) -> Iterator[Damage]:
        try:
            sealed = sealed_of(row.payload)
        except (ValueError, msgspec.MsgspecError) as error:
            yield _unreadable(row, f"its personal fields are malformed ({error})")
            return
        if not _opens(row, sealed, keys):
            yield _unreadable(
                row, "its personal fields belong to another event, or were changed; restore it from a backup"
            )

    def _of_forgotten(self, position: int, subject: str, stored: Mapping[str, StoredKey]) -> Iterator[Damage]:
        self._told.add(subject)
        if subject in stored and stored[subject].wrapped:
            yield _of_key(
                subject, f"is there, and its subject was forgotten by event {position}: the key store was put back to "
                f"an older state; forget the person again",
            )  # fmt: skip
        elif subject not in self._records:
            text = (
                f"event {position} tells that the subject of the key {subject} is forgotten, and the key store has no "
                f"record of it; configure the key store that belongs to this log"
            )
            yield Damage("key", f"position {position}", StorageError(text))


def _opens(row: StoredEvent, sealed: Sealed, keys: Mapping[str, DataKey]) -> bool:
    """Return whether all that is encrypted opens with the keys that there are, and holds fields of the payload."""
    for key_id, encrypted in sealed.parts:
        if (key := keys.get(key_id)) is None:
            continue
        try:
            members = members_of(b"{%b}" % key.decrypt(encrypted, identity_of(row.event_id, row.type)))
        except Exception:  # the library's InvalidTag
            return False
        if not members.keys() <= members_of(sealed.public).keys():
            return False
    return True


def _of_key(key_id: str, what: str) -> Damage:
    return Damage("key", f"key {key_id}", StorageError(f"the key {key_id} {what}"))


def _unreadable(row: StoredEvent, why: str) -> Damage:
    return Damage(
        "key", f"position {row.position}", UnreadableEventError(row.type, row.position, row.schema_version, why)
    )
