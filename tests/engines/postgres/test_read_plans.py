"""What questions to a read model touch before the server has any statistics, as right after it was built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import psycopg

from twofold import Application, Event, Index, Key, Projection, on

ROWS = 30_000


@dataclass(frozen=True, kw_only=True)
class Booked(Event):
    order: str
    customer: str


@dataclass(frozen=True)
class Order:
    order: Annotated[str, Key()]
    customer: Annotated[str, Index()]


class Orders(Projection[Order]):
    name = "orders"

    @on(Booked)
    def booked(self, event: Booked) -> Order:
        return Order(event.order, event.customer)


PAGE = """EXPLAIN SELECT * FROM orders__1 WHERE customer = 'c7' ORDER BY "order" LIMIT 20"""


async def test_a_page_of_one_value_comes_from_its_index(new_database: Callable[[int], str]) -> None:
    url = new_database(18)
    app = Application(url)
    app.projections.add(Orders())
    async with app:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER TABLE orders__1 SET (autovacuum_enabled = off)")  # nor does it analyze then
        events = [Booked(order=f"o{n}", customer=f"c{n % (ROWS // 10)}") for n in range(ROWS)]
        await app.projections.wait((await app.store.append(events)).position, timeout=60)
    with psycopg.connect(url) as connection:
        plan = "\n".join(line for (line,) in connection.execute(PAGE).fetchall())
    assert "using orders__1_by_customer" in plan, plan
