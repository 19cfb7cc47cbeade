"""A trial of two weeks as one process: near its end the customer is reminded, and locked out unless they subscribe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from twofold import Application, Command, Event
from twofold.processes import Process, after, due, evolve, on, starts


@dataclass(frozen=True, kw_only=True)
class TrialStarted(Event):
    customer: str
    days: float = 14


@dataclass(frozen=True, kw_only=True)
class Subscribed(Event):
    customer: str


@dataclass(frozen=True, kw_only=True)
class LockedOut(Event):
    customer: str


@dataclass(frozen=True, kw_only=True)
class Remind(Command[None]):
    customer: str


@dataclass(frozen=True, kw_only=True)
class LockOut(Command[None]):
    customer: str


class Trial(Process[str]):
    name, initial = "trial", ""  # the state is the customer, and empty once it is over

    @starts(TrialStarted, key="customer")
    def started(self, state: str, event: TrialStarted) -> Iterator[object]:
        yield after(timedelta(days=event.days) * 0.75, "reminder")
        yield after(timedelta(days=event.days), "end")  # started once more, it lasts longer: both timers are replaced

    @due("reminder")
    def nearly_over(self, state: str) -> Iterator[object]:
        yield Remind(customer=state)

    @due("end")
    def over(self, state: str) -> Iterator[object]:
        yield LockOut(customer=state)

    @on(Subscribed, LockedOut, key="customer", missing="ignore")
    def ended(self, state: str, event: Subscribed | LockedOut) -> tuple[()]:
        return ()  # the process is at its end: its timers are gone

    @evolve(TrialStarted)
    def has_started(self, state: str, event: TrialStarted) -> str:
        return event.customer

    @evolve(Subscribed, LockedOut)
    def is_over(self, state: str, event: Subscribed | LockedOut) -> str:
        return ""

    def is_completed(self, state: str) -> bool:
        return not state


def wire(app: Application, remind: Callable[[Remind], Awaitable[None]]) -> None:
    async def lock_out(command: LockOut) -> None:
        await app.store.append([LockedOut(customer=command.customer)])

    app.commands.register(Remind, remind)
    app.commands.register(LockOut, lock_out)
    app.processes.add(Trial())
