"""What the instances of a segment make of outcomes and of timers that are due."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from twofold.errors import InvalidProcessError
from twofold.options import ProcessOptions
from twofold.processes.inputs import Given, Taken, outcome_given, take, timer_given
from twofold.processes.instance import Failure, Folding, Instance, WaitingCommand, moment_of
from twofold.processes.outbox import Outcome
from twofold.processes.rows import failures_of
from twofold.projections.failure import described
from twofold.tasks import is_failure

log = logging.getLogger(__name__)


class DueRow(NamedTuple):
    """An instance that has something to do, as its row says."""

    id: str
    version: int
    failures: str
    wait: int
    """Microseconds until then; not above zero if it is due."""


class Came(NamedTuple):
    """What came of a command of an instance."""

    process_id: str
    waiting: WaitingCommand
    outcome: Outcome | BaseException


class Taking:
    """Lets instances take in outcomes and timers, as of one moment.

    Args:
        folding: folds their steps.
        options: tries and pauses.
        loaded: the instances; in place of one that cannot be folded, the error.
        now: by the database's clock, in microseconds.
    """

    def __init__(
        self, folding: Folding, options: ProcessOptions, loaded: Mapping[str, Instance | BaseException], now: int
    ) -> None:
        self.instances = {each: instance for each, instance in loaded.items() if isinstance(instance, Instance)}
        """As they are by now."""
        self.broken = {each: error for each, error in loaded.items() if not isinstance(error, Instance)}
        self.changed: dict[str, None] = {}
        """The ids of those that are to be written."""
        self.taken: list[Taken] = []
        self._folding = folding
        self._options = options
        self._now = now
        self._moment = moment_of(now)

    def believe(self, row: DueRow) -> None:
        """Take over from a row what fails, and when that is tried again: an operator may have changed it."""
        instance = self.instances.get(row.id)
        if instance is not None and instance.version == row.version:
            self.instances[row.id] = instance.replace(failures=failures_of(row.failures))

    def outcome(self, came: Came) -> None:
        """Let an instance take in what came of its command, or note why that failed."""
        process_id, waiting, outcome = came
        instance = self.instances.get(process_id)
        if instance is None or all(each.key != waiting.key for each in instance.commands):
            return  # the instance was cancelled
        if isinstance(outcome, BaseException):
            self._fail(instance, waiting.key, outcome, for_ever=True)
        else:
            self._take(instance, waiting.key, lambda: outcome_given(self._folding, waiting, outcome, self._moment))

    def timers(self, process_id: str) -> None:
        """Let an instance take in its timers that are due, in the order in which they are."""
        instance = self.instances.get(process_id)
        for name, timer in sorted(instance.timers.items(), key=lambda each: each[1].due_at) if instance else ():
            instance = self.instances[process_id]
            if instance.timers.get(name) is not timer or timer.due_at > self._moment:
                continue  # it is not due, or an earlier one has replaced or cancelled it
            if instance.may_go(name, self._now):
                self._take(instance, name, lambda name=name, timer=timer: timer_given(name, timer, self._moment))  # type: ignore[misc]

    def ready(self, process_id: str) -> WaitingCommand | None:
        """Return the command of an instance that is to be carried out now."""
        instance = self.instances.get(process_id)
        if instance is None or not instance.commands or not instance.may_go(instance.commands[0].key, self._now):
            return None
        return instance.commands[0]

    def seconds_until_next(self) -> float | None:
        """Return after how long the first of the instances has something to do, apart from what is ready."""
        times = [each.next_at for each in self.instances.values()]
        later = [each for each in times if each is not None and each > self._now]
        return (min(later) - self._now) / 1e6 if later else None

    def _take(self, instance: Instance, what: str, given: Callable[[], Given]) -> None:
        try:
            taken = take(self._folding, instance, given())
        except BaseException as error:  # the code of the process
            if not is_failure(error):
                raise
            self._fail(instance, what, error, for_ever=False)
            return
        self.taken.append(taken)
        self.instances[instance.id] = taken.instance
        self.changed[instance.id] = None

    def _fail(self, instance: Instance, what: str, error: BaseException, *, for_ever: bool) -> None:
        """Note why a timer or a command does not get on, and when it is tried again."""
        earlier = instance.failures.get(what)
        attempts = 1 + (earlier.attempts if earlier else 0)
        may_be_mended = not isinstance(error, InvalidProcessError)
        tries_again = for_ever or (may_be_mended and attempts <= self._options.retries)
        next_at = self._now + int(self._options.backoff.pause(attempts) * 1e6) if tries_again else None
        name, cause = self._folding.process.name, described(error)[0]
        log.log(logging.WARNING if tries_again else logging.ERROR, "%s %r: %s", name, instance.id, cause)
        self.instances[instance.id] = instance.failed(what, Failure(cause, attempts, next_at))
        self.changed[instance.id] = None
