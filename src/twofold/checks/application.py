"""The checks of an application: against its code alone, and against what its log holds."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

from twofold.checks.declared import decision_models, leaves, packages_of
from twofold.checks.findings import Finding
from twofold.commands.bus import CommandBus
from twofold.errors import InvalidMessageTypeError, TagsMissingError
from twofold.log.codec.event_types import EventTypes
from twofold.log.event_store import EventStore
from twofold.messages.command import Command
from twofold.messages.event import Event, RawEvent
from twofold.messages.query import Query
from twofold.messages.stream import RESERVED
from twofold.ports.checkpoints import SQL
from twofold.ports.maintenance import PortableLog
from twofold.projections.runner import ProjectionRunner
from twofold.queries.bus import QueryBus
from twofold.queries.read_model import ReadModel
from twofold.synchronizer.synchronizer import ReadModelSynchronizer


class ApplicationChecks:
    """Finds what an application declares and never uses, or uses and never declares.

    Args:
        store: whose event classes are known.
        commands: with the handlers of commands.
        queries: with the handlers of queries.
        projections: the read models, reactions and processes.
        packages: where messages are declared; by default the packages of what the application has registered.
    """

    def __init__(
        self,
        store: EventStore,
        commands: CommandBus,
        queries: QueryBus,
        projections: ReadModelSynchronizer,
        packages: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._commands = commands
        self._queries = queries
        self._projections = projections
        self._runners = projections.runners
        self._known = [codec.cls for codec in store.events.codecs if not codec.cls.__module__.startswith("twofold.")]
        self._packages = packages or packages_of(self._registered())

    def of_code(self) -> Iterator[Finding]:
        """Yield what is wrong with the code alone."""
        yield from self._without_handler(Command, self._commands.handlers, "TF001", "command")
        yield from self._without_handler(Query, self._queries.handlers, "TF002", "query")
        events = list(dict.fromkeys([*self._known, *leaves(Event, self._packages)]))
        yield from self._not_taken(events)
        yield from self._not_carried(events)
        yield from self._not_read()
        yield from self._unknown_reads()

    def event_types(self) -> EventTypes:
        """Return the classes of events that are known, and those that the packages declare, as far as both can be."""
        types = self._store.events.twin()
        for cls in leaves(Event, self._packages):
            with suppress(InvalidMessageTypeError):  # such as an older class under the same name; appending it says so
                types.register(cls)
        return types

    async def of_log(self) -> list[Finding]:
        """Return what is wrong with what the log and the read models' databases hold, which are open.

        Raises:
            StorageError: a database failed.
        """
        found = await cast(PortableLog, self._store.log).inspect()
        findings = [
            Finding(code="TF101", subject=name, text=f"The log holds {found.types[name]:,} events of the type {name}.")
            for name in found.types
            if not self._store.events.knows(name) and not name.startswith(RESERVED)
        ]
        try:
            await self._store.compare_tags()
        except TagsMissingError as error:
            tags = ", ".join(error.tags)
            text = f"Stored events of the type {error.type_name} lack the tag {tags} of today's class."
            findings.append(Finding(code="TF102", subject=error.type_name, text=text))
        names = {runner.name for runner in self._runners}
        for database in self._projections.databases:
            for name, *_ in await database.query(SQL["answering"]):
                if name not in names:
                    findings.append(Finding(code="TF103", subject=name, text=f"No projection has the name {name}."))
        return findings

    def _registered(self) -> Iterator[Any]:
        yield from self._commands.handlers
        yield from self._queries.handlers
        yield from self._known
        yield from (type(runner.projection) for runner in self._runners)

    def _without_handler(self, base: type, handled: Collection[type], code: str, kind: str) -> Iterator[Finding]:
        for cls in leaves(base, self._packages):
            if cls not in handled:
                yield Finding(code=code, subject=cls.__name__, text=f"The {kind} {_place(cls)} has no handler.")

    def _not_taken(self, events: Iterable[type]) -> Iterator[Finding]:
        taken = {event for runner in self._runners for event in runner.projection.handles()}
        if RawEvent in taken:
            return
        for cls in events:
            if cls not in taken:
                yield Finding(code="TF003", subject=cls.__name__, text=f"Nothing takes the event {_place(cls)}.")

    def _not_carried(self, events: Iterable[type]) -> Iterator[Finding]:
        """Yield the pairs of types and tags of decision models that no event has."""
        types = EventTypes()
        for cls in events:
            try:
                types.register(cls)
            except InvalidMessageTypeError:  # appending it says so
                continue
        for name, model in decision_models(self._packages):
            for item in model.query.items:
                for type_name, tag in ((each, tag) for each in item.types for tag in item.tags):
                    tags = types.tags_of(type_name)
                    if tags is not None and not tags.may_hold(tag):
                        key = tag.partition(":")[0]
                        text = f"{name} asks for the tag {key} of {type_name}, which has {_listed(tags.names)}."
                        yield Finding(code="TF004", subject=name, text=text)

    def _not_read(self) -> Iterator[Finding]:
        read: set[str] = set()
        for handler, reads in self._queries.handlers.values():
            read.update(reads or (), (model.name for model in _read_models(handler)))
        for runner in self._runners:
            if runner.has_read_model and runner.name not in read:
                yield Finding(code="TF005", subject=runner.name, text=f"No query reads {_described(runner)}.")

    def _unknown_reads(self) -> Iterator[Finding]:
        names = {runner.name for runner in self._runners if runner.has_read_model}
        for query, (_, reads) in self._queries.handlers.items():
            for name in sorted(set(reads or ()) - names):
                text = f"The handler of {_place(query)} reads {name!r}, which is no projection."
                yield Finding(code="TF006", subject=query.__name__, text=text)


def _read_models(handler: Any) -> Iterator[ReadModel[Any]]:
    """Yield the read models that a handler has in its attributes, its defaults or the variables around it."""
    values: list[Any] = list(vars(handler).values()) if hasattr(handler, "__dict__") else []
    function = inspect.unwrap(getattr(handler, "func", handler))
    values += [*getattr(handler, "args", ()), *getattr(handler, "keywords", {}).values()]
    if bound := getattr(function, "__self__", None):
        values += vars(bound).values()
    function = getattr(function, "__func__", function)
    if inspect.isfunction(function):
        around = inspect.getclosurevars(function)
        values += [*around.nonlocals.values(), *around.globals.values(), *(function.__defaults__ or ())]
    for value in values:
        if isinstance(value, ReadModel):
            yield value


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _described(runner: ProjectionRunner) -> str:
    return f"{runner.name}, of {_place(type(runner.projection))}"


def _listed(names: Sequence[str]) -> str:
    return f"the tags {', '.join(names)}" if names else "no tags"
