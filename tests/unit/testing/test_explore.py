"""`explore` finds every state that commands lead to, and the shortest way to one that must not be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from tests.accounts import ACCOUNT, Account, Deposit, Deposited, Open, Opened, OverdrawnError, Withdraw, Withdrawn
from tests.fulfilment import (
    CancelOrder,
    Fulfilment,
    FulfilOrder,
    NoStockError,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    PaymentReceived,
    RequestPayment,
    ReserveItems,
)

from twofold import Aggregate, Decider, DecisionModel, EventQuery, combine, on
from twofold.processes import Process, after, due, starts
from twofold.testing import explore
from twofold.testing.exploration import Instance

COMMANDS = (Deposit(account="a", amount=Decimal(1)), Withdraw(account="a", amount=Decimal(2)))


def never_negative(balance: Decimal) -> bool:
    return balance >= 0


def test_all_states_are_reached_and_each_is_checked_once() -> None:
    checked: list[Decimal] = []
    found = explore(ACCOUNT, COMMANDS, [never_negative, checked.append], refusals=OverdrawnError, depth=6)
    assert sorted(checked) == [Decimal(n) for n in range(7)]
    assert found.states == 7
    assert found.depth == 6
    assert found.refused == {"OverdrawnError": 2}
    assert found.transitions == 6 + 4  # from 0 to 5: deposit; from 2 to 5: withdraw


def test_the_shortest_way_to_a_broken_invariant_is_told() -> None:
    def is_small(balance: Decimal) -> bool:
        return balance < 3

    many = (*COMMANDS, Deposit(account="a", amount=Decimal(2)))
    with pytest.raises(AssertionError) as told:
        explore(ACCOUNT, many, [never_negative, is_small], refusals=OverdrawnError)
    text = str(told.value)
    assert text.startswith(
        "is_small does not hold, after 2 commands:\n   Decimal('0')\n1. Deposit(account='a', amount=Decimal("
    )
    assert text.splitlines()[-1] == "   Decimal('3')"
    assert text.count("Deposited(") == 2


def test_an_invariant_may_say_what_is_wrong() -> None:
    def is_even(balance: Decimal) -> None:
        assert balance % 2 == 0, f"{balance} is odd"

    with pytest.raises(AssertionError, match=r"(?s)^is_even does not hold: 1 is odd.*, after 1 command:"):
        explore(ACCOUNT, COMMANDS, [is_even], refusals=OverdrawnError)


def test_the_initial_state_is_checked_too() -> None:
    with pytest.raises(AssertionError, match="does not hold, at once:"):
        explore(ACCOUNT, COMMANDS, [lambda balance: balance > 0])


def test_an_error_that_is_no_refusal_is_a_failure() -> None:
    def decide(command: Any, balance: Decimal) -> Sequence[Any]:
        return [1 / balance]

    broken = replace(ACCOUNT, decide=decide)
    with pytest.raises(AssertionError, match=r"deciding on Open.* raised what is no refusal, at once"):
        explore(broken, [Open(account="a")], [], refusals=OverdrawnError)


def test_what_evolve_does_not_take_is_a_failure() -> None:
    def evolve(balance: Decimal, event: Any) -> Decimal:
        raise LookupError

    with pytest.raises(AssertionError, match="which `evolve` does not take, at once"):
        explore(replace(ACCOUNT, evolve=evolve), COMMANDS, [], refusals=OverdrawnError)


def test_an_event_that_the_decider_does_not_name_is_a_failure() -> None:
    forgotten = replace(ACCOUNT, events=tuple(each for each in ACCOUNT.events if each is not Deposited))
    with pytest.raises(AssertionError, match="whose class is none of the decider's `events`"):
        explore(forgotten, COMMANDS, [], refusals=OverdrawnError)


def test_commands_may_depend_on_the_state() -> None:
    asked: list[Decimal] = []

    def commands(balance: Decimal) -> Sequence[Any]:
        asked.append(balance)
        return [Deposit(account="a", amount=balance + 1)] if balance < 10 else []

    found = explore(ACCOUNT, commands, [never_negative])
    assert asked == [Decimal(0), Decimal(1), Decimal(3), Decimal(7), Decimal(15)]
    assert (found.states, found.depth) == (5, 4)


def test_too_many_states_are_told_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"more than 5 states; .*not as deep as 5.*most_states"):
        explore(ACCOUNT, COMMANDS, [], depth=100, most_states=5)


@dataclass
class Box:
    """A state that cannot be hashed."""

    content: list[int]


def test_states_that_cannot_be_hashed_are_told_by_what_they_show() -> None:
    decider: Decider[int, Box, Deposited] = Decider(
        initial_state=lambda: Box([]),
        decide=lambda command, state: [Deposited(account="a", amount=Decimal(command))] if not state.content else [],
        evolve=lambda state, event: Box([*state.content, int(event.amount)]),
        stream_type="Box",
        events=(Deposited,),
    )
    assert explore(decider, [1, 2], [lambda state: len(state.content) < 2]).states == 3


def test_states_that_are_never_equal_are_refused() -> None:
    class Place:
        """Equal to itself only."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Odd)

    for state, why in ((Place(), "Place, which is compared by where it is in memory"), (Odd(), "Odd, which cannot be")):
        decider: Any = replace(ACCOUNT, initial_state=partial(dict, place=[state]))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=rf"a state holds a .*{why}.*frozen dataclass"):
            explore(decider, COMMANDS, [])


