"""Given, when, then: what a domain does, said in events. One style for all that Twofold runs.

given = scenario(Account, id="a")  # an aggregate
given(OPENED).when(lambda account: account.withdraw(5)).then_raises(OverdrawnError)

given = scenario(ACCOUNT)  # a decider
given(OPENED).when(Deposit(account="a", amount=5)).then(Deposited(account="a", amount=5))

given = scenario(wire)  # handlers of commands and queries, registered by wire(app)
given(OPENED).when(GetBalance(account="a")).then_returns(0)

given = scenario(is_taken("ann"))  # a decision model
given(OPENED).then_state(True)

given = scenario(Balances())  # a projection
given(OPENED, stream="Account-a", metadata=Metadata(user="ann")).then_row(Balance(account="a", amount=0))

given = scenario(Revenue())  # an SQL projection
given(SOLD).then_rows("SELECT month, total FROM revenue", ("2026-01", 12))

given = scenario(Receipts(outbox), sends=outbox.sent)  # a reaction, with an adapter of the test's own
given(OPENED).when(SOLD).then_sends(Mail(to="ann"))

given = scenario(FulfilOrder())  # a process
given(PLACED).when_time_passes(days=3).then_sends(CancelOrder(order_id="a", reason="not paid"))

What is given may be as earlier code has stored it: `given(Stored("Opened", version=1, payload={"name": "a"}))`.
A `when` that no `then` follows fails the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from twofold.application import Application
from twofold.commands.aggregate import Aggregate
from twofold.commands.decider import Decider
from twofold.log.folding.decision_model import DecisionModel
from twofold.processes.process import Process
from twofold.projections.projection import Projection
from twofold.projections.reaction import Reaction
from twofold.projections.sql_projection import SqlProjection
from twofold.testing.scenarios.deciding import AggregateScenario, DeciderScenario, DecisionScenario
from twofold.testing.scenarios.driving import ReactionScenario, SqlScenario
from twofold.testing.scenarios.folding import RowsScenario
from twofold.testing.scenarios.history import Start
from twofold.testing.scenarios.waiting import ProcessScenario
from twofold.testing.scenarios.wired import HandlerScenario

A = TypeVar("A", bound=Aggregate)
C = TypeVar("C")
R = TypeVar("R")
S = TypeVar("S")


@overload
def scenario(  # type: ignore[overload-overlap] # a class is callable, too, and is no function that registers handlers
    subject: type[A], *, id: str = "1"
) -> Start[AggregateScenario[A]]: ...
@overload
def scenario(subject: Decider[C, Any, Any]) -> Start[DeciderScenario[C]]: ...
@overload
def scenario(subject: DecisionModel[S]) -> Start[DecisionScenario[S]]: ...
@overload
def scenario(subject: Projection[R]) -> Start[RowsScenario[R]]: ...
@overload
def scenario(subject: SqlProjection) -> Start[SqlScenario]: ...
@overload
def scenario(
    subject: Reaction, *, sends: Sequence[Any] | None = None, publishes: Sequence[Any] | None = None
) -> Start[ReactionScenario]: ...
@overload
def scenario(subject: Process[Any]) -> Start[ProcessScenario]: ...
@overload
def scenario(subject: Callable[[Application], object], *, tenants: bool = False) -> Start[HandlerScenario]: ...
def scenario(
    subject: Any,
    *,
    id: str = "1",
    sends: Sequence[Any] | None = None,
    publishes: Sequence[Any] | None = None,
    tenants: bool = False,
) -> Start[Any]:
    """Return the `given(*events)` of what is tested.

    Args:
        subject: an aggregate class, a decider, a decision model, a projection, a reaction, a process, or a function
            that registers the handlers of an application.
        id: the identity of the aggregate.
        sends: the list in which the adapters of a reaction keep what it sends.
        publishes: the list in which they keep what it publishes.
        tenants: whether the application of the handlers keeps tenants apart.

    Raises:
        TypeError: there are no scenarios of such a thing.
    """
    match subject:
        case Process():
            return Start(ProcessScenario(subject))
        case Projection():
            return Start(RowsScenario(subject))
        case SqlProjection():
            return Start(SqlScenario(subject))
        case Reaction():
            return Start(ReactionScenario(subject, sends, publishes))
        case Decider():
            return Start(DeciderScenario(subject))
        case DecisionModel():
            return Start(DecisionScenario(subject))
        case type() if issubclass(subject, Aggregate):
            return Start(AggregateScenario(subject, id))
        case _ if callable(subject) and not isinstance(subject, type):
            return Start(HandlerScenario(subject, tenants=tenants))
    raise TypeError(
        f"there are no scenarios of {subject!r}; give a class of aggregates, a decider, a decision model, an instance "
        f"of a projection, reaction or process, or a function that registers handlers: scenario(wire)"
    )
