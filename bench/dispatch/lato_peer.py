"""The library `lato`, with three transaction middlewares, as its documentation shows."""

from __future__ import annotations

from typing import Any

from lato import Application, Command, TransactionContext

from bench.dispatch.calls import main, ready


class Add(Command):  # type: ignore[misc]  # comes from the peers' environment
    number: int


bus = Application("bench")


@bus.handler(Add)  # type: ignore[untyped-decorator]
async def add(command: Add) -> int:
    return command.number + 1


async def first(context: TransactionContext, call_next: Any) -> Any:
    return await call_next()


async def second(context: TransactionContext, call_next: Any) -> Any:
    return await call_next()


async def third(context: TransactionContext, call_next: Any) -> Any:
    return await call_next()


for middleware in (first, second, third):
    bus.transaction_middleware(middleware)

if __name__ == "__main__":
    main(ready(lambda number: bus.execute_async(Add(number=number))))
