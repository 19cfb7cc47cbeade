"""A process that repeats `store.transaction()` with one event id, line by line of its input: `FILE` is its database."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from uuid import UUID

from twofold import Event, open_event_store


@dataclass(frozen=True, kw_only=True)
class Booked(Event):
    seat: str


async def main(file: str) -> None:
    async with open_event_store(f"sqlite:///{file}") as store:
        async with store.transaction() as tx:
            tx.connection.execute("CREATE TABLE mails (text TEXT)")
        print("ready", flush=True)
        for _ in sys.stdin:
            try:
                async with store.transaction() as tx:
                    tx.connection.execute("INSERT INTO mails VALUES ('hello')")
                    tx.append([Booked(seat="1")], event_ids=[UUID(int=1)])
                print("stored", flush=True)
            except Exception as error:
                print(type(error).__name__, flush=True)
        async with store.transaction() as tx:
            [(mails,)] = tx.connection.execute("SELECT count(*) FROM mails").fetchall()
        print(mails, await store.head(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