def test_each_length_is_told_when_it_is_explored() -> None:
    told: list[tuple[int, int]] = []
    explore(ACCOUNT, COMMANDS, [], depth=3, progress=lambda found: told.append((found.depth, found.states)))
    assert told == [(0, 2), (1, 3), (2, 4), (3, 4)]


# -- aggregates -------------------------------------------------------------------------------------------------------


class Cart(Aggregate):
    """Its state changes in place."""

    def __init__(self, id: str) -> None:
        self.pieces: list[int] = []

    def add(self, number: int) -> None:
        if len(self.pieces) > 2:
            raise ValueError("full")
        self.record(Deposited(account=self.id, amount=Decimal(number)))

    def empty(self) -> None:
        self.record(Opened(account=self.id))

    @on(Deposited)
    def _added(self, event: Deposited) -> None:
        self.pieces.append(int(event.amount))

    @on(Opened)
    def _emptied(self, event: Opened) -> None:
        self.pieces.clear()


def holds_no_three(cart: Cart) -> bool:
    return sum(cart.pieces) != 3


def test_an_aggregate_is_explored_by_what_it_holds() -> None:
    found = explore(Cart, [lambda cart: cart.add(1), lambda cart: cart.empty()], [lambda c: len(c.pieces) < 4])
    assert (found.states, found.transitions, found.depth) == (4, 3 + 4, 3)
    assert found.refused == {"ValueError": 1}
    # the balance of a new account is that of the class, and later one of its own
    both = explore(Account, [lambda a: a.deposit(Decimal(1)), lambda a: a.withdraw(Decimal(1))], [], depth=3)
    assert both.states == 4
    assert explore(Account, [lambda _: Account.open("b")], []).states == 2


def test_the_shortest_way_of_an_aggregate_is_told() -> None:
    def add_two(cart: Cart) -> None:
        cart.add(2)

    with pytest.raises(AssertionError) as told:
        explore(Cart, [Cart.empty, lambda cart: cart.add(1), add_two], [holds_no_three])
    lines = str(told.value).splitlines()
    assert lines[0] == "holds_no_three does not hold, after 2 commands:"
    assert lines[1] == "   Cart(pieces=[])"
    assert lines[2] == "1. explore(Cart, [Cart.empty, lambda cart: cart.add(1), add_two], [holds_no_three])"
    assert lines[4:6] == ["   Cart(pieces=[1])", f"2. {add_two.__qualname__}"]
    assert lines[-1] == "   Cart(pieces=[1, 2])"


def test_an_event_that_an_aggregate_does_not_take_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="recorded what it cannot fold: Cart has no method for Withdrawn"):
        explore(Cart, [lambda cart: cart.record(Withdrawn(account="a", amount=Decimal(1)))], [])


# -- decision models --------------------------------------------------------------------------------------------------

SEATS = DecisionModel(
    query=EventQuery.of(Deposited, tags=["account:a"]), initial_state=0, evolve=lambda taken, event: taken + 1
)


def take(command: str, taken: int) -> Sequence[Deposited]:
    return [Deposited(account=command, amount=Decimal(1))]


def refuse_third(taken: int) -> None:
    if taken > 2:
        raise ValueError("full")


