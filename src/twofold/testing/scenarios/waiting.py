"""Scenarios of processes, with a clock of their own: a test of three days takes no time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self, Unpack

from twofold.processes.instance import Instance, ProcessState
from twofold.processes.process import Process
from twofold.testing.scenarios.claims import Claim
from twofold.testing.scenarios.history import NEW_YEAR_2026, History, Scenario, Where, types_of
from twofold.testing.scenarios.process_run import Outcome, ProcessRun, done, refused
from twofold.testing.scenarios.report import Told, Words, content, fail, fail_with

__tracebackhide__ = True  # pytest then shows the line of the test


class ProcessScenario(Scenario):
    """A process: `given(PLACED).when(PAID).then_sends(ReserveItems(order_id="o1"))`.

    It goes on: each `when` stands behind the one before it, and each `then` is about the last one. Time passes only by
    `when_time_passes`.
    """

    def __init__(self, process: Process[Any]) -> None:
        super().__init__(types_of(process.handles()), History(pace=timedelta()))
        self._process = process
        self._run = ProcessRun(process, self._types, NEW_YEAR_2026)
        self._done: list[object] = []
        """What was done since the past that was given."""

    def when(self, *events: object, **where: Unpack[Where]) -> Self:
        """Let events be recorded now; see `given`.

        Raises:
            Exception: whatever the process raises, which in an application would park the event.
        """
        self._begin()
        first = len(self._history.entries)
        told: Where = {"at": self._run.now, **where}
        self._history = self._history.add(events, **told)
        sent: list[Any] = []
        for recorded in self._history.recorded(self._types)[first:]:
            self._run.take_event(recorded)
            sent += self._run.sent
        self._run.sent = sent
        return self._opened(*events)

    def when_time_passes(self, time: timedelta | None = None, **parts: float) -> Self:
        """Let time pass, `when_time_passes(days=3)`, and the timers fire that are due until then."""
        self._begin()
        time = time or timedelta(**parts)
        self._run.pass_time(time)
        return self._opened(Words(f"{time} pass"))

    def when_done(self, command_type: type, value: Any = None) -> Self:
        """Let a command of this type that the process has sent be carried out."""
        return self._when_outcome(command_type, done(value), f"done, with {value!r}")

    def when_refused(self, command_type: type, error: Exception) -> Self:
        """Let the domain refuse a command of this type that the process has sent."""
        return self._when_outcome(command_type, refused(error), f"refused with {error!r}")

    def then_sends(self, *commands: object) -> Self:
        """Expect exactly these commands of the last `when`, in this order; their ids and times do not matter.

        Raises:
            AssertionError: others were sent.
        """
        self._then()
        if list(map(content, commands)) != list(map(content, self._run.sent)):
            fail_with("other commands than expected (-) were sent (+):", self._told, commands, self._run.sent)
        return self

    def then_timers(self, **timers: timedelta) -> Self:
        """Expect that exactly these timers are set, each with the time until it is due.

        Raises:
            AssertionError: others are.
        """
        self._then()
        found = {
            name: timer.due_at - self._run.now
            for each in self._run.instances.values()
            for name, timer in each.timers.items()
        }
        if found != timers:
            both = [[Words(f"{name}: {due}") for name, due in sorted(each.items())] for each in (timers, found)]
            fail_with("expected the timers (-), there are others (+):", self._told, *both)
        return self

    def then_state(self, state: object, id: str | None = None) -> Self:
        """Expect the state of an instance, which need not be named if it is the only one.

        Raises:
            AssertionError: it is another one.
        """
        found = self._instance(id).state
        if found != state:
            fail_with("another state than expected (-) came of it (+):", self._told, [state], [found])
        return self

    def then_completed(self, id: str | None = None) -> Self:
        """Expect that an instance is at its end.

        Raises:
            AssertionError: it goes on.
        """
        instance = self._instance(id)
        if instance.ending is not ProcessState.COMPLETED:
            which = f"{self._process.name} {instance.id!r}"
            fail(f"expected {which} to be completed, its state is {instance.state!r}", self._told)
        return self

    def then_running(self, id: str | None = None) -> Self:
        """Expect that an instance goes on.

        Raises:
            AssertionError: it is at its end.
        """
        instance = self._instance(id)
        if instance.ending is not None:
            fail(f"expected {self._process.name} {instance.id!r} to go on, its state is {instance.state!r}", self._told)
        return self

    def _with(self, history: History) -> Self:
        """Return a scenario that begins by itself, and has taken in what is given."""
        other = super()._with(history)
        other._run, other._done = self._run.copy(), []
        for recorded in history.recorded(self._types)[len(self._history.entries) :]:
            other._run.take_event(recorded)
        return other

    @property
    def _told(self) -> Told:
        return Told([each.what for each in self._history.entries[: self._since]], self._done)

    def _when_outcome(self, command_type: type, outcome: Outcome, text: str) -> Self:
        waiting = self._run.waiting(command_type)
        if not waiting:
            name = command_type.__name__
            fail(f"{self._process.name} has sent no {name} that has no outcome yet", self._told)
        self._begin()
        self._run.finish(*waiting[0], outcome)
        return self._opened(Words(f"{command_type.__name__} is {text}"))

    def _begin(self) -> None:
        """Note that what comes from now on is done, and not given."""
        if self._since is None:
            self._since = len(self._history.entries)

    def _opened(self, *what: object) -> Self:
        self._done += what
        self._then()  # what is expected of this `when` is expected of the one before it, too
        self._claim = Claim()
        return self

    def _instance(self, id: str | None) -> Instance:
        self._then()
        instances = self._run.instances
        if id is None and len(instances) == 1:
            return next(iter(instances.values()))
        if id not in instances:
            there_is = ", ".join(instances) or "none"
            fail(f"{self._process.name} has no instance {id!r}; there is {there_is}", self._told)
        return instances[id]
