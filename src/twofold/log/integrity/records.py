"""Checks the records of all commands, in chunks, and the storage beneath all of the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from twofold.errors import CorruptCommandError, StorageError
from twofold.log.integrity.damage import Damage
from twofold.ports.maintenance import PortableLog


async def damaged_commands(log: PortableLog, at_once: int) -> AsyncGenerator[Damage]:
    """Iterate over the records of commands that do not match their checksums.

    Args:
        log: the log.
        at_once: records that are read at once.

    Raises:
        StorageError: the database failed.
    """
    after = b""
    while True:
        try:
            commands = await log.read_commands(after=after, limit=at_once)
        except CorruptCommandError as error:
            yield Damage("command", f"command {error.command_id}", error)
            after = error.command_id.bytes
            continue
        if not commands:
            return
        after = commands[-1].command_id


async def damaged_storage(log: PortableLog) -> AsyncGenerator[Damage]:
    """Iterate over what is wrong beneath the events: pages, indexes, tags that cannot be found.

    Raises:
        StorageError: the database failed.
    """
    for damage in await log.check():
        text = f"the storage is damaged: {damage}; restore it from a backup"
        yield Damage("storage", damage, StorageError(text))
