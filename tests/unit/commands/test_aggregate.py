"""Objects that guard their rules and remember what happened."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import pytest
from tests.accounts import ACCOUNT, Account, Deposited, Opened, OverdrawnError, Withdrawn

from twofold import Aggregate, Event, Repository, on, open_event_store
from twofold.commands.folds import AggregateFold
from twofold.errors import InvalidEventError, InvalidMessageTypeError
from twofold.log.codec.event_types import EventTypes
from twofold.messages.event import RecordedEvent
from twofold.messages.ids import uuid7
from twofold.messages.stored_event import record


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


def test_a_fold_sees_the_versions_of_the_stream_where_one_event_was_split_and_another_left_out() -> None:
    class Seeing(Aggregate):
        def __init__(self, id: str) -> None:
            super().__init__(id)
            self.seen: list[int] = []

        @on(Deposited)
        def note(self, event: Deposited) -> None:
            self.seen.append(self.version)

    event = Deposited(account="a", amount=Decimal(1))
    new = EventTypes().encode(event, uuid7(), "Seeing-a", "Seeing", b"{}")
    places = [(1, 1), (1, 2), (3, 0)]  # of as many events as there are versions
    fold = AggregateFold(Seeing, "a")
    taken = fold.take(fold.begin(), [RecordedEvent(event, record(new, at, at, 0), part) for at, part in places])
    assert taken.seen == [0, 0, 2]


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


# -- declarations that cannot work -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [[], {}, set(), Counter(), bytearray(), ([],)])
@pytest.mark.parametrize("name", ["items", "_items"])
def test_state_that_all_instances_would_share_is_refused(name: str, state: Any) -> None:
    with pytest.raises(TypeError, match=rf"{name} is one .* for all aggregates .* write {name.upper()} if"):
        type("Cart", (Aggregate,), {name: state})


def test_constants_and_values_may_stand_in_the_class() -> None:
    class Cart(Aggregate):
        LIMITS = {"items": 3}  # noqa: RUF012
        names: ClassVar[list[str]] = ["a"]
        items: tuple[str, ...] = ()
        total = Decimal(0)

    assert Cart("c").items == ()


def test_an_init_that_takes_more_than_the_id_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Cart.__init__ must take \(self, id\)"):

        class Cart(Aggregate):
            def __init__(self, id: str, owner: str) -> None: ...


def test_an_init_that_forgets_its_parents_works_all_the_same() -> None:
    class Cart(Account):
        def __init__(self, id: str) -> None:
            self.items: list[str] = []

    cart = Cart.from_history("c", [Opened(account="c"), Deposited(account="c", amount=Decimal(3))])
    assert (cart.id, cart.version, cart.balance) == ("c", 2, Decimal(3))
    assert cart.items == []


def test_an_aggregate_can_be_copied() -> None:
    account = Account.open("a")
    twin = copy.deepcopy(account)
    twin.deposit(Decimal(1))
    assert (twin.id, twin.version, account.version) == ("a", 2, 1)


@pytest.mark.parametrize("id", [None, "", 7, UUID(int=7)])
def test_an_id_that_is_no_text_is_refused(id: Any) -> None:
    for use in (Account, Account.stream_id, lambda given: Account.from_history(given, [])):
        with pytest.raises(ValueError, match="the id of a Account is a text that is not empty, got"):
            use(id)


def test_a_method_for_another_event_is_refused() -> None:
    with pytest.raises(TypeError, match=r"marked with @on\(Opened\) and takes a Deposited"):

        class Cart(Aggregate):
            @on(Opened)
            def opened(self, event: Deposited) -> None: ...


def test_a_method_with_other_parameters_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must take \(self, event\), got \(self, row, event\)"):

        class Cart(Aggregate):
            @on(Opened)
            def opened(self, row: object, event: Opened) -> None: ...


def test_a_method_for_a_base_class_of_its_event_is_fine() -> None:
    class Cart(Aggregate):
        @on(Opened, Deposited)
        def happened(self, event: Event) -> None: ...

    assert Cart.from_history("c", [Opened(account="c")]).version == 1


@pytest.mark.parametrize("state", [set(), [], 0])
def test_a_decider_needs_a_function_that_makes_its_state(state: Any) -> None:
    with pytest.raises(TypeError, match="give the function that makes it"):
        replace(ACCOUNT, initial_state=state)


async def test_two_classes_with_one_type_of_streams_are_refused() -> None:
    class OldAccount(Aggregate):
        stream_type = "Account"

    store = open_event_store("memory://")
    Repository(store, Account)
    Repository(store, Account)
    with pytest.raises(InvalidMessageTypeError, match="OldAccount and Account both have streams of the type 'Account'"):
        Repository(store, OldAccount)
