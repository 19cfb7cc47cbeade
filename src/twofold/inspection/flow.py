"""How messages flow through an application, as its code says: commands → events → read models and processes.

What is registered says who takes which event. Which events a command's handler stores, and which commands a process
sends, stands in no declaration: the names that their code mentions are looked up, on through the functions and the
methods of aggregates and deciders that it calls, within the application's own packages. What is chosen at run time,
as by a dictionary of classes, is not seen.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from twofold.arguments import check_instance
from twofold.commands.aggregate import Aggregate
from twofold.commands.bus import CommandBus
from twofold.commands.decider import Decider
from twofold.commands.repository import Repository
from twofold.messages.event import Event, event_type_of
from twofold.processes.process import Process
from twofold.synchronizer.synchronizer import ReadModelSynchronizer

_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF")
_DEEPEST = 6
"""Calls that are followed from a handler: deeper ones are rather a library's than the domain's."""


class FlowKind(StrEnum):
    """What stands in a flow."""

    COMMAND = "command"
    EVENT = "event"
    READ_MODEL = "read model"
    REACTION = "reaction"
    PROCESS = "process"


@dataclass(frozen=True, kw_only=True)
class FlowNode:
    """A command, an event, or what takes events."""

    id: str
    kind: FlowKind
    name: str
    code: str
    """Where it is declared, such as `orders.commands.CreateOrder`."""


@dataclass(frozen=True, kw_only=True)
class MessageFlow:
    """What an application consists of, and what leads to what."""

    nodes: Sequence[FlowNode]
    links: Sequence[tuple[str, str]]
    """From a command to the events of its handler, from an event to what takes it, from a process to its commands."""


def message_flow(commands: CommandBus, projections: ReadModelSynchronizer) -> MessageFlow:
    """Return how messages flow through an application.

    Args:
        commands: with the handlers.
        projections: the projections, reactions and processes.

    Raises:
        TypeError: an argument is of another type.
    """
    check_instance("commands", commands, CommandBus)
    check_instance("projections", projections, ReadModelSynchronizer)
    handlers = {command: each for command, each in commands.handlers.items() if not _is_own(command)}
    found = _Flow()
    for command, handler in handlers.items():
        found.add(FlowKind.COMMAND, command)
        for event in _made(_code_of(handler), Event, getattr(handler, "__self__", handler)):
            found.link(found.add(FlowKind.COMMAND, command), found.add(FlowKind.EVENT, event))
    for runner in projections.runners:
        taker = runner.projection
        if _is_own(type(taker)):
            continue
        is_process = isinstance(taker, Process)
        kind = FlowKind.PROCESS if is_process else FlowKind.READ_MODEL if runner.has_read_model else FlowKind.REACTION
        node = found.add(kind, type(taker), runner.name)
        for event in taker.handles():
            if not _is_own(event):
                found.link(found.add(FlowKind.EVENT, event), node)
        for command in _sent(taker, handlers) if is_process or kind is FlowKind.REACTION else ():
            found.link(node, found.add(FlowKind.COMMAND, command))
    return MessageFlow(nodes=list(found.nodes.values()), links=list(found.links))


class _Flow:
    """A flow, while it is put together."""

    def __init__(self) -> None:
        self.nodes: dict[str, FlowNode] = {}
        self.links: dict[tuple[str, str], None] = {}

    def add(self, kind: FlowKind, cls: type, name: str = "") -> str:
        """Note something, unless it is there already, and return its id."""
        name = name or (event_type_of(cls).name if kind is FlowKind.EVENT else cls.__name__)
        node = FlowNode(id=f"{kind.value}:{name}", kind=kind, name=name, code=f"{cls.__module__}.{cls.__qualname__}")
        return self.nodes.setdefault(node.id, node).id

    def link(self, start: str, end: str) -> None:
        """Note that one leads to the other."""
        self.links[start, end] = None


def _sent(taker: Any, handlers: Iterable[type]) -> Iterator[type]:
    """Yield the commands that the methods of a process or a reaction make."""
    known = set(handlers)
    methods = [each for _, each in inspect.getmembers(type(taker), inspect.isfunction) if not _is_own(each)]
    for command in dict.fromkeys(each for method in methods for each in _made(method, object, taker)):
        if command in known:
            yield command


def _made(start: Any, base: type, holder: Any) -> Iterator[type]:
    """Yield the classes below a base whose instances are made by a function, and by what it calls."""
    held = list(_held(holder, start))
    aggregates = {each._type for each in held if isinstance(each, Repository)}
    own = type(holder) if not inspect.isfunction(holder) else None
    functions = [each.decide if isinstance(each, Decider) else each for each in held]
    waiting, seen = [(start, 0), *((each, 0) for each in functions if not _is_own(each))], set[Any]()
    while waiting:
        function, depth = waiting.pop(0)
        if not inspect.isfunction(function) or function in seen or _is_own(function):
            continue
        seen.add(function)
        things = list(_things(function))
        for thing, is_called in things:
            if isinstance(thing, type) and issubclass(thing, Aggregate):
                aggregates.add(thing)
            elif is_called and isinstance(thing, type) and issubclass(thing, base) and thing is not base:
                yield thing
        called = [each for each, _ in things if inspect.isfunction(each) and not _is_own(each)]
        names = set(_names(function.__code__))
        for cls in [*aggregates, *([own] if own else [])]:
            called += [method for name in names if (method := _method(cls, name)) is not None]
        if depth < _DEEPEST:
            waiting += [(each, depth + 1) for each in called]


def _held(holder: Any, function: Any) -> Iterator[Any]:
    """Yield what a handler has at hand: its attributes, and the variables around it."""
    yield from vars(holder).values() if hasattr(holder, "__dict__") else ()
    for each in (getattr(holder, "args", ()), getattr(holder, "keywords", {}).values()):  # of a partial
        yield from each
    if inspect.isfunction(function):
        yield from inspect.getclosurevars(function).nonlocals.values()
        yield from function.__defaults__ or ()


def _code_of(handler: Any) -> Any:
    """Return the function behind a handler, without what is wrapped around it."""
    function = handler if inspect.isfunction(handler) else getattr(type(handler), "handle", handler)
    function = getattr(function, "func", function)  # a partial
    return inspect.unwrap(getattr(function, "__func__", function))


def _things(function: Any) -> Iterator[tuple[Any, bool]]:
    """Yield what the names mean that a function mentions, and whether it calls it.

    They are globals, variables around it, and attributes of modules.
    """
    known = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    for code in _codes(function.__code__):
        module: Any = None
        instructions = list(dis.get_instructions(code))
        for place, instruction in enumerate(instructions):
            name, thing, begin = str(instruction.argval), None, place - 1
            if instruction.opname in _LOADS:
                thing = known.get(name, getattr(builtins, name, None))
            elif module is not None and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                thing, begin = getattr(module, name, None), place - 2
            module = thing if isinstance(thing, types.ModuleType) else None
            is_called = any(map(_announces_call, instructions[max(begin, 0) : place + 2]))
            if thing is not None and module is None:
                yield thing, is_called


def _announces_call(instruction: dis.Instruction) -> bool:
    """Return whether what is loaded here will be called; versions of Python say so before, with or behind it."""
    return "NULL" in instruction.opname + instruction.argrepr or instruction.opname == "LOAD_METHOD"


def _names(code: types.CodeType) -> Iterator[str]:
    for each in _codes(code):
        yield from each.co_names


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield code, and that of the functions and comprehensions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _method(cls: type, name: str) -> Any:
    found = inspect.getattr_static(cls, name, None)
    found = getattr(found, "__func__", found)
    found = getattr(found, "fget", found)
    return found if inspect.isfunction(found) and not _is_own(found) else None


def _is_own(thing: Any) -> bool:
    """Return whether something is Twofold's and not the application's."""
    return getattr(thing, "__module__", "").partition(".")[0] == "twofold"
