"""Receipts name the event at their position, however one gets them, and are compared with the log when it is needed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.accounts import Deposit, Deposited, Open, Opened, wire
from tests.recording_log import RecordingLog

from twofold import Application, EventStore, Position, Receipt
from twofold.engines.memory import MemoryEventLog
from twofold.errors import InvalidTokenError
from twofold.log.known_positions import KnownPositions
from twofold.messages.ids import uuid7
from twofold.messages.session import WriteToken
from twofold.options import LogOptions

ONE = Deposited(account="a", amount=Decimal(1))


async def names_its_event(store: EventStore, position: Position) -> bool:
    mark = await store.log.mark(position)
    return mark is not None and position.event_id == mark.event_id != b""


async def test_every_receipt_names_the_event_at_its_position(store: EventStore) -> None:
    ids = [uuid7(), uuid7()]
    events = [Opened(account="a"), ONE]
    receipts = [await store.append(events, event_ids=ids) for _ in range(2)]
    assert [each.repeated for each in receipts] == [False, True]
    async with store.transaction() as tx:
        tx.append([ONE], event_ids=[again := uuid7()])
        tx.append([ONE])
    receipts += tx.receipts
    async with store.transaction() as repeat:
        repeat.append([ONE], event_ids=[again])
    assert repeat.receipts[0].repeated
    receipts += repeat.receipts
    for receipt in receipts:
        assert await names_its_event(store, receipt.position)
        assert await names_its_event(store, Position.parse(receipt.position.text))


@pytest.mark.parametrize("kind", ["engine", "memory"])
async def test_every_receipt_of_a_command_names_the_event_at_its_position(url: str, kind: str) -> None:
    async with Application("memory://" if kind == "memory" else url) as app:
        wire(app)
        await app.commands.execute(Open(account="a"))
        deposit = Deposit(account="a", command_id=uuid7())
        first, again = [await app.commands.execute(deposit) for _ in range(2)]
        assert (first.position, again.position, again.repeated) == (2, 2, True)
        for receipt in (first, again):
            assert await names_its_event(app.store, receipt.position)


def test_what_shows_two_writes_names_the_event_of_the_later_one() -> None:
    named, bare, earlier = Position(7, b"seven"), WriteToken(7, None), WriteToken(Position(6, b"six"), None)
    for other in (bare, earlier, WriteToken()):
        for merged in (WriteToken(named, None).merge(other), other.merge(WriteToken(named, None))):
            assert WriteToken.of(merged).position == 7
            assert isinstance(merged.position, Position)
            assert merged.position.event_id == b"seven"
    receipt = Receipt(value=None, position=named)
    assert WriteToken.of(receipt).position is WriteToken.of(named).position is named


async def test_the_log_is_asked_once_about_a_position_and_never_about_what_was_just_appended() -> None:
    log = RecordingLog(MemoryEventLog())
    store = EventStore(log)
    first, second = [(await store.append([ONE])).position for _ in range(2)]
    for position in (0, 2, first, second, Position.parse(second.text)):
        await store.known_positions.compare(position)
    assert log.calls["mark"] == 0
    other = KnownPositions(log, LogOptions(believed=3600))
    for position in (second, first, second, first):
        await other.compare(position)
    assert log.calls["mark"] == 2
    other._looked_at -= 3600  # as long ago as it is believed
    for position in (second, first):
        await other.compare(position)
    assert log.calls["mark"] == 3, "one look at the highest stands for all"
    for forged in (Position(1, second.event_id), Position(3, second.event_id)):
        with pytest.raises(InvalidTokenError, match="is of another history"):
            await other.compare(forged)
