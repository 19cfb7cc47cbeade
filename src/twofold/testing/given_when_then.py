"""Given, when, then: what a domain does, said in events. No database, no event loop, no waiting.

given = scenario(Account, id="a")
given(Opened(account="a")).when(lambda account: account.withdraw(5)).then_raises(OverdrawnError)

given = scenario(ACCOUNT)  # a decider
given(Opened(account="a")).when(Deposit(account="a", amount=5)).then(Deposited(account="a", amount=5))

given = scenario(Balances())  # a projection
given(Opened(account="a")).then_row(Balance(account="a", amount=0))

given = scenario(FulfilOrder())  # a process
given(placed).when_time_passes(days=3).then_sends(CancelOrder(order_id="a", reason="not paid"))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload
from uuid import UUID

from twofold.commands.aggregate import Aggregate
from twofold.commands.decider import Decider
from twofold.log.codec.event_types import EventTypes
from twofold.messages.event import RecordedEvent
from twofold.messages.stored_event import record
from twofold.processes.instance import moment_of
from twofold.processes.process import Process
from twofold.projections.folding import fold, keyed
from twofold.projections.projection import Projection
from twofold.testing.process_scenario import ProcessScenario
from twofold.testing.reports import difference, fail

A = TypeVar("A", bound=Aggregate)
C = TypeVar("C")
E = TypeVar("E")
R = TypeVar("R")
W = TypeVar("W")

NEW_YEAR_2026 = 1_767_225_600_000_000
"""When the first event of a scenario was recorded, in microseconds since 1970; each later one a second later."""


@overload
def scenario(subject: type[A], *, id: str = "1") -> Callable[..., Given[Callable[[A], object]]]: ...
@overload
def scenario(subject: Decider[C, Any, E]) -> Callable[..., Given[C]]: ...
@overload
def scenario(subject: Projection[R]) -> Callable[..., GivenRows[R]]: ...
@overload
def scenario(subject: Process[Any]) -> Callable[..., ProcessScenario]: ...
def scenario(subject: Any, *, id: str = "1") -> Callable[..., Any]:
    """Return the `given(*events)` of an aggregate class, a decider, a projection or a process.

    Args:
        subject: what is tested.
        id: the identity of the aggregate.
    """
    if isinstance(subject, Process):
        return lambda *events: ProcessScenario(subject, moment_of(NEW_YEAR_2026), events)
    if isinstance(subject, Projection):
        return lambda *events: GivenRows(subject, events)
    if isinstance(subject, Decider):
        return lambda *events: Given(lambda command: subject.decide(command, subject.fold(events)))

    def given(*events: object) -> Given[Callable[[Any], object]]:
        return Given(lambda action: _act(subject.from_history(id, events), action))

    return given


class Given(Generic[W]):
    """What has happened; `when` says what is done now."""

    def __init__(self, run: Callable[[W], Sequence[object]]) -> None:
        self._run = run

    def when(self, what: W) -> Outcome:
        """Give a decider a command, or call a function with the aggregate: `when(lambda order: order.ship())`.

        A function may also make the aggregate and return it, as the one that creates an order does.
        """
        try:
            return Outcome(self._run(what), None)
        except Exception as error:  # the domain's; `then_raises` expects it, `then` reports it
            return Outcome((), error)


class Outcome:
    """What came of it: events, or an error."""

    def __init__(self, events: Sequence[object], error: Exception | None) -> None:
        self.events = tuple(events)
        self.error = error

    def then(self, *events: object) -> None:
        """Expect exactly these events, in this order; none at all if none is given.

        Raises:
            AssertionError: it was otherwise; the text shows both.
        """
        if self.error is not None:
            fail(f"expected {_plural(len(events), 'event')}, but it raised {self.error!r}", self.error)
        if self.events != events:
            fail(f"other events than expected (-) came of it (+):\n{difference(events, self.events)}")

    def then_raises(self, error: type[Exception], match: str = "") -> None:
        """Expect an error of this class whose text matches the regular expression.

        Raises:
            AssertionError: it was otherwise.
        """
        if self.error is None:
            came = "\n".join(f"  {each!r}" for each in self.events) or "  nothing"
            fail(f"expected {error.__name__}, but this came of it:\n{came}")
        if not isinstance(self.error, error):
            fail(f"expected {error.__name__}, but it raised {self.error!r}", self.error)
        if not re.search(match, str(self.error)):
            fail(f"expected {error.__name__} to match {match!r}, but it says {str(self.error)!r}", self.error)


class GivenRows(Generic[R]):
    """What a projection makes of what has happened. Events that it does not handle pass it by, as they do in life."""

    def __init__(self, projection: Projection[R], events: Sequence[object]) -> None:
        self._key_of = projection.row_type().key_of
        handled = [each for each in _recorded(events) if type(each.event) in projection.handles()]
        folded = fold(projection, {}, keyed(projection, handled))
        for failure in folded.failures:
            if failure.error:
                raise failure.error
        self._rows: dict[tuple[Any, ...], R] = {key: row for key, row in folded.rows.items() if row is not None}

    def then_row(self, row: R) -> None:
        """Expect this row.

        Raises:
            AssertionError: there is none with its key, or another one.
        """
        key = self._key_of(row)
        if key not in self._rows:
            fail(f"expected a row with the key {key!r}; there are {sorted(self._rows)}")
        if self._rows[key] != row:
            fail(f"another row than expected (-) came of it (+):\n{difference([row], [self._rows[key]])}")

    def then_rows(self, *rows: R) -> None:
        """Expect these rows and no others, in any order.

        Raises:
            AssertionError: there are others.
        """
        expected = {self._key_of(row): row for row in rows}
        if expected != self._rows:
            both = [[rows[key] for key in sorted(rows)] for rows in (expected, self._rows)]
            fail(f"other rows than expected (-) came of it (+):\n{difference(*both)}")

    def then_no_row(self, *key: Any) -> None:
        """Expect that there is no row with this key.

        Raises:
            AssertionError: there is one.
        """
        if key in self._rows:
            fail(f"expected no row with the key {key!r}, but there is {self._rows[key]!r}")


def _act(aggregate: Aggregate, action: Callable[[Any], object]) -> Sequence[object]:
    made = action(aggregate)
    return (made if isinstance(made, Aggregate) else aggregate).uncommitted_events


def _recorded(events: Sequence[object]) -> list[RecordedEvent[Any]]:
    """Encode and decode, so that a projection sees what it would read from a log."""
    types = EventTypes()
    new = [types.encode(event, UUID(int=place), "", "", b"{}") for place, event in enumerate(events, 1)]
    return types.decode(
        [record(event, place, 0, NEW_YEAR_2026 + (place - 1) * 1_000_000) for place, event in enumerate(new, 1)]
    )


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
