"""What came of it: events, or an error."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from typing import Any, Self

from twofold.testing.scenarios.claims import Claim
from twofold.testing.scenarios.report import Told, expect_error, fail, fail_with, shown

__tracebackhide__ = True  # pytest then shows the line of the test


class Outcome:
    """What came of what was done.

    Args:
        told: what was given and done.
        events: the events that followed.
        error: what was raised instead.
    """

    def __init__(self, told: Told, events: Sequence[object] = (), error: Exception | None = None) -> None:
        self._told = told
        self._events = tuple(events)
        self._error = error
        self._claim = Claim()

    @property
    def events(self) -> tuple[object, ...]:
        """The events that followed, for a look of the test's own."""
        self._claim.close()
        return self._events

    @property
    def error(self) -> Exception | None:
        """What was raised, for a look of the test's own."""
        self._claim.close()
        return self._error

    def then(self, *events: object) -> Self:
        """Expect exactly these events, in this order; none at all if none is given.

        Raises:
            AssertionError: it was otherwise; the text shows both.
        """
        self._claim.close()
        if self._error is not None:
            number = f"{len(events)} event{'' if len(events) == 1 else 's'}"
            fail(f"expected {number}, but it raised {self._error!r}", self._told, self._error)
        if self._events != events:
            fail_with("other events than expected (-) came of it (+):", self._told, events, self._events)
        return self

    def then_raises(self, error: type[Exception], match: str = "") -> None:
        """Expect an error of this class whose text matches the regular expression.

        Raises:
            AssertionError: it was otherwise.
        """
        self._claim.close()
        came = "\n".join(f"  {shown(each)}" for each in self._events) or "  nothing"
        expect_error(self._error, error, match, self._told, f"this came of it:\n{came}")


def outcome_of(act: Callable[[], Sequence[object]], told: Told) -> Outcome:
    """Return what comes of what is done."""
    try:
        return Outcome(told, act())
    except Exception as error:  # the domain's; `then_raises` expects it, `then` reports it
        return Outcome(told, error=error)


class Action:
    """A function that is called with an aggregate, as texts show it: by its name, or by its line if it has none."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, aggregate: Any) -> Any:
        """Call the function."""
        return self._function(aggregate)

    def __repr__(self) -> str:
        name = getattr(self._function, "__qualname__", repr(self._function))
        code = getattr(self._function, "__code__", None)
        if code is None or "<lambda>" not in name:
            return str(name)
        return linecache.getline(code.co_filename, code.co_firstlineno).strip() or str(name)
