"""Records of a log tell on whose behalf they were written, and what caused the code that wrote them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from tests.synchronizing import until

from twofold import Application, Command, Event, Reaction, metadata
from twofold.telemetry import CorrelationFilter

log = logging.getLogger("shop")


@dataclass(frozen=True, kw_only=True)
class Sold(Event):
    what: str


@dataclass(frozen=True, kw_only=True)
class Sell(Command[None]):
    what: str


class Labels(Reaction):
    name = "labels"

    def handles(self) -> tuple[type, ...]:
        return (Sold,)

    async def apply(self, event: Sold) -> None:
        log.warning("label for %s", event.what)


def shop(url: str) -> Application:
    """Return an application whose handler and reaction write records."""

    async def sell(command: Sell) -> None:
        log.warning("sell %s", command.what)
        await app.store.append([Sold(what=command.what)])

    app = Application(url)
    app.commands.register(Sell, sell)
    app.projections.add(Labels())
    return app


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, dict[str, object]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.records[record.getMessage()] = vars(record)


@pytest.fixture
def kept() -> Iterator[dict[str, dict[str, object]]]:
    handler = Kept()
    handler.addFilter(CorrelationFilter())
    log.addHandler(handler)
    yield handler.records
    log.removeHandler(handler)


async def test_a_record_of_a_command_and_one_of_what_follows_name_the_same_request(
    url: str, kept: dict[str, dict[str, object]]
) -> None:
    app, command, correlation = shop(url), Sell(what="tea"), uuid4()
    async with app:
        with metadata(correlation_id=correlation, user="ann"):
            await app.commands.execute(command)
        await until(lambda: _is_in(kept, "label for tea"))
        [sold] = [each async for each in app.store.read()]
    assert told(kept["sell tea"]) == (str(correlation), str(command.command_id), str(command.command_id), "", "ann")
    assert told(kept["label for tea"]) == (str(correlation), str(sold.event_id), "", "", "ann")


def test_a_record_written_for_no_one_has_empty_texts_and_a_value_of_its_own_stays(
    kept: dict[str, dict[str, object]],
) -> None:
    log.warning("alone", extra={"user": "eve"})
    assert told(kept["alone"]) == ("", "", "", "", "eve")


def told(record: dict[str, object]) -> tuple[object, ...]:
    return tuple(record[each] for each in ("correlation_id", "causation_id", "command_id", "tenant", "user"))


async def _is_in(kept: dict[str, dict[str, object]], message: str) -> bool:
    return message in kept
