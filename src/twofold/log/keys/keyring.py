"""The keys of subjects in one process.

1. `digest` makes the id of a key of its subject, with a secret that is in the store.
2. Before events are encoded, `prepare` reads the keys that this process does not have yet, and makes those that do
   not exist yet: in a thread, and for all that wait at one moment at once. `key_of` does so for one, and blocks.
3. Before events are decoded, `fetch` reads those that are missing with one question, in a thread. `keys` does so for
   those who cannot wait for one, and blocks.
4. Each use asks the store again after `PrivacyOptions.recheck` seconds which subjects were forgotten since: their keys
   are dropped, and the listeners told. As long as the store does not answer, no key is used. `prepare` and `fetch` ask
   after half of that time, so that what comes behind them need not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from threading import RLock
from typing import NamedTuple

import msgspec

from twofold.errors import KeyMissingError
from twofold.log.keys.master_key import MasterKeys, aes_gcm
from twofold.options import PrivacyOptions
from twofold.ports.keys import Forgotten, KeyStore, StoredKey
from twofold.ports.turns import Turns
from twofold.tasks import run_in_thread

SECRET = "secret"  # noqa: S105 - a name
"""stored: the id of the secret that digests are made with."""
STATES = "states:"
"""stored: with this begins the id of the key of stored states; it ends with the number of the last one forgotten."""


class KeyContent(NamedTuple):
    """What is wrapped. stored: change it with care."""

    key: bytes
    subject: str


class DataKey:
    """A key that encrypts, always to the same bytes what is the same: a repeat of an append is known by that.

    Args:
        key: 32 bytes.
    """

    __slots__ = ("_nonces", "_seal", "open")

    def __init__(self, key: bytes) -> None:
        cipher = aes_gcm(key)
        self._seal = cipher.encrypt
        self.open: Callable[[bytes, bytes, bytes], bytes] = cipher.decrypt
        """Return the plain text of a nonce, what was encrypted with it, and the identity; raises `InvalidTag`."""
        self._nonces = blake2b(key=blake2b(b"nonces", key=key, digest_size=32).digest(), digest_size=12)

    def encrypt(self, plain: bytes, identity: bytes) -> bytes:
        """Return the nonce and the ciphertext. The nonce is a digest of all that goes in: none is used twice."""
        made = self._nonces.copy()  # which takes half the time of a new one
        made.update(identity + plain)
        nonce = made.digest()
        return nonce + self._seal(nonce, plain, identity)  # type: ignore[no-any-return]

    def decrypt(self, encrypted: bytes, identity: bytes) -> bytes:
        """Return the plain text; raises the library's `InvalidTag` where it was made for another identity."""
        return self.open(encrypted[:12], encrypted[12:], identity)


