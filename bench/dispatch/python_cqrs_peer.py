"""The library `python-cqrs`, with three middlewares and the container `di`, as its documentation shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cqrs
import di
from cqrs.container.di import DIContainer
from cqrs.mediators.request import RequestMediator
from cqrs.middlewares.base import MiddlewareChain
from di.dependent import Dependent

from bench.dispatch.calls import main, ready


@dataclass(kw_only=True)
class Add(cqrs.DCRequest):  # type: ignore[misc]  # comes from the peers' environment
    number: int


@dataclass(kw_only=True)
class Added(cqrs.DCResponse):  # type: ignore[misc]
    number: int


class AddHandler(cqrs.RequestHandler[Add, Added]):  # type: ignore[misc]
    @property
    def events(self) -> Sequence[Any]:
        return ()

    async def handle(self, request: Add) -> Added:
        return Added(number=request.number + 1)


class Through:
    async def __call__(self, request: Any, handle: Any) -> Any:
        return await handle(request)


def _mediator() -> RequestMediator:
    requests, chain, inner, container = cqrs.RequestMap(), MiddlewareChain(), di.Container(), DIContainer()
    requests.bind(Add, AddHandler)
    for _ in range(3):
        chain.add(Through())
    inner.bind(di.bind_by_type(Dependent(AddHandler, scope="request"), AddHandler))
    container.attach_external_container(inner)
    return RequestMediator(request_map=requests, container=container, middleware_chain=chain)


mediator = _mediator()


async def send(number: int) -> int:
    return int((await mediator.send(Add(number=number))).number)


if __name__ == "__main__":
    main(ready(send))
