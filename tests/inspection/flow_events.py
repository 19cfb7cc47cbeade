"""Handlers in each way in which one can be written; what they make is read from their code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from tests.inspection import flow_others

from twofold import Aggregate, Application, Command, Decider, DeciderHandler, DecisionModel, Event, EventQuery, Tag, on


@dataclass(frozen=True, kw_only=True)
class Noted(Event):
    thing: Annotated[str, Tag("thing")]


@dataclass(frozen=True, kw_only=True)
class ByFunction(Command[None]):
    thing: str


@dataclass(frozen=True, kw_only=True)
class ByClosure(Command[None]):
    thing: str


@dataclass(frozen=True, kw_only=True)
class ByModule(Command[None]):
    thing: str


@dataclass(frozen=True, kw_only=True)
class ByDecider(Command[str]):
    thing: str


@dataclass(frozen=True, kw_only=True)
class ByHelper(Command[None]):
    thing: str


@dataclass(frozen=True, kw_only=True)
class ByPartial(Command[None]):
    thing: str


@dataclass(frozen=True, kw_only=True)
class ByAct(Command[None]):
    note_id: str


@dataclass(frozen=True, kw_only=True)
class OnlyAsks(Command[None]):
    thing: str


class Note(Aggregate):
    def write(self) -> None:
        self.record(Noted(thing=self.id))

    @on(Noted)
    def _noted(self, event: Noted) -> None:
        pass


def decide(command: ByDecider, state: int) -> list[Noted]:
    return [Noted(thing=command.thing)]


def evolve(state: int, event: Noted) -> int:
    return state + 1


DECIDER = Decider(initial_state=int, decide=decide, evolve=evolve, stream_type="Thing", events=(Noted,))


def noted(thing: str) -> Noted:
    return Noted(thing=thing)


async def by_partial(app: Application, command: ByPartial) -> None:
    await app.store.append([Noted(thing=command.thing)])


def only_asks(app: Application) -> Callable[[OnlyAsks], Awaitable[None]]:
    model = DecisionModel(query=EventQuery.of(Noted), initial_state=0, evolve=evolve)

    async def handle(command: OnlyAsks) -> None:
        await app.store.look(model)
        if isinstance(command, Noted):
            return

    return handle


def add_handlers(app: Application) -> None:
    """Register a handler of each kind."""

    async def by_function(command: ByFunction) -> None:
        await app.store.append([Noted(thing=command.thing)])

    def closure(event: type[Any]) -> Callable[[ByClosure], Awaitable[None]]:
        async def handle(command: ByClosure) -> None:
            await app.store.append([event(thing=command.thing)])

        return handle

    async def by_module(command: ByModule) -> None:
        await app.store.append([flow_others.Elsewhere(thing=command.thing)])

    async def by_helper(command: ByHelper) -> None:
        await app.store.append([noted(thing) for thing in [command.thing]])

    app.commands.register(ByFunction, by_function)
    app.commands.register(ByClosure, closure(Noted))
    app.commands.register(ByModule, by_module)
    app.commands.register(ByDecider, DeciderHandler(app.store, DECIDER, lambda command: command.thing))
    app.commands.register(ByHelper, by_helper)
    app.commands.register(ByPartial, partial(by_partial, app))
    app.repository(Note).handle(ByAct, lambda note, command: note.write())
