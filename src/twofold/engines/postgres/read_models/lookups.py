"""Looking rows up by their keys: what is asked while another look-up is under way shares the next statement.

1. A look-up goes to the server at once, unless as many are under way as the options allow.
2. Those that come in the meantime wait; each statement that ends begins one for all that wait for rows of one table.
3. Each caller gets the rows of its own keys, or the error of the statement.

So under load one statement answers many requests, while a request that comes alone waits for none. A look-up never
joins a statement that was sent before it: it shows all that was committed when it was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from twofold.ports.read_database import Values
from twofold.ports.table import Table

Keys = Sequence[tuple[Any, ...]]

Load = Callable[[Table, Keys], Awaitable[Sequence[Values | None]]]
"""Return the row of each key, in the order of the keys; None for one that no row has."""


class _Lookup(NamedTuple):
    keys: Keys
    rows: asyncio.Future[Sequence[Values | None]]


class Lookups:
    """Loads rows for many callers with few statements.

    Args:
        load: loads rows with one statement.
        under_way: statements at once, at most.
        together: keys in one statement, at most.
    """

    def __init__(self, load: Load, under_way: int, together: int) -> None:
        self._load = load
        self._free = under_way
        self._together = together
        self._waiting: dict[Table, list[_Lookup]] = {}

    async def rows(self, table: Table, keys: Keys) -> Sequence[Values]:
        """Return the rows that have these keys.

        Raises:
            StorageError: the database failed.
        """
        if self._free:
            self._free -= 1
            try:
                found = await self._load(table, keys)
            finally:
                self._go_on()
        else:
            lookup = _Lookup(keys, asyncio.get_running_loop().create_future())
            self._waiting.setdefault(table, []).append(lookup)
            found = await lookup.rows
        return [row for row in found if row is not None]

    def _go_on(self) -> None:
        """Begin the next statement in place of one that has ended."""
        if group := self._next_group():
            asyncio.get_running_loop().create_task(self._answer(*group), name="twofold-postgres-lookups")
        else:
            self._free += 1

    def _next_group(self) -> tuple[Table, list[_Lookup]] | None:
        """Take the look-ups that have waited longest, as many as one statement takes, without those given up."""
        while self._waiting:
            table, waiting = next(iter(self._waiting.items()))
            del self._waiting[table]
            group = list[_Lookup]()
            left = self._together
            for place, lookup in enumerate(waiting):
                if group and left < len(lookup.keys):
                    self._waiting[table] = waiting[place:]  # behind those of the other tables
                    break
                if not lookup.rows.done():
                    left -= len(lookup.keys)
                    group.append(lookup)
            if group:
                return table, group
        return None

    async def _answer(self, table: Table, group: Sequence[_Lookup]) -> None:
        try:
            found = await self._load(table, list(chain.from_iterable(lookup.keys for lookup in group)))
        except BaseException as error:
            for lookup in group:
                if not lookup.rows.done():
                    lookup.rows.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            begin = 0
            for lookup in group:
                end = begin + len(lookup.keys)
                if not lookup.rows.done():
                    lookup.rows.set_result(found[begin:end])
                begin = end
        finally:
            self._go_on()
