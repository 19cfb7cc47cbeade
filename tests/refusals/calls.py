"""Every public function with arguments that work, and for each of its parameters those that cannot.

`CALLS` covers the public surface: a test finds a public function, or a parameter of one, that is missing here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tests.accounts import Account, Balance, Balances, Deposit, GetBalance, Open, Opened

import twofold
import twofold.fastapi
import twofold.options
from fastapi import FastAPI
from twofold import (
    AppendCondition,
    Application,
    CommandBus,
    CommandOptions,
    ConsistentQueryHandler,
    Decider,
    DeciderHandler,
    DecisionModel,
    EventQuery,
    EventStore,
    EventTypes,
    LogOptions,
    Metadata,
    Options,
    Position,
    ProjectionControl,
    QueryBus,
    QueryItem,
    QueryOptions,
    ReadModel,
    ReadModelSynchronizer,
    ReadPolicy,
    Repository,
    Tag,
    WriteToken,
    inspection,
)
from twofold.inspection import EventSearch
from twofold.options import InspectionOptions, SynchronizerOptions

NAN = float("nan")
NAIVE = datetime(2026, 5, 31)  # noqa: DTZ001  # that it is refused is the point


class Anything:
    """An object that is nothing in particular."""

    def __repr__(self) -> str:
        return "<anything>"


ANYTHING = Anything()
UNSTORABLE: Sequence[Any] = (None, 5, "text", [], [5], [None], Opened(account="a"), [Opened])
TEXT = (None, 5, b"x", str, ["x"])
FILLED = (*TEXT, "")
WHOLE = (None, "5", 1.5, NAN, int, Decimal(1), True)
NUMBER = (None, "5", NAN, float, ANYTHING, True)
FLAG = (None, "yes", 2, ANYTHING)
TEXTS = (None, 5, "text", [5], [None])
ONE_OF = (None, 5, "misspelt", "", ANYTHING)
OBJECT = (None, 5, "text", ANYTHING, object)
FILE = (None, 5, "", "log.csv", b"log.jsonl")
FUNCTION = (5, "text", ANYTHING)
CLASS = (None, 5, "text", ANYTHING)


def some(*wrong: Any, optional: bool = False) -> tuple[Any, ...]:
    """Return wrong values, without None where it means that the argument was left out."""
    return tuple(each for each in wrong if not (optional and each is None))


@dataclass
class World:
    """What the functions are called on: an open application in memory, and what was counted of its log."""

    app: Application
    store: EventStore
    balances: ReadModel[Balance]


class Other(Balances):
    name = "other"


def drained(read: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that goes through an asynchronous iterator."""

    async def drain(**arguments: Any) -> list[Any]:
        return [each async for each in read(**arguments)]

    return drain


