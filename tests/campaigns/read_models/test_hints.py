"""Everything that the read side is told by others goes wrong at once, and clients keep the ledger.

While clients append, repeat, join transactions, ask, turn pages and follow the log: the log loses its tail,
notifications are forged, read models are built again, rolled back and divided, connections go silent, new sessions get
other settings, leases lie in the future, backends and workers are ended. What the clients were told is the ledger; at
the end, the log and all that follows from it must agree with that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.campaigns.planted import assert_finds
from tests.campaigns.read_models.hint_clients import clients_of
from tests.campaigns.read_models.hint_troubles import Troubles
from tests.campaigns.read_models.hinted import REST, Crew, Ledger
from tests.engines.postgres.frozen_line import frozen_line
from tests.postgres_servers import PostgresServer
from tests.restorable import PostgresCluster, SqliteFile
from tests.synchronizing import until

from twofold.messages.mark import Mark

REST_OF_PLANTED = 10.0
"""Seconds: twice as long as the operator of the planted form takes to see and to repair what can be repaired."""


async def campaign(
    engine: str,
    folder: Path,
    own_server: Callable[..., PostgresServer],
    seed: int,
    seconds: float,
    *,
    planted: bool = False,
) -> None:
    """Trouble two processes' worth of applications for some seconds, let them come to rest, and compare.

    Raises:
        AssertionError: a client was told what is not so.
    """
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        if engine == "sqlite":
            (folder / "log").mkdir()
            database: PostgresCluster | SqliteFile = SqliteFile(folder / "log")
            crew = Crew(database, database.url, folder, chance, attention=4.0 if planted else 0.7)
        else:
            server = own_server(18)
            database = PostgresCluster(server)
            line = await stack.enter_async_context(frozen_line(server.folder))
            crew = Crew(database, f"postgresql://postgres@127.0.0.1:{line.port}/postgres", folder, chance, line)
        ledger = Ledger()
        try:
            await crew.start()
            stack.push_async_callback(crew.stop)
            clients = clients_of(crew, ledger, chance)
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(each.run()) for each in clients]
                await Troubles(crew, ledger, chance).run(seconds, only_losses=planted)
                await until(recovered(ledger), REST)
                ledger.is_over = True
                await asyncio.wait(running)
            await crew.come_to_rest(REST_OF_PLANTED if planted else REST)
            await ledger.check(crew)
        except BaseExceptionGroup as errors:
            raise AssertionError(f"seed {seed}: {errors.exceptions!r}") from errors
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        print(ledger.summary)


def recovered(ledger: Ledger) -> Callable[[], Awaitable[bool]]:
    """Return what tells whether clients have been served again, some times, since now."""
    before = ledger.counts.copy()

    async def is_so() -> bool:
        return all(ledger.counts[each] >= before[each] + 5 for each in ("append", "query", "page"))

    return is_so


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_nothing_that_is_only_told_is_taken_for_a_proof(
    engine: str, tmp_path: Path, own_server: Callable[..., PostgresServer]
) -> None:
    await campaign(engine, tmp_path, own_server, random.randrange(2**32), 5)


async def test_positions_without_the_id_of_their_event_are_found_out(
    tmp_path: Path, own_server: Callable[..., PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: a position is believed whatever stands there, and what has read up to it never goes on."""
    monkeypatch.setattr(Mark, "agrees", lambda _, found: found is not None)

    async def attempt(seed: int) -> None:
        folder = tmp_path / str(seed)
        folder.mkdir()
        await campaign("sqlite", folder, own_server, seed, 4, planted=True)

    await assert_finds(attempt, "it does not come to rest|a subscriber has seen|a mail was never|rows of far are not")


@pytest.mark.soak
@pytest.mark.parametrize("number", range(14))
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_nothing_that_is_only_told_is_taken_for_a_proof_for_long(
    engine: str, tmp_path: Path, own_server: Callable[..., PostgresServer], number: int
) -> None:
    await campaign(engine, tmp_path, own_server, random.randrange(2**32), 60)