class KeyRing:
    """Finds, makes and forgets the keys of subjects.

    Args:
        store: where the keys are.
        masters: wrap and unwrap them.
        options: how many are kept, and how often the store is asked.
    """

    def __init__(self, store: KeyStore, masters: MasterKeys, options: PrivacyOptions | None = None) -> None:
        self.store = store
        self.options = options or PrivacyOptions()
        self._masters = masters
        self._lock = RLock()
        self.known: dict[str, DataKey | None] = {}
        """The keys that this process has, by their ids; None: destroyed. To be used after `refresh` only."""
        self._states: tuple[str, DataKey | None] = "", None
        self._number = 0
        self._due = 0.0
        self._secret = b""
        self._digests: dict[str, str] = {}
        self._is_open = False
        self._listeners: list[Callable[[], object]] = []
        self._wanted: dict[str, str] = {}
        self._turns = Turns()

    def open(self) -> None:
        """Open the store, and learn the secret; may be repeated.

        Raises:
            MasterKeyError: the master key is missing or another one.
            StorageError: the database failed.
        """
        with self._lock:
            if self._is_open:
                return
            self._masters.open()
            self.store.open()
            self._number = self.store.last_forgotten()
            self._due = time.monotonic() + self.options.recheck
            self._is_open = True
            self._secret = self._content(self._stored({SECRET: ""})[SECRET]).key

    def close(self) -> None:
        """Close the store and drop all keys; may be repeated."""
        with self._lock:
            self.known.clear()
            self._digests.clear()
            self._states = "", None
            self._turns = Turns()
            self._is_open = False
            self.store.close()

    def on_forgotten(self, listener: Callable[[], object]) -> None:
        """Call a listener whenever this process learns that a subject was forgotten."""
        self._listeners.append(listener)

    def digest(self, subject: str) -> str:
        """Return the id of the key of a subject."""
        if not self._is_open:
            self.open()
        if (known := self._digests.get(subject)) is not None:
            return known
        if len(self._digests) >= self.options.cached_keys:
            self._digests.clear()
        made = self._digests[subject] = blake2b(subject.encode(), key=self._secret, digest_size=16).hexdigest()
        return made

    def blind(self, name: str, value: str) -> str:
        """Return the digest that takes the place of a personal value in a tag."""
        if not self._is_open:
            self.open()
        return blake2b(f"{name}\0{value}".encode(), key=self._secret, digest_size=16, person=b"tags").hexdigest()

    def key_of(self, subject: str) -> tuple[str, DataKey | None]:
        """Return the id and the key of a subject, which is made if there is none; None if it is forgotten."""
        self.refresh()
        key_id = self._digests.get(subject) or self.digest(subject)
        try:
            return key_id, self.known[key_id]
        except KeyError:
            return key_id, self._make({key_id: subject})[key_id]

    async def prepare(self, subjects: Collection[str]) -> None:
        """Have the keys of subjects at hand, without blocking the event loop."""
        if self.is_due:
            await self.fetch(())
        missing = {key_id: subject for subject in subjects if (key_id := self.digest(subject)) not in self.known}
        if not missing:
            return
        self._wanted |= missing
        async with self._turns:
            wanted, self._wanted = self._wanted, {}
            if wanted:
                await run_in_thread(self._make, wanted)

    async def fetch(self, ids: Collection[str]) -> None:
        """Have keys at hand, and know who was forgotten, without blocking the event loop.

        Raises:
            KeyMissingError: the store has no such key.
            StorageError: the database failed.
        """
        async with self._turns:
            if self.is_due:
                await run_in_thread(self._look)
            if any(each not in self.known for each in ids):
                await run_in_thread(self.keys, ids)

    @property
    def is_due(self) -> bool:
        """Whether half of the time is over after which the store must be asked again who was forgotten."""
        return time.monotonic() >= self._due - self.options.recheck / 2

    def keys(self, ids: Collection[str]) -> Mapping[str, DataKey | None]:
        """Return keys by their ids; None stands for one that was destroyed.

        Raises:
            KeyMissingError: the store has no such key.
            StorageError: the database failed.
        """
        self.refresh()
        known = self.known
        if all(each in known for each in ids):
            return known
        with self._lock:
            missing = [each for each in ids if each not in known]
            found = {key.id: key for key in self.store.find(missing)}
            if absent := [key_id for key_id in missing if key_id not in found]:
                raise KeyMissingError(
                    f"the key {absent[0]} is not in the key store, and was not destroyed there; configure the key "
                    f"store that belongs to this log, or restore it from a backup"
                )
            self._keep({key_id: self.key_in(found[key_id]) for key_id in missing}, set(ids))
            return {each: known[each] for each in ids}

    def states_key(self) -> tuple[str, DataKey | None]:
        """Return the id and the key of states that are stored now; it changes whenever a subject is forgotten."""
        self.refresh()
        key_id = f"{STATES}{self._number}"
        if key_id == self._states[0]:
            return self._states
        with self._lock:
            self.store.add([self._fresh(key_id, "")], forgotten=self._number)
            found = self.store.find([key_id])
            if found:
                self._states = key_id, self.key_in(found[0])
            return key_id, self.key_in(found[0]) if found else None

    async def prepare_states_key(self) -> tuple[str, DataKey | None]:
        """Do what `states_key` does, without blocking the event loop."""
        if self.is_due:
            await self.fetch(())
        if self._states[0] != f"{STATES}{self._number}":
            async with self._turns:
                await run_in_thread(self.states_key)
        return self.states_key()

    def find_states_key(self, key_id: str) -> DataKey | None:
        """Return the key of a state that was stored; None if it is gone."""
        present, key = self.states_key()
        return key if key_id == present else None

    def forget(self, subject: str, *, reason: str, by: str) -> Forgotten:
        """Destroy the key of a subject and those of stored states; blocks."""
        key_id = self.digest(subject)
        record = self.store.destroy(key_id, at=time.time_ns() // 1000, reason=reason, by=by, also=STATES)
        self._look()
        return record

    def key_in(self, key: StoredKey) -> DataKey | None:
        """Return the key that a stored one holds; None if it is destroyed.

        Raises:
            MasterKeyError: another master key has wrapped it, or it was damaged.
        """
        return DataKey(self._content(key).key) if key.wrapped else None

    def subject_of(self, key: StoredKey) -> str:
        """Return whose key one is; empty if it is no subject's."""
        return self._content(key).subject

    def rewrap(self, progress: Callable[[int], object] = lambda _: None) -> int:
        """Wrap with the present master key what a former one has wrapped; return how many keys; blocks."""
        self.open()
        count = 0
        for key in self.stored_keys():
            if not self._masters.is_present(key):
                new = self._masters.wrap(key.id, self._masters.unwrap(key), key.created_at)
                count += self.store.rewrap(key, new)
                progress(count)
        self.store.purge()
        return count

    def stored_keys(self) -> Iterator[StoredKey]:
        """Iterate over all keys that are not destroyed; blocks."""
        after = ""
        while page := self.store.read_keys(after=after):
            yield from page
            after = page[-1].id

    def refresh(self) -> None:
        """Learn which subjects were forgotten since the last look, if that is some time ago.

        Raises:
            StorageError: the key store does not answer; nothing may be decrypted.
        """
        if time.monotonic() >= self._due:
            self._look()

    def _look(self) -> None:
        self.open()
        with self._lock:
            asked, is_news = time.monotonic(), False
            while records := self.store.forgotten(after=self._number):
                for each in records:
                    self.known[each.id] = None
                self._number, is_news = records[-1].number, True
            self._due = asked + self.options.recheck
        if is_news:
            for listener in self._listeners:
                listener()

    def _make(self, wanted: Mapping[str, str]) -> Mapping[str, DataKey | None]:
        with self._lock:
            stored = self._stored(wanted)
            made = {key_id: self.key_in(stored[key_id]) for key_id in wanted}
            self._keep(made, made)
            return made

    def _stored(self, wanted: Mapping[str, str]) -> dict[str, StoredKey]:
        """Return the stored keys of subjects, by their ids, after those that are missing were made."""
        found = {key.id: key for key in self.store.find(list(wanted))}
        if missing := [key_id for key_id in wanted if key_id not in found]:
            self.store.add([self._fresh(key_id, wanted[key_id]) for key_id in missing])
            found |= {key.id: key for key in self.store.find(missing)}  # another process may have been first
        return found

    def _fresh(self, key_id: str, subject: str) -> StoredKey:
        content = msgspec.msgpack.encode(KeyContent(os.urandom(32), subject))
        return self._masters.wrap(key_id, content, time.time_ns() // 1000)

    def _content(self, key: StoredKey) -> KeyContent:
        return msgspec.msgpack.decode(self._masters.unwrap(key), type=KeyContent)

    def _keep(self, loaded: Mapping[str, DataKey | None], needed: Collection[str]) -> None:
        """Keep keys, and drop those that were read first in favour of them, but none that is needed now."""
        known = self.known
        known.update(loaded)
        surplus = len(known) - max(self.options.cached_keys, len(needed))
        for each in list(islice((each for each in known if each not in needed), max(surplus, 0))):
            del known[each]
