"""What goes wrong in the campaign of hints, one trouble after the other, several at once."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress

import psycopg
from tests.campaigns.read_models.hinted import Crew, Ledger

from twofold.errors import TwofoldError

SETTINGS = (
    "DateStyle = 'German, DMY'",
    "IntervalStyle = 'sql_standard'",
    "TimeZone = 'Asia/Kolkata'",
    "client_encoding = 'LATIN1'",
    "extra_float_digits = -5",
    "standard_conforming_strings = off",
    "quote_all_identifiers = on",
    "default_transaction_isolation = 'serializable'",
)
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
LATER = "(SELECT max(leased_until) + 3600000000 FROM twofold_checkpoints)"
Deed = Callable[[], Awaitable[object]]


class Troubles:
    """Does one thing after the other, at random."""

    def __init__(self, crew: Crew, ledger: Ledger, chance: random.Random) -> None:
        self._crew, self._ledger, self._chance = crew, ledger, chance
        self._flips: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float, *, only_losses: bool = False) -> None:
        """Trouble all for some seconds, then let what was begun come to its end."""
        everywhere: list[Deed] = [
            self.save, self.lose, self.lose, self.flip, self.flip, self.roll_back, self.scale, self.jump, self.restart,
        ]  # fmt: skip
        on_postgres: list[Deed] = [self.forge, self.forge, self.freeze, self.freeze, self.set, self.cut]
        deeds = everywhere + (on_postgres if self._crew.line else [self.lock, self.lock])
        if only_losses:
            deeds = [self.save, self.lose]
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        await self.save()
        while loop.time() < end:
            deed = self._chance.choice(deeds)
            with suppress(TwofoldError, psycopg.Error, sqlite3.Error, TimeoutError):
                async with asyncio.timeout(None if deed in (self.save, self.lose) else 20):
                    await deed()
                    self._ledger.counts[deed.__name__] += 1
            await asyncio.sleep(self._chance.uniform(0.0, 0.4))
        if self._crew.line:
            self._crew.line.thaw()
        for each in self._flips:
            each.cancel()
        await asyncio.gather(*self._flips, return_exceptions=True)
        await self._crew.machines[0].synchronizer.control("near").scale(1)

    async def save(self) -> None:
        """Keep the log as it is, and what was acknowledged of it."""
        epoch, acked = self._ledger.epoch, dict(self._ledger.acked)
        await asyncio.to_thread(self._crew.database.save)
        assert epoch == self._ledger.epoch
        self._ledger.saved = acked

    async def lose(self) -> None:
        """Put the log back as it was saved, under all who work with it."""
        if self._ledger.saved is None:
            return
        self._ledger.epoch += 1
        await asyncio.to_thread(self._crew.database.put_back)
        self._ledger.acked = dict(self._ledger.saved)
        self._ledger.epoch += 1

    async def flip(self) -> None:
        """Build a read model again, while it is asked."""
        name = self._chance.choice(["near", "near", "inline"])
        task = asyncio.create_task(self._rebuild(name))
        self._flips.add(task)
        task.add_done_callback(self._flips.discard)

    async def _rebuild(self, name: str) -> None:
        with suppress(TwofoldError):
            await self._crew.machine().synchronizer.rebuild_projection(name)

    async def roll_back(self) -> None:
        await self._crew.machine().synchronizer.control("near").roll_back()

    async def scale(self) -> None:
        await self._crew.machine().synchronizer.control("near").scale(self._chance.randint(1, 3))

    async def restart(self) -> None:
        """End a worker, and begin another one."""
        await self._crew.machine().restart_worker()

    async def jump(self) -> None:
        """Let all leases lie in the future, as they do when the clock has gone back by an hour."""
        await self._crew.execute(
            f"UPDATE twofold_checkpoints SET leased_at = {LATER}, leased_until = {LATER} + 1000000"
        )

    async def forge(self) -> None:
        """Send notifications that tell of what is not there."""
        for table in ("twofold_events", "twofold_checkpoints"):
            for payload in ("1000000", "not a number", "", '["near",1,0,256,99,1000000]'):
                await self._crew.execute(f"SELECT pg_notify('twofold_' || '{table}'::regclass::oid, '{payload}')")

    async def freeze(self) -> None:
        """Let connections go silent, at times the new ones, too, for a moment."""
        assert self._crew.line
        self._crew.line.freeze(questions=self._chance.random() < 0.5, new=self._chance.random() < 0.3)
        await asyncio.sleep(self._chance.uniform(0.1, 1.5))
        self._crew.line.thaw()

    async def set(self) -> None:
        """Give new sessions other settings."""
        await self._crew.execute(f"ALTER DATABASE postgres SET {self._chance.choice(SETTINGS)}")
        await self.cut()

    async def cut(self) -> None:
        await self._crew.execute(CUT)

    async def lock(self) -> None:
        """Hold SQLite's write lock, as another process does."""
        path = self._crew.database.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(self._chance.uniform(0, 0.5))
            other.execute("ROLLBACK")
