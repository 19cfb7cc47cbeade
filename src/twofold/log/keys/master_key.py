"""The master key, which wraps all others: from the environment, a file, or a function that asks a key service."""

from __future__ import annotations

import os
from base64 import b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from twofold.errors import MasterKeyError
from twofold.ports.keys import StoredKey

VARIABLE = "TWOFOLD_MASTER_KEY"
FILE_VARIABLE = "TWOFOLD_MASTER_KEY_FILE"
FORMER_VARIABLE = "TWOFOLD_FORMER_MASTER_KEYS"
_REMEDY = f"set {VARIABLE}, or {FILE_VARIABLE}; `twofold privacy new-key` prints a new one"

MasterKeySource = str | bytes | Callable[[], str | bytes]
"""32 bytes, or their base64 as text, or a function that returns either: one that lets a key service decrypt it."""


def new_master_key() -> str:
    """Return a new master key as text, to be kept where secrets are kept."""
    return urlsafe_b64encode(os.urandom(32)).decode()


class MasterKeys:
    """The master key that wraps, and former ones that still unwrap.

    Args:
        source: the present key; None: the environment says it.
        former: keys that have wrapped before a rotation; None: the environment says them, with commas between.

    Raises:
        MasterKeyError: one is malformed.
    """

    def __init__(self, source: MasterKeySource | None = None, former: Sequence[MasterKeySource] | None = None) -> None:
        for each in (source, *(former or ())):
            if each is not None and not callable(each):
                _key_of(each)
        self._source = source
        self._former = former
        self._by_id: dict[str, Any] = {}
        self._present = ""

    def open(self) -> None:
        """Find the keys; a function is called once.

        Raises:
            MasterKeyError: there is none, or one is malformed.
            ModuleNotFoundError: the extra is not installed; the text names it.
        """
        if self._present:
            return
        named = [each for each in os.environ.get(FORMER_VARIABLE, "").split(",") if each]
        for each in named if self._former is None else self._former:
            self._add(_key_of(each))
        self._present = self._add(_key_of(self._source or _from_environment()))

    def wrap(self, key_id: str, content: bytes, created_at: int) -> StoredKey:
        """Return a key for the store."""
        nonce = os.urandom(12)
        wrapped = nonce + self._by_id[self._present].encrypt(nonce, content, key_id.encode())
        return StoredKey(key_id, wrapped, self._present, created_at)

    def unwrap(self, key: StoredKey) -> bytes:
        """Return what was wrapped.

        Raises:
            MasterKeyError: another master key has wrapped it, or it was damaged.
        """
        cipher = self._by_id.get(key.master)
        if cipher is None:
            raise MasterKeyError(
                f"the key {key.id} was wrapped by the master key {key.master}, which is not among those given "
                f"({', '.join(self._by_id)}); name it in {FORMER_VARIABLE}"
            )
        try:
            return bytes(cipher.decrypt(key.wrapped[:12], key.wrapped[12:], key.id.encode()))
        except Exception as error:  # the library's InvalidTag
            raise MasterKeyError(f"the stored key {key.id} is damaged; restore the key store from a backup") from error

    def is_present(self, key: StoredKey) -> bool:
        """Return whether the present master key has wrapped a key."""
        return key.master == self._present

    def _add(self, key: bytes) -> str:
        key_id = blake2b(key, digest_size=4, person=b"master").hexdigest()
        self._by_id[key_id] = aes_gcm(key)
        return key_id


def aes_gcm(key: bytes) -> Any:
    """Return AES-256-GCM with a key.

    Raises:
        ModuleNotFoundError: the extra is not installed; the text names it.
    """
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("personal fields need their library: pip install 'twofold[privacy]'") from error
    return AESGCM(key)


def _from_environment() -> str:
    if path := os.environ.get(FILE_VARIABLE, ""):
        try:
            return Path(path).read_text("utf-8")
        except OSError as error:
            raise MasterKeyError(f"{FILE_VARIABLE}={path} cannot be read: {error.strerror}") from error
    if text := os.environ.get(VARIABLE, ""):
        return text
    raise MasterKeyError(f"there is no master key; {_REMEDY}")


def _key_of(source: MasterKeySource) -> bytes:
    given = source() if callable(source) else source
    if isinstance(given, str):
        try:
            given = b64decode(given.strip().replace("-", "+").replace("_", "/"), validate=True)
        except (Error, ValueError):
            given = b""
    if not isinstance(given, bytes) or len(given) != 32:
        raise MasterKeyError(f"a master key is 32 bytes, their base64, or a function that returns them; {_REMEDY}")
    return given
