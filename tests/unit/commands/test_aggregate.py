"""Objects that guard their rules and remember what happened."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import pytest
from tests.accounts import Account, Deposited, Opened, OverdrawnError, Withdrawn

from twofold import Aggregate, Event, on
from twofold.errors import InvalidEventError


@dataclass(frozen=True, kw_only=True)
class Closed(Event):
    pass


def test_what_is_recorded_changes_the_state_and_waits_to_be_saved() -> None:
    account = Account.open("a")
    account.deposit(Decimal(3))
    assert account.balance == 3
    assert account.uncommitted_events == (Opened(account="a"), Deposited(account="a", amount=Decimal(3)))
    assert (account.version, account.committed_version) == (2, 0)


def test_a_rule_that_is_broken_records_nothing() -> None:
    account = Account.open("a")
    with pytest.raises(OverdrawnError):
        account.withdraw(Decimal(1))
    assert (len(account.uncommitted_events), account.balance) == (1, Decimal(0))


def test_history_is_folded_and_not_saved_again() -> None:
    events = [Opened(account="a"), Deposited(account="a", amount=Decimal(3)), Withdrawn(account="a", amount=Decimal(1))]
    account = Account.from_history("a", events)
    assert (account.balance, account.version, account.committed_version) == (Decimal(2), 3, 3)
    assert account.uncommitted_events == ()


def test_saving_moves_the_committed_version() -> None:
    account = Account.open("a")
    account.mark_committed()
    assert (account.version, account.committed_version, account.uncommitted_events) == (1, 1, ())


def test_an_event_that_could_not_be_folded_again_is_refused_before_it_counts() -> None:
    account = Account.open("a")
    with pytest.raises(InvalidEventError, match=r"Account has no method for Closed; mark one with @on\(Closed\)"):
        account.record(Closed())
    assert (account.version, len(account.uncommitted_events)) == (1, 1)


def test_the_type_of_streams_is_the_class_unless_it_is_given() -> None:
    class Order(Aggregate):
        stream_type = "PurchaseOrder"

    assert Account.stream_id("a") == "Account-a"
    assert Order.stream_id("7") == "PurchaseOrder-7"


def test_it_knows_the_events_that_its_streams_may_hold() -> None:
    assert set(Account.event_types()) == {Opened, Deposited, Withdrawn}


def test_a_subclass_takes_the_events_of_its_parent_and_its_own() -> None:
    class ClosableAccount(Account):
        closed = False

        @on(Closed)
        def _closed(self, event: Closed) -> None:
            self.closed = True

    account = ClosableAccount.from_history("a", [Opened(account="a"), Closed()])
    assert account.closed
    assert account.owner == "ann"
