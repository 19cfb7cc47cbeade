"""The command line: `python -m orders serve | synchronize | import | simulate`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from orders.app import Shop, build
from orders.fulfilment import Fulfilling
from orders.importing import Outcome, RetailImport, write_report
from orders.queries import SalesByMonth, SalesLine
from orders.retail import RetailFileError, read_retail_file
from orders.serving import Parts, loop_factory
from orders.serving import serve as serve_http
from orders.simulation import Simulation
from twofold import open_event_store
from twofold.engines.engine import connect_replica
from twofold.engines.urls import hide_secrets
from twofold.errors import StaleReadError, TwofoldError


def _check_url(type_: object, url: str) -> None:
    _check(open_event_store, url)


def _check_replica(type_: object, url: str | None) -> None:
    if url:
        _check(connect_replica, url)


def _check(connecting: Callable[[str], object], url: str) -> None:
    try:
        connecting(url)
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from error


DatabaseUrl = Annotated[str, Parameter(env_var="DATABASE_URL", validator=_check_url)]
DEFAULT_DATABASE = "sqlite:///data/orders.db"
CATCH_UP = 60.0
"""Seconds that a report waits, at most, for the read model."""

app = App(name="orders", help="Orders, the reference application of Twofold: a shop on one durable log of events.")
console = Console()


@app.command
def serve(
    *,
    host: Annotated[str, Parameter(env_var="HOST")] = "127.0.0.1",
    port: Annotated[int, Parameter(env_var="PORT", validator=Number(gte=0, lte=65535))] = 8000,
    database_url: DatabaseUrl = DEFAULT_DATABASE,
    fulfil: Annotated[bool, Parameter(env_var="FULFIL")] = False,
    simulate: Annotated[bool, Parameter(env_var="SIMULATE")] = False,
    synchronize: Annotated[bool, Parameter(env_var="SYNCHRONIZE")] = True,
    reports: Annotated[Path | None, Parameter(env_var="REPORTS")] = None,
    replica_url: Annotated[str | None, Parameter(env_var="REPLICA_URL", validator=_check_replica)] = None,
    allowed_hosts: Annotated[str, Parameter(env_var="ALLOWED_HOSTS")] = "",
    grace: Annotated[int, Parameter(env_var="GRACE", validator=Number(gte=0))] = 10,
) -> int:
    """Serve the shop over HTTP.

    A first order, from another terminal:

        curl -i http://127.0.0.1:8000/orders -H 'Content-Type: application/json' -d '{"customer_id": "ada", "items":
        [{"product_id": "TEA-001", "quantity": 2, "price": "12.90"}], "shipping_address": {"street": "1 Row", "city":
        "London", "postal_code": "W1", "country": "UK"}}'

    All the rest is at http://127.0.0.1:8000/docs. Whatever was answered with 2xx is stored durably: kill the server,
    start it again, and it is there.

    Parameters
    ----------
    host:
        The address to listen at; 0.0.0.0 to be reached from other machines.
    port:
        The port; 0 takes a free one and says which.
    database_url:
        sqlite:///relative/path.db, sqlite:////absolute/path.db or postgresql://user@host/database.
    fulfil:
        See orders through to their end: wait for payments, reserve stock, ship, refund. What is not paid within three
        days is cancelled.
    simulate:
        Let simulated customers order and pay, so that there is something to see; it means `fulfil`, in haste, with a
        bank and a carrier that behave badly.
    synchronize:
        Keep the read models in step with the log; else another process must do it, such as `orders synchronize`.
    reports:
        A DuckDB file for the revenue report, such as data/reports.duckdb, which one process owns; or, without the
        ending, the folder into which that process writes snapshots. Without it there is no such report.
    replica_url:
        A streaming standby of the PostgreSQL database, which then answers the queries.
    allowed_hosts:
        The names under which clients reach the server, separated by commas. Its addresses, localhost and the name of
        this machine are always allowed; "*" allows every name.
    grace:
        Seconds that requests get to end after SIGTERM or Ctrl+C; then the server cuts them off.
    """
    reports = reports if reports and reports.name else None  # set, and empty
    parts = Parts(
        synchronize=synchronize,
        fulfil=fulfil,
        simulate=simulate,
        reports=reports,
        replica_url=replica_url,
        allowed_hosts=[host.strip() for host in allowed_hosts.split(",") if host.strip()],
        grace=grace,
    )
    return _run(lambda: serve_http(host, port, database_url, parts, console))


@app.command
def synchronize(
    *, fulfil: Annotated[bool, Parameter(env_var="FULFIL")] = False, database_url: DatabaseUrl = DEFAULT_DATABASE
) -> int:
    """Keep the read models in step with the log, for servers that leave that to another process.

    Parameters
    ----------
    fulfil:
        See orders through to their end, too.
    database_url:
        sqlite:///relative/path.db, sqlite:////absolute/path.db or postgresql://user@host/database.
    """
    return _run(lambda: _synchronize(database_url, Fulfilling() if fulfil else None))


@app.command(name="import")
def import_(
    file: Path, *, report: Path = Path("data/rejected.csv"), database_url: DatabaseUrl = DEFAULT_DATABASE
) -> int:
    """Replay a file of real orders as commands, and report what the read model makes of them.

    An invoice becomes a shipped order, a line of a credit note (C…) returns goods to the customer's newest earlier
    order that holds them. What breaks a rule is rejected, counted and written to the report. A second run changes
    nothing.

    Parameters
    ----------
    file:
        CSV or gzipped CSV in the layout of "Online Retail" (https://archive.ics.uci.edu/dataset/352/online+retail).
    report:
        Where the rejected lines are written, each with its number and the reason.
    database_url:
        sqlite:///relative/path.db, sqlite:////absolute/path.db or postgresql://user@host/database.
    """
    return _run(lambda: _import(file, report, database_url))


@app.command
def simulate(*, seconds: float = 10.0, seed: int = 1, database_url: DatabaseUrl = DEFAULT_DATABASE) -> int:
    """Let simulated customers order for a while, without a server.

    Parameters
    ----------
    seconds:
        How long.
    seed:
        Of the past that is made at once; the same seed makes the same past, once.
    database_url:
        sqlite:///relative/path.db, sqlite:////absolute/path.db or postgresql://user@host/database.
    """
    return _run(lambda: _simulate(seconds, seed, database_url))


async def _import(path: Path, report: Path, database_url: str) -> None:
    file = read_retail_file(path)
    async with build(database_url) as application:
        shop = Shop(application)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bar:
            lines = bar.add_task("lines", total=file.line_count)
            outcome = await RetailImport(shop, file, lambda count: bar.advance(lines, count)).run()
        write_report(report, outcome.rejected)
        await _catch_up(shop)
        _print_outcome(outcome, file.line_count, report)
        _print_sales(await shop.ask(SalesByMonth()))


async def _synchronize(database_url: str, fulfilment: Fulfilling | None) -> None:
    async with build(database_url, fulfilment=fulfilment):
        console.print("Orders keeps its read models in step with the log. Stop with Ctrl+C.")
        await asyncio.Event().wait()


async def _simulate(seconds: float, seed: int, database_url: str) -> None:
    async with build(database_url) as application:
        shop = Shop(application)
        try:
            async with asyncio.timeout(seconds):
                await Simulation(shop, seed).run()
        except TimeoutError:
            pass
        await _catch_up(shop)
        _print_sales(await shop.ask(SalesByMonth()))


async def _catch_up(shop: Shop) -> None:
    with Progress(SpinnerColumn(), TextColumn("waiting for the read model"), console=console, transient=True) as bar:
        bar.add_task("")
        await shop.app.projections.wait(shop.written, CATCH_UP)


def _print_outcome(outcome: Outcome, lines: int, report: Path) -> None:
    console.print(f"{lines} lines: {outcome.accepted} imported, {len(outcome.rejected)} rejected")
    console.print(f"  {outcome.orders} orders, {outcome.returns} returns")
    for reason, count in outcome.reasons.most_common():
        console.print(f"  rejected, {reason}: {count}")
    if outcome.rejected:
        console.print(f"  every rejected line with its reason: {report}", soft_wrap=True)
    if not outcome.changes:
        console.print("Nothing changed: all of it had been imported before.")


def _print_sales(sales: Sequence[SalesLine]) -> None:
    """Print the report that the read model gives on all orders, of this import or not."""
    console.print(_table("month", sales, lambda line: line.month))
    console.print(_table("country", sales, lambda line: line.country))


def _table(title: str, sales: Sequence[SalesLine], group_of: Callable[[SalesLine], str]) -> Table:
    table = Table(title, title=f"Sales by {title}, from the read model", show_footer=True)
    groups: dict[str, list[SalesLine]] = {}
    for line in sales:
        groups.setdefault(group_of(line), []).append(line)
    table.columns[0].footer = "all"
    for heading, total in zip(("orders", "items", "revenue", "returned"), _sums(sales), strict=True):
        table.add_column(heading, total, justify="right")
    for group in sorted(groups):
        table.add_row(group, *_sums(groups[group]))
    return table


def _sums(lines: Iterable[SalesLine]) -> tuple[str, ...]:
    own = list(lines)
    revenue = sum((line.revenue for line in own), Decimal("0.00"))
    returned = sum((line.returned for line in own), Decimal("0.00"))
    counts = sum(line.orders for line in own), sum(line.items_sold for line in own)
    return (*map(str, counts), f"{revenue:,.2f}", f"{returned:,.2f}")


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run, and tell what goes wrong outside of the program in one line."""
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(work())
    except KeyboardInterrupt:
        return 130
    except BaseExceptionGroup as group:
        return _complain(_first(group))
    except Exception as error:
        return _complain(error)
    return 0


def _complain(error: BaseException) -> int:
    if not isinstance(error, TwofoldError | RetailFileError | OSError):
        raise error
    text = f"{error.strerror or error} ({error.filename})" if isinstance(error, OSError) and error.filename else error
    print(f"orders: {_without_secretss(str(text))}", file=sys.stderr)
    if isinstance(error, StaleReadError):
        print("orders: everything is stored; GET /health says which read model stands still, and why", file=sys.stderr)
    return 1


def _without_secretss(text: str) -> str:
    for each in (*sys.argv[1:], *map(os.environ.get, ("DATABASE_URL", "REPLICA_URL"))):
        text = hide_secrets(text, each or "")
    return text


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


if __name__ == "__main__":
    sys.exit(app())
