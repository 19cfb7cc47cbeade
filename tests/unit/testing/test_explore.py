"""`explore` finds every state that commands lead to, and the shortest way to one that must not be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from tests.accounts import ACCOUNT, Deposit, Deposited, Open, OverdrawnError, Withdraw

from twofold import Decider
from twofold.testing import explore

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
