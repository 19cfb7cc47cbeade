"""The example that is a process only, `examples/trial.py`: in no time, and for real."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.fulfilment import QUICK
from tests.synchronizing import until

import trial
from trial import LockedOut, LockOut, Remind, Subscribed, Trial, TrialStarted
from twofold import Application
from twofold.testing import scenario

given = scenario(Trial())
ANN = TrialStarted(customer="ann")
DAYS = timedelta(days=14)


def test_a_customer_is_reminded_and_locked_out() -> None:
    trying = given(ANN).when_time_passes(days=10).then_sends().then_state("ann")
    trying.when_time_passes(days=1).then_sends(Remind(customer="ann")).then_running()
    trying.when_time_passes(days=3).then_sends(LockOut(customer="ann"))
    trying.when(LockedOut(customer="ann")).then_sends().then_completed()


def test_a_customer_who_subscribes_hears_nothing_more() -> None:
    subscribed = given(ANN).when(Subscribed(customer="ann")).then_sends().then_completed().then_timers()
    subscribed.when_time_passes(days=365).then_sends()


def test_a_trial_that_starts_once_more_lasts_longer() -> None:
    extended = given(ANN).when_time_passes(days=7).when(TrialStarted(customer="ann", days=28)).then_sends()
    extended.then_timers(reminder=1.5 * DAYS, end=2 * DAYS)
    extended.when_time_passes(days=14).then_sends()


async def test_two_customers_live_through_it(url: str) -> None:
    app, reminded = Application(url, options=QUICK), list[str]()

    async def remind(command: Remind) -> None:
        reminded.append(command.customer)

    trial.wire(app, remind)
    async with app:
        await app.store.append([TrialStarted(customer="ann", days=1e-6), TrialStarted(customer="bob")])
        await app.store.append([Subscribed(customer="bob")])
        control = app.processes.control("trial")

        async def both_are_over() -> bool:
            return (await control.counts()).completed == 2

        await until(both_are_over)
        assert set(reminded) == {"ann"}  # at least once: it appends nothing that could be known again
        assert [each.event.customer async for each in app.store.read() if type(each.event) is LockedOut] == ["ann"]


def test_it_is_short() -> None:
    assert len(Path(trial.__file__).read_text("utf-8").splitlines()) <= 80
