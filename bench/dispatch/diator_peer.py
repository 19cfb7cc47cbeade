"""The library `diator`, with three middlewares and the container `di`, as its documentation shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import di
from di.dependent import Dependent
from diator.container.di import DIContainer
from diator.mediator import Mediator
from diator.middlewares import MiddlewareChain
from diator.requests import Request, RequestHandler, RequestMap
from diator.response import Response

from bench.dispatch.calls import main, ready


@dataclass(frozen=True, kw_only=True)
class Add(Request):  # type: ignore[misc]  # comes from the peers' environment
    number: int


@dataclass(frozen=True, kw_only=True)
class Added(Response):  # type: ignore[misc]
    number: int


class AddHandler(RequestHandler[Add, Added]):  # type: ignore[misc]
    @property
    def events(self) -> list[Any]:
        return []

    async def handle(self, request: Add) -> Added:
        return Added(number=request.number + 1)


class Through:
    async def __call__(self, request: Any, handle: Any) -> Any:
        return await handle(request)


def _mediator() -> Mediator:
    requests, chain, inner, container = RequestMap(), MiddlewareChain(), di.Container(), DIContainer()
    requests.bind(Add, AddHandler)
    for _ in range(3):
        chain.add(Through())
    inner.bind(di.bind_by_type(Dependent(AddHandler, scope="request"), AddHandler))
    container.attach_external_container(inner)
    return Mediator(request_map=requests, container=container, middleware_chain=chain)


mediator = _mediator()


async def send(number: int) -> int:
    return int((await mediator.send(Add(number=number))).number)


if __name__ == "__main__":
    main(ready(send))
