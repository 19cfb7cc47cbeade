"""Which database files this process has open, and which of them a process had open that it was forked off.

SQLite keeps the locks of a file in the memory of the process. A child that was forked off inherits that memory, but no
lock: a connection that the child opens to the same file believes in locks that the child does not have, and another
process that closes the database deletes the write-ahead log under it. Acknowledged commits are lost then. See
<https://www.sqlite.org/howtocorrupt.html>, 2.6.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from twofold.errors import OwnershipError

_open: Counter[tuple[int, int]] = Counter()
"""How many databases have each file open, known by its device and inode."""
_inherited: set[tuple[int, int]] = set()


def note_opened(file: tuple[int, int]) -> None:
    """Remember that a database has a file open."""
    _open[file] += 1


def note_closed(file: tuple[int, int]) -> None:
    """Remember that it has closed it."""
    _open[file] -= 1


def refuse_inherited(path: Path) -> None:
    """Refuse a file that the parent of this process had open at the moment of the fork.

    Raises:
        OwnershipError: it had.
    """
    try:
        found = path.stat()
    except OSError:
        return  # there is none yet, or opening tells the cause
    if (found.st_dev, found.st_ino) in _inherited:
        raise OwnershipError(
            f"the database {path} was open in the parent of this process, {os.getppid()}, when it was forked off, and "
            f"SQLite would not see whose locks are whose; fork before the database is opened, or start processes by "
            f'"spawn" or "forkserver"'
        )


def _inherit() -> None:
    _inherited.update(file for file, count in _open.items() if count > 0)
    _open.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_inherit)