def test_a_decision_model_is_explored_by_what_is_decided_on_it() -> None:
    with pytest.raises(AssertionError, match=r"(?s)after 3 commands:\n   0\n1. 'a'\n     Deposited.*\n   3$"):
        explore(SEATS, ["a", "b"], [lambda taken: taken < 3], decide=take)
    found = explore(replace(SEATS, require=refuse_third), ["a", "b"], [lambda taken: taken < 4], decide=take)
    assert (found.states, found.refused) == (4, {"ValueError": 2})
    with pytest.raises(TypeError, match="decide=lambda command, state"):
        explore(SEATS, ["a"], [])  # type: ignore[call-overload]


def test_models_that_are_combined_are_explored_together() -> None:
    opened = DecisionModel(query=EventQuery.of(Opened), initial_state=False, evolve=lambda state, _: True)

    def decide(command: str, known: tuple[bool, int]) -> Sequence[object]:
        is_open, taken = known
        if command == "open":
            return [Opened(account="a")]
        if not is_open or taken > 1:
            raise ValueError(command)
        return take(command, taken)

    found = explore(combine(opened, SEATS), ["open", "a"], [lambda known: known[0] or not known[1]], decide=decide)
    assert found.states == 4  # closed; open with 0, 1 and 2 seats taken


# -- processes --------------------------------------------------------------------------------------------------------

PLACED, PAID = OrderPlaced(order="a", deadline=60), PaymentReceived(order="a")
EVENTS = [PLACED, PAID, OrderShipped(order="a"), OrderCancelled(order="a", reason="by hand")]
NO_STOCK: dict[type, list[Any]] = {ReserveItems: [None, NoStockError("none left")], CancelOrder: [None]}


def test_a_process_is_explored_by_events_timers_and_outcomes() -> None:
    seen: set[tuple[Any, ...]] = set()

    def note(instance: Instance[Fulfilment]) -> None:
        waits = tuple(type(each).__name__ for each in instance.waits_for)
        seen.add((waits, tuple(instance.timers), instance.is_completed))
        assert not (instance.timers and instance.is_completed)

    found = explore(FulfilOrder(), EVENTS, [note], outcomes=NO_STOCK, depth=5)
    assert found.refused == {"ProcessNotStartedError": 3}
    assert (("RequestPayment",), ("payment",), False) in seen
    assert (("RequestPayment", "CancelOrder"), (), False) in seen, "the timer has fired"
    assert (("ReserveItems",), (), False) in seen, "the payment was requested, and came"
    assert any(waits == ("CancelOrder",) for waits, *_ in seen), "the items were not in stock"
    assert any(is_completed for *_, is_completed in seen)


class Reminder(Process[str]):
    """Its own state never changes."""

    name, initial = "reminder", ""

    @starts(PaymentReceived, key="order")
    def paid(self, state: str, event: PaymentReceived) -> Sequence[object]:
        return [ReserveItems(order=event.order), after(timedelta(days=1), "late")]

    @due("late")
    def late(self, state: str) -> Sequence[object]:
        return []

    def is_completed(self, state: str) -> bool:
        return False


def test_what_a_process_waits_for_is_part_of_its_state() -> None:
    found = explore(Reminder(), lambda instances: [] if instances else [PAID], [])
    assert found.states == 1 + 2 * 2  # before it begins; then with and without its timer, and its command


def test_the_shortest_way_of_a_process_is_told() -> None:
    def is_never_cancelled(instance: Instance[Fulfilment]) -> bool:
        return not any(isinstance(each, CancelOrder) for each in instance.waits_for)

    with pytest.raises(AssertionError) as told:
        explore(FulfilOrder(), [PAID, PLACED], [is_never_cancelled], outcomes=NO_STOCK)
    lines = str(told.value).splitlines()
    assert lines[:5] == [
        "is_never_cancelled does not hold, after 2 commands:",
        "   nothing has begun",
        "1. OrderPlaced(order='a', total=10, deadline=60)",
        "     RequestPayment(order='a', amount=10)",
        "   a: Fulfilment(order='a', paid=False, bill='', ended=False), payment in 0:01:00, "
        "waits for RequestPayment(order='a', amount=10)",
    ]
    assert lines[5:7] == ["2. the next timer fires", "     CancelOrder(order='a', reason='not paid')"]


def test_a_refusal_that_a_process_does_not_take_is_a_failure() -> None:
    with pytest.raises(AssertionError, match=r"RequestPayment\(.*\) is refused with .*raised what is no refusal"):
        explore(FulfilOrder(), [PLACED], [], outcomes={RequestPayment: [NoStockError("no")]})


def test_nothing_else_can_be_explored() -> None:
    other: Any = 1
    with pytest.raises(TypeError, match="1 is no decider, decision model or process"):
        explore(other, [], [])
