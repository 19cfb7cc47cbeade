"""Scenarios of aggregates, deciders and decision models: what follows from what has happened. Nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Self, TypeVar, Unpack

from twofold.arguments import check_function
from twofold.commands.aggregate import Aggregate
from twofold.commands.decider import Decider
from twofold.log.codec.event_types import EventTypes
from twofold.log.folding.decision_model import DecisionModel
from twofold.messages.event import RecordedEvent
from twofold.testing.scenarios.history import Scenario, Where, types_of
from twofold.testing.scenarios.outcome import Action, Outcome, outcome_of
from twofold.testing.scenarios.report import expect_error, fail, fail_with, shown

__tracebackhide__ = True  # pytest then shows the line of the test

A = TypeVar("A", bound=Aggregate)
C = TypeVar("C")
S = TypeVar("S")


class AggregateScenario(Scenario, Generic[A]):
    """An aggregate: `given(OPENED).when(lambda account: account.deposit(3)).then(DEPOSITED)`.

    Args:
        aggregate_type: its class.
        id: its identity.
    """

    def __init__(self, aggregate_type: type[A], id: str) -> None:
        super().__init__(types_of(aggregate_type.event_types()))
        self._type, self._id = aggregate_type, id

    def when(self, action: Callable[[A], object]) -> Outcome:
        """Call a function with the aggregate; it may also make the aggregate and return it.

        Raises:
            TypeError: it is no function, such as what a method has returned: write `when(lambda book: book.lend())`.
        """
        check_function("action", action)
        aggregate = self._type.from_history(self._id, _events(self._history.recorded(self._types)))
        return outcome_of(lambda: act(aggregate, action), self._told._replace(when=[Action(action)]))


class DeciderScenario(Scenario, Generic[C]):
    """A decider: `given(OPENED).when(Deposit(account="a", amount=3)).then(DEPOSITED)`."""

    def __init__(self, decider: Decider[C, Any, Any]) -> None:
        super().__init__(types_of(decider.events))
        self._decider = decider

    def when(self, command: C) -> Outcome:
        """Give the decider a command."""
        state = self._decider.fold(_events(self._history.recorded(self._types)))
        return outcome_of(lambda: self._decider.decide(command, state), self._told._replace(when=[command]))


class DecisionScenario(Scenario, Generic[S]):
    """A decision model: `given(DEFINED, SUBSCRIBED).then_state(1)`. Events that its query does not match pass it by."""

    def __init__(self, model: DecisionModel[S]) -> None:
        super().__init__(EventTypes())
        self._model = model

    def when(self, *events: object, **where: Unpack[Where]) -> Self:
        """Let further events be recorded; see `given`."""
        return self._when(self._history.add(events, **where))

    def then_state(self, state: S) -> Self:
        """Expect this state.

        Raises:
            AssertionError: it is another one, or `require` has raised.
        """
        self._then()
        found, error = self._outcome()
        if error is not None:
            fail(f"expected the state {shown(state)}, but it raised {error!r}", self._told, error)
        if found != state:
            fail_with("another state than expected (-) came of it (+):", self._told, [state], [found])
        return self

    def then_raises(self, error: type[Exception], match: str = "") -> None:
        """Expect that `require` forbids the decision with an error of this class, whose text matches.

        Raises:
            AssertionError: it was otherwise.
        """
        self._then()
        found, raised = self._outcome()
        expect_error(raised, error, match, self._told, f"the state is {shown(found)}")

    def _outcome(self) -> tuple[Any, Exception | None]:
        recorded = self._history.recorded(self._types)
        try:
            return self._model.fold(recorded), None
        except Exception as error:  # of `require`, or a mistake in `evolve`: both are reported
            return None, error


def act(aggregate: Aggregate, action: Callable[[Any], object]) -> Sequence[object]:
    """Call a function with an aggregate, and return the events that it has recorded, or those of the one it made."""
    made = action(aggregate)
    return (made if isinstance(made, Aggregate) else aggregate).uncommitted_events


def _events(recorded: Iterable[RecordedEvent[Any]]) -> list[Any]:
    return [each.event for each in recorded]
