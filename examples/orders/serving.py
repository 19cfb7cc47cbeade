"""Runs the HTTP API, with or without simulated customers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import uvicorn
from rich.console import Console

from fastapi import FastAPI
from orders.app import Shop, build
from orders.fulfilment import Fulfilling
from orders.http import build_api
from orders.simulation import Simulation, simulated_fulfilling
from twofold import Application
from twofold.engines.urls import without_secrets

MAX_HEADERS = 64 * 1024
"""Bytes of a request's headers. Only uvicorn's `h11` limits them; its faster parser would keep any number."""

BODY = (
    '{"customer_id": "ada", "items": [{"product_id": "TEA-001", "quantity": 2, "price": "12.90"}], "shipping_address":'
    ' {"street": "1 Row", "city": "London", "postal_code": "W1", "country": "UK"}}'
)


class Parts(NamedTuple):
    """What a server does beside answering."""

    synchronize: bool = True
    """Keep the read models in step with the log."""
    fulfil: bool = False
    """See orders through to their end: wait for payments, reserve stock, ship, refund."""
    simulate: bool = False
    """Let simulated customers order, and pay."""
    reports: Path | None = None
    """See `add_reports`."""
    replica_url: str | None = None
    """A streaming standby that answers the queries."""
    allowed_hosts: Collection[str] = ()
    """The names under which clients reach the server, beside its addresses, `localhost` and the machine's own name."""
    grace: int = 10
    """Seconds that requests get to end when the server is told to; then they are cut off."""

    def fulfilling(self) -> Fulfilling | None:
        """Return who sees orders through to their end, if that is wanted."""
        if self.simulate:
            return simulated_fulfilling()
        return Fulfilling() if self.fulfil else None


async def serve(host: str, port: int, database_url: str, parts: Parts, console: Console) -> None:
    """Serve until a signal ends it.

    Raises:
        OSError: the address is in use, or is none of this machine's.
        StorageError, InvalidProjectionError: the database cannot be used.
    """
    async with _build(database_url, parts):
        pass  # so that a database that cannot be used is told in one line, before there is a server
    with _listen(host, port) as listener:
        fulfilling = parts.fulfilling()
        app = _build(database_url, parts, fulfilling, synchronize=parts.synchronize)

        @asynccontextmanager
        async def lifespan(api: object) -> AsyncIterator[None]:
            async with app.lifespan(api):
                simulation = Simulation(Shop(app), bank=fulfilling.partners.bank if fulfilling else None)
                customers = asyncio.create_task(simulation.run()) if parts.simulate else None
                _welcome(console, host, listener.getsockname()[1], database_url, simulate=parts.simulate)
                yield
                if customers:
                    customers.cancel()
                    await asyncio.gather(customers, return_exceptions=True)

        hosts = {*parts.allowed_hosts, host, socket.gethostname()}
        fulfils = fulfilling is not None
        api = build_api(app, lifespan, reports=parts.reports is not None, fulfilment=fulfils, hosts=hosts)
        with suppress(KeyboardInterrupt):
            await uvicorn.Server(_config(api, parts.grace)).serve([listener])


def _build(url: str, parts: Parts, fulfilling: Fulfilling | None = None, *, synchronize: bool = True) -> Application:
    return build(
        url,
        synchronize=synchronize,
        reports=parts.reports,
        replica_url=parts.replica_url,
        fulfilment=fulfilling,
    )


def _config(api: FastAPI, grace: int) -> uvicorn.Config:
    return uvicorn.Config(
        api,
        http="h11",
        h11_max_incomplete_event_size=MAX_HEADERS,
        timeout_graceful_shutdown=grace,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
    )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return how uvicorn would make the event loop: with uvloop, where that is installed."""
    return uvicorn.Config("").get_loop_factory()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot listen at {host}, port {port}: {error}; choose others with HOST and PORT") from None
    # Connections inherit it. asyncio would set it only on sockets that it made itself, and without it each answer of
    # a kept connection is held back for the 40 ms of a delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _welcome(console: Console, host: str, port: int, database_url: str, *, simulate: bool) -> None:
    address = f"[{host}]" if ":" in host else host
    url = f"http://{address}:{port}"
    lines = [
        f"Orders is serving at {url}",
        f"Documentation:       {url}/docs",
        f"Dashboard:           {url}/twofold/",
        f"Database:            {without_secrets(database_url)}",
        *(["Simulated customers: a few hundred orders at once, then one action each second"] if simulate else []),
        "",
        "Try:",
        f"  curl -i {url}/orders -H 'Content-Type: application/json' -d '{BODY}'",
        f"  curl '{url}/orders/search?q=lon&sort_by=total_amount&sort_order=desc'",
        f"  curl {url}/customers/ada/orders",
        "",
        "Stop with Ctrl+C.",
    ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
