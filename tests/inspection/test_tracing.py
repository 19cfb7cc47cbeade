"""A trace tells, without code, what caused an event and what followed: through commands, processes and streams."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from tests.accounts import Open, wire
from tests.fulfilment import (
    NoStockError,
    OrderCancelled,
    OrderPlaced,
    PaymentReceived,
    PaymentRequested,
    ReserveItems,
    running,
    until_events,
    until_status,
)
from tests.synchronizing import engine_at, opened

from twofold import Application, EventStore, metadata
from twofold.errors import EventNotFoundError
from twofold.inspection import Trace, TracedEvent, document_of, trace
from twofold.inspection.searching import portable
from twofold.options import InspectionOptions


def drawn(found: Trace) -> list[str]:
    """Return a trace as a drawing."""
    return ["  " * node.depth + _name(node) for node in found.nodes]


def _name(node: object) -> str:
    if isinstance(node, TracedEvent):
        return node.event.type
    return f"command {node.name}" + (f" refused {node.refusal}" if node.refusal else "")  # type: ignore[attr-defined]


async def test_a_trace_goes_through_processes_their_commands_and_refusals(url: str) -> None:
    async with running(url) as (app, shop):
        shop.failing = lambda command: NoStockError("empty") if isinstance(command, ReserveItems) else None
        with metadata(user="ann"):
            await app.store.append([OrderPlaced(order="o1")])
            await app.store.append([OrderPlaced(order="other")])
        await until_events(app, "o1", PaymentRequested)
        await app.store.append([PaymentReceived(order="o1")])
        await until_events(app, "o1", PaymentRequested, OrderCancelled)
        await until_status(app, "o1", "completed")
        tree = await trace(app.store, 1)
        assert drawn(tree) == [
            "OrderPlaced",
            "  twofold.ProcessStep",
            "    command RequestPayment",
            "      PaymentRequested",
            "        twofold.ProcessStep",
        ]
        paid = next(n for n in [each async for each in app.store.read(unknown="raw")] if n.type == "PaymentReceived")
        assert drawn(await trace(app.store, paid.event_id)) == [
            "PaymentReceived",
            "  twofold.ProcessStep",
            "    command ReserveItems refused NoStockError: empty",
            "    twofold.ProcessStep",
            "      command CancelOrder",
            "        OrderCancelled",
            "          twofold.ProcessStep",
            "          twofold.ProcessStep",
        ]
        assert tree.is_complete
        last = tree.nodes[-1]
        assert isinstance(last, TracedEvent)
        again = await trace(app.store, last.event.position)
        assert again.nodes == tree.nodes, "from wherever one asks, it is the same tree"


async def test_a_command_is_traced_by_its_id_and_by_its_events(any_url: str) -> None:
    async with Application(any_url) as app:
        wire(app)
        command = Open(account="a")
        await app.commands.execute(command)
        found = await trace(app.store, 1)
        assert drawn(found) == ["command Open", "  Opened"]
        assert found.correlation_id == command.command_id
        assert (await trace(app.store, command.command_id)).nodes == found.nodes
        with pytest.raises(EventNotFoundError):
            await trace(app.store, uuid4())
        await portable(app.store).prune_commands(before=2**62, limit=10, write=True)
        assert drawn(await trace(app.store, 1)) == ["command ", "  Opened"], "its record was removed"


async def _chain(store: EventStore, length: int) -> list[UUID]:
    """Append events each of which names the one before it as its cause."""
    ids: list[UUID] = []
    for n in range(length):
        with metadata(**({"correlation_id": ids[0], "causation_id": ids[-1]} if ids else {})):
            ids.append(uuid4())
            await store.append([opened(f"a{n}")], event_ids=ids[-1:])
    return ids


async def test_a_chain_longer_than_pythons_stack_is_traced_and_can_be_written_down() -> None:
    async with engine_at("memory://") as (_, store):
        ids = await _chain(store, 1500)
        found = await trace(store, ids[700], options=InspectionOptions(traced=2000))
        assert [node.depth for node in found.nodes] == list(range(1500))
        assert len(document_of(found)["nodes"]) == 1500


async def test_a_trace_says_that_it_is_cut_off(any_url: str) -> None:
    async with engine_at(any_url) as (_, store):
        ids = await _chain(store, 8)
        found = await trace(store, ids[7], options=InspectionOptions(traced=4))
        assert not found.is_complete
        assert len(found.nodes) == 8, "what leads up to the event is always there"
        assert not (await trace(store, ids[0], options=InspectionOptions(traced=4))).is_complete


async def test_causes_that_go_in_a_circle_end(any_url: str) -> None:
    one, two = uuid4(), uuid4()
    async with engine_at(any_url) as (_, store):
        for own, other in ((one, two), (two, one)):
            with metadata(correlation_id=one, causation_id=other):
                await store.append([opened("a")], event_ids=[own])
        async with asyncio.timeout(10):
            assert len((await trace(store, one)).nodes) == 2


async def test_what_followed_from_others_of_the_same_request_is_another_tree(any_url: str) -> None:
    async with engine_at(any_url) as (_, store):
        request = uuid4()
        with metadata(correlation_id=request):
            await store.append([opened("a")], event_ids=[first := uuid4()])
            await store.append([opened("b")])
        with metadata(correlation_id=request, causation_id=first):
            await store.append([opened("c")])
        nodes = (await trace(store, 3)).nodes
        assert [node.event.position for node in nodes if isinstance(node, TracedEvent)] == [1, 3]
