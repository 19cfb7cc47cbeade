"""Removing the rows of instances that ended long ago. Their streams stay, as all events do.

A row says what an instance has to do next; one that has ended has nothing to do. What comes for it later finds no row,
and then the stream, which says that the instance has ended: so it never begins a second time, and is ignored as before.
The last outcomes are awaited first: an instance that has a command under way keeps its row.

`InstanceRetention` does it by itself, in passes beside the sweep of the first segment of each process; see `pruning`.
Each slice is a transaction of its own.

No lease fences it: an instance that has ended never runs again, so that the same row may be removed by two, and one
that is written once more in between is removed by the next pass.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta

from twofold.options import ProcessOptions
from twofold.ports.read_database import ReadDatabase
from twofold.ports.table import Table
from twofold.processes.rows import statement
from twofold.pruning import make_passes, paced


class InstanceRetention:
    """Removes the rows of one process's instances that ended long ago; see the flow at the top of this module.

    Args:
        database: where they are.
        table: the table of them.
        name: of the process.
        options: their age, and how often and how busily they are looked for.
    """

    def __init__(self, database: ReadDatabase, table: Table, name: str, options: ProcessOptions) -> None:
        self._database = database
        self._table = table
        self._name = name
        self._options = options

    async def run(self) -> None:
        """Remove what becomes old, until cancelled; see `make_passes`."""
        what, off = f"rows of ended instances of {self._name}", 'ProcessOptions(prunes_ended="off")'
        await make_passes(self.make_pass, self._options.pruned_every, self._options.backoff, what=what, off=off)

    async def make_pass(self) -> int:
        """Remove what is old now; return how many rows those were.

        Raises:
            StorageError: the database failed; the slices before stay removed.
        """
        age = timedelta(seconds=self._options.ended_kept)
        slices = prune(self._database, self._table, age, self._options.pruned_at_once)
        return await paced(slices, self._options.pruning_share)


async def prune(
    database: ReadDatabase, table: Table, age: timedelta, limit: int, *, write: bool = True
) -> AsyncGenerator[int]:
    """Go through the rows, and tell of each slice how many ended that long ago; they are removed, if `write` says so.

    Args:
        database: where they are.
        table: the table of them.
        age: since they ended, by the database's clock.
        limit: rows that one transaction looks at.
        write: whether they are removed; else they are only counted.

    Raises:
        StorageError: the database failed.
    """
    after = ""
    while True:
        [[last]] = await database.query(statement("end_of_slice", table), after=after, limit=limit)
        if last is None:
            return
        slice_ = {"after": after, "last": last, "age": age // timedelta(microseconds=1)}
        ended = await database.query(statement("ended", table), **slice_)
        if ended and write:
            async with database.transaction() as transaction:
                ended = await transaction.run(statement("prune", table), **slice_)
        yield len(ended)
        after = last
