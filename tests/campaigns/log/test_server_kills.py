"""The server, or one of its processes, is killed in the middle of commits; the clients find out what became of them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import psycopg
import pytest
from tests.campaigns.log.logs import Patient, renamed, sound
from tests.campaigns.log.writing import until_all_go_on, writing
from tests.campaigns.planted import assert_finds
from tests.postgres_servers import PostgresServer

from twofold.engines.postgres import PostgresDatabase, PostgresEventLog
from twofold.engines.postgres.log.batch import Batch, Outcome
from twofold.engines.postgres.log.lane import Lane
from twofold.engines.postgres.log.writer import Writer
from twofold.engines.postgres.wire.connection import Wire
from twofold.ports.event_log import Append, EventLog
from twofold.testing.judge import Report, judge, whole_log
from twofold.testing.race import Race

WRITERS = 2
IN_A_COMMIT = """
    SELECT pid FROM pg_stat_activity WHERE query LIKE '%%twofold_append%%' AND state = 'active'
    AND pid <> pg_backend_pid() AND (lower(wait_event) = 'walsync' OR %s)"""


def patient(url: str) -> EventLog:
    return Patient(sound(url))


def kill_often(
    server: PostgresServer, folder: Path, kills: int, seed: int, client: Callable[[str], EventLog] = patient
) -> Report:
    """Kill in turns the first process and one that commits, and let every writer go on in between."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    plan = Race(partial(client, server.url("postgres")), folder, seed, writers=WRITERS, seconds=3600.0)
    with writing(plan) as processes:
        for number in range(kills):
            until_all_go_on(plan, processes)
            time.sleep(chance.uniform(0.0, 0.02))  # the moment of the kill
            if number % 4 == 0:
                server.restart("KILL")
            else:
                kill_a_commit(server)
        until_all_go_on(plan, processes)
    report = judge(asyncio.run(whole_log(partial(sound, server.url("postgres")))), folder)
    print(report)
    return report


def kill_a_commit(server: PostgresServer) -> None:
    """Kill the process of a connection whose commit waits for the disk, or any that appends if none is ever seen to."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        patience = time.monotonic() + 0.5
        while not (row := connection.execute(IN_A_COMMIT, [time.monotonic() > patience]).fetchone()):
            pass
        os.kill(row[0], signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):  # the server notices, and ends all others as well
            while True:
                connection.execute("SELECT")
    while not server.answers():
        time.sleep(0.01)  # it recovers


class Naive(Writer):
    """Planted bug: a batch whose connection was lost is sent again with new event ids."""

    async def _call(self, wire: Wire, batch: Batch) -> Sequence[Outcome]:
        try:
            return await super()._call(wire, batch)
        except psycopg.OperationalError:
            batch.appends = [Append(tuple(map(renamed, each.events)), each.expected) for each in batch.appends]
            batch.__dict__.pop("arguments", None)
            raise


def naive(url: str) -> EventLog:
    log = PostgresEventLog(PostgresDatabase(url))
    log._lane = Lane(Naive(log._database, log._head, log._listener.look_again), log._database.options)
    return Patient(log)


def test_no_kill_of_the_server_loses_or_doubles_an_append(
    own_server: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    report = kill_often(own_server(on_disk=True), tmp_path, 12, random.randrange(1_000_000))
    assert report.found_again


@pytest.mark.soak
@pytest.mark.parametrize("_", range(5))
@pytest.mark.parametrize("version", [15, 18])
def test_kills_of_the_server_at_full_length(
    own_server: Callable[..., PostgresServer], tmp_path: Path, version: int, _: int
) -> None:
    kill_often(own_server(version, on_disk=True), tmp_path, 50, random.randrange(1_000_000))


async def test_a_client_that_tries_again_with_fresh_ids_is_found(
    own_server: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    server = own_server(on_disk=True)
    await assert_finds(
        lambda seed: asyncio.to_thread(kill_often, server, tmp_path, 3, seed, naive),
        r"stored twice, under several ids|acknowledged at",
    )
