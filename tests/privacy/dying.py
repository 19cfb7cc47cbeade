"""A process of the hotel that is killed while it forgets: `python -m tests.privacy.dying POINT URL KEYS`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from tests.privacy.guests import GUEST, check_in, hotel

from twofold.ports.keys.sql_keys import SqlKeyStore
from twofold.privacy.forgetting import Forgetting
from twofold.synchronizer.control import ProjectionControl


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def plant(point: str) -> None:
    """Let the process be killed at a point."""
    destroy = SqlKeyStore.destroy

    def destroyed(self: SqlKeyStore, *args: Any, **named: Any) -> Any:
        destroy(self, *args, **named)
        die()

    match point:
        case "before the commit":
            make = SqlKeyStore.__init__

            def dying(self: SqlKeyStore, *args: Any) -> None:
                make(self, *args)
                self._sql = {**self._sql, "remove": "SELECT die(:prefix)"}

            SqlKeyStore.__init__ = dying  # type: ignore[method-assign, assignment]
        case "destroyed":
            SqlKeyStore.destroy = destroyed  # type: ignore[method-assign]
        case "told":
            Forgetting._mask_parked = die  # type: ignore[method-assign]
        case "building":
            ProjectionControl.drop_previous = die  # type: ignore[method-assign]
        case "built":
            SqlKeyStore.settle = die  # type: ignore[method-assign]


async def main(point: str, url: str, keys_url: str) -> None:
    async with hotel(url, keys_url) as app:
        await check_in(app, "g1", GUEST["name"], GUEST["email"], GUEST["wish"], wishes=3)
        await app.projections.wait(await app.store.head(), 30)
        if point == "before the commit":
            assert app.store.keys is not None
            app.store.keys.store._session._connection.create_function("die", 1, die)  # type: ignore[attr-defined]
        await app.privacy.forget("g1", reason="asked", by="desk")


if __name__ == "__main__":
    plant(sys.argv[1])
    asyncio.run(main(*sys.argv[1:]))
