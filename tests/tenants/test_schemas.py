"""The other choice: an application, and on PostgreSQL a schema, for each tenant."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from tests.accounts import Balance, Balances, Open, wire
from tests.synchronizing import PATIENCE

from twofold import Application, ReadModel


def application(url: str, schema: str) -> tuple[Application, ReadModel[Balance]]:
    app = Application(f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}")
    wire(app)
    return app, app.projections.add(Balances())


async def test_a_schema_for_each_tenant_in_one_database_holds_a_log_and_read_models_of_its_own(
    new_database: Callable[[int], str],
) -> None:
    url = new_database(18)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA acme; CREATE SCHEMA zen")
    acme, acmes = application(url, "acme")
    zen, zens = application(url, "zen")
    async with acme, zen:
        for app, balances, owner in ((acme, acmes, "acme"), (zen, zens, "zen")):
            receipt = await app.commands.execute(Open(account="a", owner=owner))
            await app.projections.wait(receipt, PATIENCE)
            assert await balances.get("a") == Balance("a", owner)
        assert (await acme.store.head(), await zen.store.head()) == (1, 1)