def first(watched: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes the first of what an asynchronous generator gives."""

    async def take(**arguments: Any) -> Any:
        async with aclosing(watched(**arguments)) as answers:
            return await anext(answers)

    return take


def entered(block: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that enters and leaves a block."""

    def enter(**arguments: Any) -> None:
        with block(**arguments):
            pass

    return enter


def awaited(block: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that enters and leaves an asynchronous block."""

    async def enter(**arguments: Any) -> None:
        async with block(**arguments):
            pass

    return enter


@dataclass(frozen=True)
class Call:
    """A public function."""

    name: str
    """As the surface has it."""
    get: Callable[[World], Callable[..., Any]]
    good: dict[str, Any] = field(default_factory=dict)
    """Arguments that work, by the names of their parameters."""
    wrong: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """For each parameter the values that cannot work."""
    free: tuple[str, ...] = ()
    """Parameters that take anything."""
    may_be_made: bool = True
    """Whether it ends when it is called with arguments that work, and may be called twice."""


NOT_CHECKED = {
    r"twofold\.(Answer|Batch|Decision|Exported|Imported|Into|PaginatedResult|ParkedEvent|RawEvent|Position|ProjectionControl|ProjectionStatus|Receipt"
    r"|Moved|NextStream|RecordedEvent|RetentionApplied|RulePlan|StreamClosed|StreamTombstoned|SkippedEvent|SourceEvent|StagedReceipt"
    r"|Subscription|Total|WriteToken)": "the framework makes it",
    r"twofold\.Session(\.\w+)?": "twofold.session makes it",
    r"twofold\.Mark(\.\w+)?": "applications keep it as they got it, and give it back",
    r"twofold\.WriteToken\.(concerns|concerns_tags|merge)": "the framework asks it",
    r"twofold\.(EventQuery|QueryItem)\.(matches|wants)": "the framework asks it",
    r"twofold\.EventTypes\.(encode|encode_all|decode|decode_payload)": "the framework gives what it has checked",
    r"twofold\.(Grouped|Sql)?Projection\.\w+": "the framework calls it, applications write it",
    r"twofold\.Aggregate\.take": "the framework calls it with what it has read",
    r"twofold\.ReadModelSynchronizer\.add_runner": "the framework calls it with what it has checked",
    r"twofold\.(Batch)?Reaction\.\w+": "the framework calls it, applications write it",
    r"twofold\.\w*Handler\.handle": "the bus calls it, applications write it",
    r"twofold\.Application\.lifespan": "the web framework calls it",
    r"twofold\.EventStore\.transaction": "tests/log/test_transaction.py has what can be joined",
    r"twofold\.(Command|Metadata)": "what they hold is compared when it is stored",
    r"twofold\.PlainEvent": "what it holds is checked when it is stored: tests/log/moving/test_transform.py",
    r"twofold\.Transform": "it is a type: applications write the function",
    r"twofold\.\w+Options|twofold\.Options": "as twofold.options has them",
    r"twofold\.metadata": "its fields have no parameters",
    r"twofold\.options\.Backoff\.pause": "the framework asks it",
    r"twofold\.fastapi\.(BodyLimit|ExactJsonRoute|WatchedAnswers|WatchResponse)(\.\w+)?": "FastAPI calls it",
    r"twofold\.fastapi\.(problem|problem_responses)": "FastAPI's own errors name the status",
    r"twofold\.(ForgetReport|ForgottenSubject|KnownSubject|SubjectForgotten)": "the framework makes it",
    r"twofold\.MasterKeys\.\w+": "the framework calls it with what it has checked",
    r"twofold\.Privacy": "the application makes it",
    r"twofold\.(errors\.)?\w+Error(\.\w+)?": "errors are made by the framework",
    r"twofold\.testing\..*": "tests call it",
    r"twofold\.inspection\.(FlowNode|FoundEvents|MessageFlow|ParkedGroup)": "the framework makes it",
    r"twofold\.inspection\.(StreamState|Trace\w*)": "the framework makes it",
    r"twofold\.inspection\.EventSearch\.(matches|may_be)": "the framework asks it",
    r"twofold\.processes\..*": "checked where a process is added; not walked through here yet",
}
"""Public functions that are not covered, each with the reason."""

SAID = {
    "command_type": "command|handles Open|frozen dataclass",
    "command": "commands",
    "classes": "class",
    "event_ids": "as many ids",
    "event": "has no method for|the event is the class",
    "event_types": "event",
    "events": "has no method for|the event is the class|class of events|among the events",
    "expected_version": "expected version",
    "former": "master key",
    "keys": "KeyRing",
    "master_key": "master key",
    "source": "master key|source",
    "name": "there is no projection",
    "projections": "there is no projection|the projection|`projection`",
    "query": "queries",
    "query_type": "query|handles GetBalance",
    "summary": "class of events|among the events",
    "released_by": "class of events",
    "of": "asked about|added up",
    "by": "asked about",
    "sort": "asked about",
    "types": "no event can be",
    "url": "URL|the address",
}
"""What an error's text may say in place of a parameter's name."""


EVENT = Opened(account="a")
IDS = (UUID(int=1),)
APPEND = {
    "events": UNSTORABLE,
    "condition": some(*OBJECT, EventQuery.all(), optional=True),
    "event_ids": (5, "text", [5], ["x"], [UUID(int=1), UUID(int=2)]),
    "metadata": (5, "text", {"user": "ann"}, Metadata),
}
APPENDED = {"events": [EVENT], "condition": None, "event_ids": None, "metadata": None}
STREAM = {
    "stream_id": FILLED,
    "stream_type": FILLED,
    "expected_version": (None, "0", 1.5, NAN, -1, True, ANYTHING, "any"),
}
RULE: dict[str, Any] = {
    "name": "old", "action": "close", "stream_type": "Account", "older_than": timedelta(days=1), "last": "",
    "open_too": False,
}  # fmt: skip
RETENTION = {
    "store": lambda world: world.app.store, "rules": [twofold.RetentionRule(**RULE)], "databases": (), "may_miss": (),
    "progress": print,
}  # fmt: skip
RETENTION_WRONG = {
    "store": (*OBJECT, EventStore), "rules": (None, 5, "text", [], [5], [twofold.RetentionRule]), "databases": (5, [5]),
    "may_miss": TEXTS, "progress": (None, *FUNCTION),
}  # fmt: skip
READ = {"query": some(5, "text", Opened, EventQuery, QueryItem()), "after": (*WHOLE, -1)}


def method(path: str, name: str, of: Callable[[World], Any], *arguments: Any) -> Call:
    """Return the call of a method."""
    return Call(f"{path}.{name}", lambda world: getattr(of(world), name), *arguments)


def options_of(cls: type, name: str) -> list[Call]:
    """Return the call that makes options, whose parameters are numbers, choices and other options."""
    fields = {each.name: getattr(cls(), each.name) for each in dataclasses.fields(cls)}
    wrong = {each: _wrong_option(value) for each, value in fields.items()}
    return [Call(name, lambda world: cls, fields, wrong)]


def _wrong_option(value: object) -> Sequence[Any]:
    if isinstance(value, str):
        return ONE_OF if value else TEXT
    if dataclasses.is_dataclass(value):
        return (None, 5, {}, type(value))
    return (*(WHOLE if isinstance(value, int) else NUMBER), -1)


async def answer(query: GetBalance) -> Balance | None:
    return None


async def carry_out(command: Open) -> str:
    return ""


def new_command(world: World) -> Open:
    return Open(account=f"a{uuid4()}")


def new_account(world: World) -> Account:
    return Account.open(f"b{uuid4()}")


def new_command_type(world: World) -> type:
    return dataclasses.make_dataclass("Once", ["account"], frozen=True)


def balances_control(world: World) -> ProjectionControl:
    return world.app.projections.control("balances")


HANDLER = (None, 5, "text", ANYTHING, lambda command: None, CommandBus)
MODEL = DecisionModel(query=EventQuery.all(), initial_state=0, evolve=lambda count, event: count + 1)
DECIDER: Decider[Any, Any, Any] = Decider(
    initial_state=int, decide=lambda c, s: [], evolve=lambda s, e: s, stream_type="X", events=(Opened,)
)
AFTER = (*(each for each in WHOLE if each is not None), -1, ANYTHING)
MOMENT = ("1", 1.5, True, -1, ANYTHING, datetime(2026, 1, 1))  # noqa: DTZ001 - without a time zone
TIMEOUT = some(*NUMBER, -1, optional=True)
WHERE = (None, 5, "text", [5], [("owner",)], [("owner", "=")], ["owner"])

ASKED = {"query": GetBalance("a"), "after": None, "timeout": None}
ASKING = {"query": (None, 5, "text", GetBalance, ANYTHING), "after": AFTER, "timeout": TIMEOUT}


def APP_STORE(world: World) -> EventStore:  # noqa: N802  # a value, as the others
    """Return the store of the application."""
    return world.app.store


CALLS: list[Call] = [
    Call("twofold.Aggregate", lambda world: Account, {"id": "a"}, {"id": FILLED}),
    Call("twofold.Aggregate.from_history", lambda world: Account.from_history, {"id": "a", "events": [EVENT]},
         {"id": FILLED, "events": (None, 5, [5], [None], "text", [Opened])}),
    Call("twofold.Aggregate.record", lambda world: Account("a").record, {"event": EVENT},
         {"event": (None, 5, "text", Opened, ANYTHING)}),
    Call("twofold.Aggregate.stream_id", lambda world: Account.stream_id, {"id": "a"}, {"id": FILLED}),
    Call("twofold.AppendCondition", lambda world: AppendCondition, {"fail_if": EventQuery.all(), "after": None},
         {"fail_if": (*OBJECT, EventQuery), "after": (*AFTER[:-1], ANYTHING)}),
    Call("twofold.Application", lambda world: Application,
         {"url": "memory://", "engine": None, "read_url": None, "replica_url": None, "middleware": (),
          "synchronize": True, "changed_code": "warn", "options": None, "tenants": False, "keys_url": "memory://",
          "master_key": None},
         {"url": (None, 5, b"x", "", "orders", "nosuch://x", Path("orders.db")), "engine": (5, "text", ANYTHING),
          "read_url": (5, b"x", "nosuch://x", ANYTHING), "replica_url": (5, b"x", "nosuch://x", ANYTHING),
          "middleware": (None, 5, "text", [5], [None], carry_out), "synchronize": FLAG, "changed_code": ONE_OF,
          "options": (5, "text", Options, LogOptions(), {}), "tenants": FLAG,
          "keys_url": (5, b"x", "nosuch://x", ANYTHING), "master_key": (5, "text", b"short", ANYTHING)}),
    Call("twofold.Application.check", lambda world: world.app.check, {"packages": (), "ignore": ()},
         {"packages": TEXTS, "ignore": (*TEXTS, ["TF999"])}),
    Call("twofold.Application.check_log", lambda world: world.app.check_log, {"ignore": ()},
         {"ignore": (*TEXTS, ["TF999"])}),
    Call("twofold.Application.event_types", lambda world: world.app.event_types, {"packages": ()}, {"packages": TEXTS}),
    Call("twofold.Application.repository", lambda world: world.app.repository, {"aggregate_type": Account},
         {"aggregate_type": (*CLASS, Opened, Account("a"), int)}),
    Call("twofold.CommandBus", lambda world: CommandBus,
         {"store": lambda world: world.store, "middleware": (), "options": None},
         {"store": (*OBJECT, EventStore), "middleware": (None, 5, "text", [5], carry_out),
          "options": (5, "text", CommandOptions, Options())}),
    Call("twofold.CommandBus.register", lambda world: CommandBus(world.store).register,
         {"command_type": Open, "handler": carry_out},
         {"command_type": (*CLASS, Open(account="a"), int), "handler": HANDLER}),
    Call("twofold.CommandBus.dispatch", lambda world: world.app.commands.dispatch, {"command": new_command},
         {"command": (None, 5, "text", Open, ANYTHING)}),
    Call("twofold.CommandBus.execute", lambda world: world.app.commands.execute, {"command": new_command},
         {"command": (None, 5, "text", Open, ANYTHING)}),
    Call("twofold.CommandBus.schedule", lambda world: world.app.commands.schedule,
         {"command": Open(account="a"), "at": None, "after": timedelta(1)},
         {"at": (5, "12:00", timedelta(1), ANYTHING), "after": (5, "1 h", ANYTHING)}, ("command",), may_be_made=False),
    Call("twofold.CommandBus.find_scheduled", lambda world: world.app.commands.find_scheduled,
         {"schedule_id": "x"}, {"schedule_id": FILLED}, may_be_made=False),
    Call("twofold.CommandBus.cancel_scheduled", lambda world: world.app.commands.cancel_scheduled,
         {"schedule_id": "x", "reason": "why"}, {"schedule_id": FILLED, "reason": FILLED}, may_be_made=False),
    Call("twofold.CommandBus.scheduled", lambda world: world.app.commands.scheduled, {"after": "", "limit": 100},
         {"after": TEXT, "limit": (*WHOLE, 0)}, may_be_made=False),
    Call("twofold.ConsistentQueryHandler", lambda world: ConsistentQueryHandler,
         {"queries": lambda world: world.app.queries, "store": lambda world: world.store},
         {"queries": (*OBJECT, QueryBus), "store": (*OBJECT, EventStore)}),
    Call("twofold.ConsistentQueryHandler.query_after_command",
         lambda world: ConsistentQueryHandler(world.app.queries, world.store).query_after_command,
         {"query": GetBalance("a"), "expected_version": 0, "stream_id": "Account-a", "timeout": 0.1},
         {"query": (None, 5, "text", GetBalance, ANYTHING), "expected_version": (*WHOLE, -1), "stream_id": FILLED,
          "timeout": (*NUMBER, -1)}),
    Call("twofold.Decider", lambda world: Decider,
         {"initial_state": int, "decide": DECIDER.decide, "evolve": DECIDER.evolve, "stream_type": "X",
          "events": (Opened,), "ignores": ()},
         {"initial_state": (None, 5, set()), "decide": (None, 5, "text", list), "evolve": (None, 5, lambda: 0),
          "stream_type": FILLED, "events": (None, 5, "text", (), [5], Opened, (twofold.Event,)),
          "ignores": (None, 5, "text", [5], Opened, (5,))}, ("state_type",)),
    Call("twofold.Decider.fold", lambda world: DECIDER.fold, {"events": [EVENT]}, {"events": (None, 5)}),
    Call("twofold.DeciderHandler", lambda world: DeciderHandler,
         {"store": lambda world: world.store, "decider": DECIDER, "id_of": lambda c: "a"},
         {"store": (*OBJECT, EventStore), "decider": (*OBJECT, Decider), "id_of": (None, *FUNCTION)}),
    method("twofold.DeciderHandler", "load", lambda world: DeciderHandler(world.store, DECIDER, str),
           {"id": "a", "as_of": None}, {"id": FILLED, "as_of": MOMENT}),
    Call("twofold.DecisionModel", lambda world: DecisionModel,
         {"query": EventQuery.all(), "initial_state": 0, "evolve": MODEL.evolve, "require": None},
         {"query": (*OBJECT, EventQuery, Opened), "initial_state": ([], {}, set()),
          "evolve": (None, 5, "text", lambda: 0), "require": (5, "text")}, ("state_type",)),
    Call("twofold.DecisionModel.fold", lambda world: MODEL.fold, {"events": []}, {"events": (None, 5)}),
    Call("twofold.EventQuery", lambda world: EventQuery, {"items": (QueryItem(),)},
         {"items": (None, 5, "text", (), (5,), QueryItem(), [QueryItem])}),
    Call("twofold.EventQuery.of", lambda world: EventQuery.of, {"tags": []}, {"tags": (*TEXTS, [""])}),
    Call("twofold.EventQuery.exactly", lambda world: EventQuery.exactly, {"tags": []}, {"tags": (*TEXTS, [""])}),
    Call("twofold.EventQuery.of(*)", lambda world: lambda types: EventQuery.of(types), {"types": Opened},
         {"types": (None, 5, "", ANYTHING, EVENT, int)}),
    Call("twofold.EventQuery.exactly(*)", lambda world: lambda types: EventQuery.exactly(types),
         {"types": Opened}, {"types": (None, 5, "", ANYTHING, EVENT, int)}),
    Call("twofold.EventStore", lambda world: EventStore,
         {"log": lambda world: world.store.log, "events": None, "options": None, "keys": None, "tenants": False},
         {"keys": (5, "text", ANYTHING), "log": (*OBJECT, "sqlite:///x.db"),
          "events": (5, "text", EventTypes, [Opened]),
          "options": (5, "text", LogOptions, Options()), "tenants": FLAG}),
    Call("twofold.EventStore.append", lambda world: world.store.append, APPENDED, APPEND),
    Call("twofold.EventStore.append_events", lambda world: world.store.append_events,
         {"stream_id": "Account-a", "stream_type": "Account", "expected_version": 0, **APPENDED}, {**STREAM, **APPEND}),
    Call("twofold.EventStore.close_stream", lambda world: world.store.close_stream,
         {"stream_id": "Account-a", "stream_type": "Account", "expected_version": 1, "reason": "over", "by": "",
          "summary": (), "successor": None, "condition": None, "metadata": None},
         {**STREAM, "reason": FILLED, "by": TEXT, "summary": (None, 5, "text", [5], [Opened]),
          "successor": (5, "text", ("s", "s", [EVENT]), twofold.NextStream("", "s", [EVENT])),
          "condition": APPEND["condition"], "metadata": APPEND["metadata"]},
         may_be_made=False),
    Call("twofold.EventStore.tombstone_stream", lambda world: world.app.store.tombstone_stream,
         {"stream_id": "Other-a", "reason": "over", "by": "ann"},
         {"stream_id": (*FILLED, "twofold.mails-1"), "reason": FILLED, "by": FILLED}),
    Call("twofold.EventStore.decide", lambda world: world.store.decide, {"model": MODEL},
         {"model": (*OBJECT, DecisionModel, EventQuery.all())}),
    Call("twofold.EventStore.position_at", lambda world: world.store.position_at, {"as_of": 0},
         {"as_of": (None, *MOMENT)}),
    Call("twofold.EventStore.look", lambda world: world.store.look, {"model": MODEL, "as_of": None},
         {"model": (*OBJECT, DecisionModel, EventQuery.all()), "as_of": MOMENT}),
    Call("twofold.EventStore.read", lambda world: drained(world.store.read),
         {"query": None, "after": 0, "before": None, "limit": None, "backwards": False, "unknown": "raise"},
         {**READ, "before": (*AFTER[:-1],), "limit": (*AFTER[:-1], 0), "backwards": FLAG, "unknown": ONE_OF}),
    Call("twofold.EventStore.read_stream", lambda world: drained(world.store.read_stream),
         {"stream_id": "Account-a", "after": 0, "unknown": "raise"},
         {"stream_id": FILLED, "after": (*WHOLE, -1), "unknown": ONE_OF}),
    Call("twofold.EventStore.subscribe", lambda world: world.store.subscribe,
         {"query": None, "stream_id": None, "after": 0, "batch_size": None, "unknown": "raise"},
         {"unknown": ONE_OF, "query": READ["query"], "stream_id": (5, b"x", "", ANYTHING), "after": (*WHOLE, -1),
          "batch_size": (*AFTER[:-1], 0)}),
    Call("twofold.EventTypes.register(*)", lambda world: lambda classes: EventTypes().register(classes),
         {"classes": Opened}, {"classes": (*CLASS, EVENT, int, [Opened])}),
    Call("twofold.EventTypes.class_of", lambda world: world.store.events.class_of, {"type_name": "Opened"},
         {"type_name": (None, 5, Opened, [])}),
    Call("twofold.EventTypes.knows", lambda world: world.store.events.knows, {"type_name": "Opened"},
         {"type_name": (None, 5, Opened, [])}),
    Call("twofold.EventTypes.tags_of", lambda world: world.store.events.tags_of, {"type_name": "Opened"},
         {"type_name": (None, 5, Opened, [])}),
    Call("twofold.QueryItem", lambda world: QueryItem, {"types": (), "tags": (), "sources": ()},
         {"types": TEXTS, "tags": TEXTS, "sources": TEXTS}),
    Call("twofold.RetiredType", lambda world: twofold.RetiredType,
         {"name": "x", "version": 1, "upcasters": {}, "aliases": ()},
         {"name": FILLED, "version": (*WHOLE, 0, -1), "upcasters": (5, "text", {1: 5}, {2: dict}),
          "aliases": (*TEXTS, ("",))}),
    Call("twofold.QueryBus", lambda world: QueryBus, {"middleware": (), "progress": None, "policy": ReadPolicy()},
         {"middleware": (None, 5, "text", [5], answer), "progress": (5, "text", [5]), "policy": (None, 5, ReadPolicy)}),
    Call("twofold.QueryBus.register", lambda world: QueryBus().register,
         {"query_type": GetBalance, "handler": answer, "reads": None, "tag": None, "policy": None},
         {"query_type": (*CLASS, GetBalance("a"), int), "handler": HANDLER, "reads": (5, "balances", [5], [None]),
          "tag": FUNCTION, "policy": (5, "text", ReadPolicy, 1.0)}),
    method("twofold.QueryBus", "dispatch", lambda world: world.app.queries, ASKED, ASKING),
    method("twofold.QueryBus", "ask", lambda world: world.app.queries, {**ASKED, "policy": None},
           {**ASKING, "policy": (5, "text", ReadPolicy)}),
    method("twofold.QueryBus", "ask_where", lambda world: world.app.queries,
           {**ASKED, "policy": None, "is_watched": False},
           {**ASKING, "policy": (5, "text", ReadPolicy), "is_watched": FLAG}),
    Call("twofold.QueryBus.check", lambda world: world.app.queries.check, {"query": None},
         {"query": (5, "text", GetBalance, ANYTHING)}),
    Call("twofold.ReadModel", lambda world: ReadModel,
         {"database": lambda world: world.app.projections.databases[0], "projection": Balances(), "progress": None,
          "overlay": None, "generation": None, "options": QueryOptions(), "past": None},
         {"database": (*OBJECT, "sqlite:///x.db"), "projection": (*OBJECT, Balances),
          "options": (None, 5, QueryOptions)}, ("progress", "overlay", "generation", "past")),
    Call("twofold.ReadModel.get(*)", lambda world: lambda key, as_of: world.balances.get(*key, as_of=as_of),
         {"key": ("a",), "as_of": None}, {"key": ((), ("a", "b")), "as_of": MOMENT}),
    Call("twofold.ReadModel.as_of", lambda world: awaited(world.balances.as_of),
         {"as_of": 0, "progress": lambda position, end: None},
         {"as_of": (None, *MOMENT), "progress": (None, *FUNCTION)}),
    Call("twofold.ReadModel.page", lambda world: world.balances.page,
         {"where": (), "search": "", "sort": None, "descending": False, "page": 1, "page_size": 20, "cursor": None,
          "highlight": False},
         {"where": WHERE, "search": TEXT, "sort": (5, "nosuch", ["owner"]), "descending": FLAG, "page": (*WHOLE, 0),
          "page_size": (*WHOLE, 0), "cursor": (5, b"x", ["x"]), "highlight": FLAG}),
    Call("twofold.ReadModel.totals", lambda world: world.balances.totals,
         {"by": ("owner",), "of": "amount", "where": ()},
         {"by": (None, 5, "owner", [5], ["nosuch"]), "of": (None, 5, [5], "nosuch", ["owner"]), "where": WHERE}),
    Call("twofold.ReadModelSynchronizer", lambda world: ReadModelSynchronizer,
         {"event_store": lambda world: world.store, "read_db": lambda world: world.app.projections.databases[0],
          "projections": (), "batch_size": None, "replica": None, "scratch": None, "changed_code": "warn",
          "options": None, "query_options": None},
         {"event_store": (*OBJECT, EventStore), "read_db": (*OBJECT, "sqlite:///x.db"),
          "projections": (None, 5, Balances(), [Balances], [5]), "batch_size": (*AFTER[:-1], 0),
          "replica": (5, "text", ANYTHING), "scratch": FUNCTION, "changed_code": ONE_OF,
          "options": (5, "text", SynchronizerOptions, Options()), "query_options": (5, QueryOptions, Options())}),
    Call("twofold.ReadModelSynchronizer.add", lambda world: world.app.projections.add,
         {"projection": lambda world: Other(), "kind": "asynchronous", "start": None, "database": None},
         {"projection": (*OBJECT, Balances), "kind": ONE_OF, "start": ONE_OF[1:], "database": (5, "text", ANYTHING)}),
    Call("twofold.ReadModelSynchronizer.control", lambda world: world.app.projections.control, {"name": "balances"},
         {"name": (*FILLED, "nosuch", Balances, [])}),
    Call("twofold.ReadModelSynchronizer.read_model", lambda world: world.app.projections.read_model,
         {"name": "balances"}, {"name": (*FILLED, "nosuch", Balances, [])}),
    Call("twofold.ReadModelSynchronizer.run_once", lambda world: world.app.projections.run_once, {"timeout": None},
         {"timeout": TIMEOUT}),
    Call("twofold.ReadModelSynchronizer.wait", lambda world: world.app.projections.wait,
         {"position": 0, "timeout": 1.0, "projections": None},
         {"position": (None, *AFTER), "timeout": (*NUMBER, -1), "projections": (5, "balances", ["nosuch"], [5])}),
    Call("twofold.ReadModelSynchronizer.rebuild_projection", lambda world: world.app.projections.rebuild_projection,
         {"name": "balances", "expect_same": False, "progress": print},
         {"name": (*FILLED, "nosuch", Balances), "expect_same": FLAG, "progress": (None, *FUNCTION)},
         may_be_made=False),
    Call("twofold.ReadPolicy", lambda world: ReadPolicy, {"wait": 1.0, "then": twofold.WhenLate.REFUSE},
         {"wait": (*NUMBER, -1), "then": (*ONE_OF, "refuse")}),
    Call("twofold.Repository", lambda world: Repository,
         {"store": lambda world: world.store, "aggregate_type": Account, "commands": None},
         {"store": (*OBJECT, EventStore), "aggregate_type": (*CLASS, Opened, Account("a")),
          "commands": (5, "text", CommandBus)}),
    method("twofold.Repository", "find", lambda world: Repository(world.store, Account), {"id": "a", "as_of": None},
           {"id": FILLED, "as_of": MOMENT}),
    method("twofold.Repository", "load", lambda world: Repository(world.store, Account), {"id": "a", "as_of": None},
           {"id": FILLED, "as_of": MOMENT}, (), False),
    Call("twofold.Repository.save", lambda world: Repository(world.store, Account).save,
         {"aggregate": new_account, "condition": None},
         {"aggregate": (*OBJECT, Account, EVENT), "condition": APPEND["condition"]}),
    Call("twofold.Repository.close", lambda world: Repository(world.store, Account).close,
         {"aggregate": new_account, "reason": "over", "by": "", "successor": None},
         {"aggregate": (*OBJECT, Account, EVENT), "reason": FILLED, "by": TEXT,
          "successor": (5, "text", Account, EVENT, Account("b"))},
         may_be_made=False),
    Call("twofold.RetentionRule", lambda world: twofold.RetentionRule, RULE,
         {"name": FILLED, "action": ONE_OF, "stream_type": (*FILLED, "twofold.mails"),
          "older_than": (None, 5, "1d", timedelta(days=-1)), "last": TEXT, "open_too": FLAG}),
    Call("twofold.plan_retention", lambda world: twofold.plan_retention, RETENTION, RETENTION_WRONG),
    Call("twofold.apply_retention", lambda world: twofold.apply_retention, {**RETENTION, "by": "ann"},
         {**RETENTION_WRONG, "by": FILLED}),
    Call("twofold.Repository.handle", lambda world: world.app.repository(Account).handle,
         {"command_type": new_command_type, "act": lambda account, command: None,
          "id": lambda command: command.account},
         {"command_type": (*CLASS, Deposit(account="a"), int), "act": (None, *FUNCTION, lambda: None),
          "id": (*FUNCTION,)}),
    Call("twofold.Tag", lambda world: Tag, {"name": "account"}, {"name": (*FILLED, "a:b")}),
    Call("twofold.WriteToken.of", lambda world: WriteToken.of, {"after": 0}, {"after": (None, *AFTER)}),
    Call("twofold.Position.parse", lambda world: Position.parse, {"text": "7"}, {"text": (*FILLED, "x")}),
    Call("twofold.combine(*)", lambda world: lambda models: twofold.combine(models), {"models": MODEL},
         {"models": (*OBJECT, DecisionModel, EventQuery.all())}),
    Call("twofold.event_type", lambda world: twofold.event_type,
         {"name": "x", "version": 1, "upcasters": None, "aliases": (), "made_of": ()},
         {"name": (5, "", ["x"], Opened), "version": (*WHOLE, 0, -1, 2), "upcasters": (5, "text", {1: 5}, {0: dict}),
          "aliases": (*TEXTS, ("",)), "made_of": (None, 5, "text", [5], ["x"], Opened)}),
    Call("twofold.export_log", lambda world: twofold.export_log,
         {"store": lambda world: world.store, "path": "log.jsonl", "query": None, "after": 0, "end": None,
          "progress": print},
         {"store": (*OBJECT, EventStore), "path": FILE, "query": (5, "text", EventQuery),
          "after": (*WHOLE, -1), "end": ("5", 1.5, -1, True), "progress": (None, *FUNCTION)},
         may_be_made=False),
    Call("twofold.fork_log", lambda world: twofold.fork_log,
         {"source": lambda world: world.store, "target": lambda world: world.store, "at": None, "progress": print},
         {"source": (*OBJECT, EventStore), "target": (*OBJECT, EventStore), "at": ("5", 1.5, -1, True),
          "progress": (None, *FUNCTION)},
         may_be_made=False),
    Call("twofold.import_events", lambda world: twofold.import_events,
         {"kind": "eventsourcing", "url": "sqlite:///dogs.db", "target": None,
          "transform": lambda source: [source.event], "table": "", "examples": 3, "progress": print},
         {"kind": ONE_OF, "url": (*FILLED, "dogs.db", "mysql://x/y"), "target": (5, "text", ANYTHING, EventStore),
          "transform": (None, *FUNCTION), "table": (*TEXT, "a b", "a.b.c", 'a"'), "examples": (*WHOLE, -1),
          "progress": (None, *FUNCTION)},
         may_be_made=False),
    Call("twofold.import_log", lambda world: twofold.import_log,
         {"store": lambda world: world.store, "path": "log.jsonl", "progress": print},
         {"store": (*OBJECT, EventStore), "path": FILE, "progress": (None, *FUNCTION)},
         may_be_made=False),
    Call("twofold.marked_html", lambda world: twofold.marked_html,
         {"text": "a", "ranges": [(0, 1)], "before": "<b>", "after": "</b>"},
         {"text": (None, 5, b"x"), "ranges": (None, 5, "text", [5], [(0, 9)]), "before": (None, 5),
          "after": (None, 5)}),
    Call("twofold.all_tenants", lambda world: entered(twofold.all_tenants)),
    Call("twofold.metadata", lambda world: entered(twofold.metadata), {"user": "ann"},
         {"user": (5, ["x"]), "tenant": (5,), "extra": (5, {"a": 1}), "correlation_id": ("x", 5), "usr": ("ann",)}),
    Call("twofold.on", lambda world: lambda where: twofold.on(Opened, where=where), {"where": "account"},
         {"where": (5, ["account"], "", {}, {5: "account"}, {"account": 5})},
         free=("others",)),  # refused by the name that is given: tests/unit/messages/test_event_methods.py
    Call("twofold.on(*)", lambda world: lambda event_types: twofold.on(event_types), {"event_types": Opened},
         {"event_types": (None, 5, "Opened", EVENT, int, twofold.Event)}),
    Call("twofold.open_event_store", lambda world: twofold.open_event_store,
         {"url": "memory://", "options": None, "keys_url": "memory://", "master_key": None},
         {"keys_url": (5, b"x", "nosuch://x", ANYTHING), "master_key": (5, "text", b"short", ANYTHING),
          "url": (None, 5, "", "orders", "nosuch://x", Path("x.db")), "options": (5, "text", Options, LogOptions())}),
    Call("twofold.MasterKeys", lambda world: twofold.MasterKeys, {"source": b"0" * 32, "former": ()},
         {"source": (5, "text", b"short", ANYTHING), "former": ([5], ["text"], [b"short"])}),
    Call("twofold.Personal", lambda world: twofold.Personal, {"subject": None, "blind": False},
         {"subject": (5, "", ANYTHING), "blind": FLAG}, ("placeholder",)),
    Call("twofold.Privacy.blind", lambda world: world.app.privacy.blind, {"tag": "email", "value": "x"},
         {"tag": FILLED, "value": FILLED}),
    Call("twofold.Privacy.export", lambda world: drained(world.app.privacy.export), {"subject": "c1"},
         {"subject": FILLED}),
    Call("twofold.Privacy.forget", lambda world: world.app.privacy.forget,
         {"subject": "c1", "reason": "asked", "by": "desk"}, {"subject": FILLED, "reason": FILLED, "by": FILLED},
         may_be_made=False),
    Call("twofold.Privacy.rewrap", lambda world: world.app.privacy.rewrap, {"progress": print},
         {"progress": (5, "text", ANYTHING)}),
    Call("twofold.seal_log", lambda world: twofold.seal_log,
         {"source": lambda world: world.store, "target": None, "progress": print},
         {"source": (*OBJECT, EventStore), "target": (5, "text", ANYTHING), "progress": (5, "text", ANYTHING)},
         may_be_made=False),
    Call("twofold.session", lambda world: entered(twofold.session),
         {"written": 0, "wait": None, "expected_version": twofold.ANY},
         {"written": (None, *AFTER), "wait": TIMEOUT, "expected_version": STREAM["expected_version"]}),
    Call("twofold.transform_log", lambda world: twofold.transform_log,
         {"source": lambda world: world.store, "target": None, "transform": lambda source: [source.event],
          "examples": 3, "progress": print},
         {"source": (*OBJECT, EventStore), "target": (5, "text", ANYTHING, EventStore),
          "transform": (None, *FUNCTION), "examples": (*WHOLE, -1), "progress": (None, *FUNCTION)},
         may_be_made=False),
    Call("twofold.unique", lambda world: twofold.unique,
         {"name": "account", "of": Opened, "value": "a", "released_by": (), "unless": None},
         {"name": (*FILLED, "nosuch"), "of": (None, 5, "Opened", (), [5], EVENT, int),
          "value": (None, "", 1.5, ANYTHING, ["a"]), "released_by": (None, 5, [5], int),
          "unless": (5, "", "a1", ["account:a"])}),
    Call("twofold.watch", lambda world: first(twofold.watch),
         {"queries": lambda world: world.app.queries, "query": GetBalance("a"), "after": 0, "heartbeat": 15.0,
          "options": QueryOptions(), "looks": None},
         {"queries": (*OBJECT, QueryBus), "query": (None, 5, GetBalance, ANYTHING), "after": (*WHOLE, -1),
          "heartbeat": (*NUMBER, -1), "options": (None, 5, QueryOptions), "looks": (5, "text")}),
    method("twofold.ProjectionControl", "parked", balances_control, {"limit": 10}, {"limit": (*WHOLE, -1, 0)}),
    method("twofold.ProjectionControl", "scale", balances_control, {"segments": 1}, {"segments": (*WHOLE, 0, -1, 257)}),
    method("twofold.ProjectionControl", "set_position", balances_control, {"position": 0, "despite_effects": False},
           {"position": (*WHOLE, -1), "despite_effects": FLAG}),
    method("twofold.ProjectionControl", "reset", balances_control, {"despite_effects": False},
           {"despite_effects": FLAG}),
    method("twofold.ProjectionControl", "skip", balances_control, {"position": 1, "reason": "why", "log": None},
           {"position": (*WHOLE, -1, 0), "reason": (*FILLED, " "), "log": (5, "text", ANYTHING)}),
    method("twofold.ProjectionControl", "skip_row", balances_control, {"reason": "why"}, {"reason": (*FILLED, " ")}, (),
           False),
    Call("twofold.ProjectionControl.rewind", lambda world: balances_control(world).rewind,
         {"position": None, "log": None}, {"position": (*AFTER[:-1],), "log": (5, "text", ANYTHING)},
         may_be_made=False),
    Call("twofold.ProjectionControl.rebuild", lambda world: balances_control(world).rebuild,
         {"expect_same": False, "progress": print}, {"expect_same": FLAG, "progress": (None, *FUNCTION)},
         may_be_made=False),
    Call("twofold.ProjectionControl.begin_rebuild", lambda world: balances_control(world).begin_rebuild,
         {"expect_same": False}, {"expect_same": FLAG}, may_be_made=False),
    Call("twofold.ProjectionControl.retry", lambda world: lambda key: balances_control(world).retry(*key),
         {"key": ("a",)}, {}, ("key",)),
    Call("twofold.ProjectionControl.skip_row(*)",
         lambda world: lambda key: balances_control(world).skip_row(*key, reason="why"),
         {"key": ("a",)}, {"key": ((),)}),
    Call("twofold.fastapi.TokenCookie", lambda world: twofold.fastapi.TokenCookie, {"name": "token", "path": "/"},
         {"name": FILLED, "path": FILLED}),
    Call("twofold.fastapi.add_browser_protection", lambda world: twofold.fastapi.add_browser_protection,
         {"api": lambda world: FastAPI(), "hosts": ["shop.example"], "origins": ()},
         {"api": (*OBJECT, FastAPI), "hosts": (*TEXTS, []), "origins": TEXTS}),
    Call("twofold.fastapi.add_consistency", lambda world: twofold.fastapi.add_consistency,
         {"api": lambda world: FastAPI(), "app": lambda world: world.app, "cookie": False, "max_wait": 30.0,
          "heartbeat": 15.0, "grace": None},
         {"api": (*OBJECT, FastAPI), "app": (*OBJECT, Application), "cookie": (None, 5, "token"),
          "max_wait": (*NUMBER, -1), "heartbeat": (*NUMBER, -1), "grace": TIMEOUT}),
    Call("twofold.fastapi.add_correlation", lambda world: twofold.fastapi.add_correlation,
         {"api": lambda world: FastAPI(), "header": "X-Correlation-Id"},
         {"api": (*OBJECT, FastAPI), "header": FILLED}),
    Call("twofold.fastapi.add_docs", lambda world: twofold.fastapi.add_docs,
         {"api": lambda world: FastAPI(docs_url=None, redoc_url=None), "path": "/docs"},
         {"api": (*OBJECT, FastAPI), "path": (*FILLED, "docs")}),
    Call("twofold.fastapi.add_health", lambda world: twofold.fastapi.add_health,
         {"api": lambda world: FastAPI(), "app": lambda world: world.app, "path": "/health", "max_wait": 2.0},
         {"api": (*OBJECT, FastAPI), "app": (*OBJECT, Application), "path": (*FILLED, "health", "/health/"),
          "max_wait": (*NUMBER, -1)}),
    Call("twofold.fastapi.add_metrics", lambda world: twofold.fastapi.add_metrics,
         {"api": lambda world: FastAPI(), "app": lambda world: world.app, "path": "/metrics", "max_wait": 5.0},
         {"api": (*OBJECT, FastAPI), "app": (*OBJECT, Application), "path": (*FILLED, "metrics", "/metrics/"),
          "max_wait": (*NUMBER, -1)}),
    Call("twofold.fastapi.add_problem_details", lambda world: twofold.fastapi.add_problem_details,
         {"api": lambda world: FastAPI(), "statuses": None, "max_body": 1000},
         {"api": (*OBJECT, FastAPI), "statuses": (5, "text", {KeyError: "404"}, {"KeyError": 404}, {KeyError: 99}),
          "max_body": (*WHOLE, -1)}),
    Call("twofold.fastapi.command_id_within", lambda world: twofold.fastapi.command_id_within,
         {"scope": lambda request: ""}, {"scope": (None, *FUNCTION, carry_out)}),
    Call("twofold.fastapi.etag", lambda world: twofold.fastapi.etag, {"version": 1}, {"version": (*WHOLE, -1)}),
    Call("twofold.inspection.EventSearch", lambda world: EventSearch,
         {"stream": "", "stream_type": "", "types": (), "tags": (), "correlation": None, "user": "", "since": None,
          "until": None, "after": 0, "before": None, "newest_first": False},
         {"stream": TEXT, "stream_type": TEXT, "types": TEXTS, "tags": TEXTS, "correlation": (5, "x"), "user": TEXT,
          "since": (5, "today", NAIVE), "until": (5, "today", NAIVE), "after": (*WHOLE, -1),
          "before": some(*WHOLE, -1, optional=True), "newest_first": FLAG}),
    Call("twofold.inspection.document_of", lambda world: inspection.document_of, {"thing": 1}, free=("thing",)),
    Call("twofold.inspection.find_event", lambda world: inspection.find_event, {"store": APP_STORE, "which": 1},
         {"store": OBJECT, "which": (*WHOLE, 0)}, may_be_made=False),
    Call("twofold.inspection.follow_events", lambda world: inspection.follow_events,
         {"store": APP_STORE, "search": None, "last": 0},
         {"store": OBJECT, "search": (5, "text", EventSearch), "last": (*WHOLE, -1)}),
    Call("twofold.inspection.message_flow", lambda world: inspection.message_flow,
         {"commands": lambda world: world.app.commands, "projections": lambda world: world.app.projections},
         {"commands": OBJECT, "projections": OBJECT}),
    Call("twofold.inspection.parked_groups", lambda world: inspection.parked_groups, {"parked": ()},
         {"parked": (None, 5)}),
    Call("twofold.inspection.search_events", lambda world: inspection.search_events,
         {"store": APP_STORE, "search": None, "limit": 100, "options": None},
         {"store": OBJECT, "search": (5, "text", EventSearch), "limit": (*WHOLE, 0),
          "options": (5, "text", InspectionOptions, Options())}),
    Call("twofold.inspection.stream_state", lambda world: inspection.stream_state,
         {"store": APP_STORE, "stream": "Account-a", "version": None, "fold": "", "as_of": None},
         {"store": OBJECT, "stream": FILLED, "version": some(*WHOLE, -1, optional=True), "fold": TEXT,
          "as_of": MOMENT},
         may_be_made=False),
    Call("twofold.inspection.trace", lambda world: inspection.trace,
         {"store": APP_STORE, "which": 1, "options": None},
         {"store": OBJECT, "which": (*WHOLE, 0), "options": (5, "text", InspectionOptions, Options())},
         may_be_made=False),
    *[each for name in ("Backoff", "CommandOptions", "DuckDbOptions", "FoldOptions", "InspectionOptions", "LogOptions",
                        "MonitoringOptions",
                        "Options",
                        "PrivacyOptions",
                        "PostgresOptions", "ProcessOptions", "QueryOptions", "SqliteOptions", "SynchronizerOptions")
      for each in options_of(getattr(twofold.options, name), f"twofold.options.{name}")],
]  # fmt: skip
