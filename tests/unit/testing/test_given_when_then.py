"""Given, when, then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import pytest
from tests.accounts import (
    ACCOUNT,
    Account,
    Balance,
    Balances,
    Deposit,
    Deposited,
    Open,
    Opened,
    OverdrawnError,
    Withdraw,
    Withdrawn,
)

from twofold import Key, Projection, RecordedEvent, on
from twofold.errors import RowNotFoundError
from twofold.testing import scenario

OPENED = Opened(account="a")
account = scenario(Account, id="a")
decider = scenario(ACCOUNT)
balances = scenario(Balances())


def deposited(amount: int) -> Deposited:
    return Deposited(account="a", amount=Decimal(amount))


def test_an_aggregate_does_what_is_expected() -> None:
    account(OPENED).when(lambda a: a.deposit(Decimal(3))).then(deposited(3))
    account(OPENED, deposited(3)).when(lambda a: a.withdraw(Decimal(4))).then_raises(OverdrawnError, "a")
    account().when(lambda _: Account.open("a")).then(OPENED)
    account(OPENED).when(lambda a: None).then()


def test_what_a_method_has_returned_is_no_action() -> None:
    with pytest.raises(TypeError, match="`action` is a function, not None"):
        account(OPENED).when(None)  # type: ignore[arg-type]


def test_a_decider_does_what_is_expected() -> None:
    decider().when(Open(account="a")).then(OPENED)
    decider(OPENED, deposited(3)).when(Withdraw(account="a", amount=Decimal(2))).then(
        Withdrawn(account="a", amount=Decimal(2))
    )
    decider(OPENED).when(Withdraw(account="a")).then_raises(OverdrawnError)


def test_a_projection_makes_the_expected_rows() -> None:
    given = balances(OPENED, deposited(3), Opened(account="b"))
    given.then_row(Balance("a", "ann", Decimal(3), 1))
    given.then_rows(Balance("b", "ann"), Balance("a", "ann", Decimal(3), 1))
    given.then_no_row("c")
    balances().then_rows()


def test_events_that_a_projection_does_not_handle_pass_it_by() -> None:
    @dataclass(frozen=True)
    class Seen:
        account: Annotated[str, Key()]
        at: datetime

    class Openings(Projection[Seen]):
        name = "openings"

        @on(Opened)
        def opened(self, event: Opened, recorded: RecordedEvent[Opened]) -> Seen:
            return Seen(event.account, recorded.recorded_at)

    scenario(Openings())(deposited(1), OPENED).then_rows(Seen("a", datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)))


def test_an_error_of_a_projection_comes_through_as_it_is() -> None:
    with pytest.raises(RowNotFoundError):
        balances(deposited(1)).then_rows()
    with pytest.raises(RowNotFoundError):
        balances(deposited(1)).when(OPENED).then_raises(RowNotFoundError)
    balances(OPENED).when(deposited(1), Deposited(account="b", amount=Decimal(1))).then_raises(
        RowNotFoundError, "position 3"
    )


def test_other_events_are_shown_beside_the_expected_ones() -> None:
    with pytest.raises(AssertionError) as caught:
        decider(OPENED).when(Deposit(account="a", amount=Decimal(2))).then(OPENED, deposited(3))
    assert str(caught.value).splitlines() == [
        "other events than expected (-) came of it (+):",
        "  given",
        "    Opened(account='a', owner='ann')",
        "  when",
        "    Deposit(account='a', amount=Decimal('2'))",
        "  then",
        "    - Opened(account='a', owner='ann')",
        "    - Deposited(account='a', amount=Decimal('3'))",
        "    ?                                        ^",
        "    + Deposited(account='a', amount=Decimal('2'))",
        "    ?                                        ^",
    ]


def test_an_unexpected_error_is_named_and_is_the_cause() -> None:
    with pytest.raises(AssertionError, match=r"expected 1 event, but it raised OverdrawnError\('a'\)") as caught:
        decider(OPENED).when(Withdraw(account="a")).then(OPENED)
    assert isinstance(caught.value.__cause__, OverdrawnError)


def test_a_missing_error_shows_what_came_instead() -> None:
    with pytest.raises(AssertionError, match=r"expected OverdrawnError, but this came of it:\n  Deposited\(acc"):
        decider(OPENED).when(Deposit(account="a")).then_raises(OverdrawnError)


def test_another_error_or_another_text_is_told_apart() -> None:
    refused = decider(OPENED).when(Withdraw(account="a"))
    with pytest.raises(AssertionError, match="expected KeyError, but it raised OverdrawnError"):
        refused.then_raises(KeyError)
    with pytest.raises(AssertionError, match="to match 'xyz', but it says 'a'"):
        refused.then_raises(OverdrawnError, "xyz")


def test_other_rows_are_shown_beside_the_expected_ones() -> None:
    with pytest.raises(AssertionError, match=r"another row than expected(.|\n)*- Balance\(.*2(.|\n)*\+ Balance\(.*3"):
        balances(OPENED, deposited(3)).then_row(Balance("a", "ann", Decimal(2), 1))
    with pytest.raises(AssertionError, match=r"expected a row with the key \('b',\); there are \[\('a',\)\]"):
        balances(OPENED).then_row(Balance("b", "ann"))
    with pytest.raises(AssertionError, match=r"other rows than expected"):
        balances(OPENED).then_rows()
    with pytest.raises(AssertionError, match="expected no row with the key"):
        balances(OPENED).then_no_row("a")
