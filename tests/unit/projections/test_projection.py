"""From rows and events to the next rows, purely."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any

import pytest
from tests.accounts import Balance, Balances, Deposited, Opened, Withdrawn

from twofold import EventTypes, Key, Projection, RecordedEvent, on
from twofold.errors import InvalidProjectionError, RowNotFoundError
from twofold.messages.ids import uuid7
from twofold.messages.stored_event import record
from twofold.projections.folding import fold
from twofold.projections.keys.keyed_event import keyed

TYPES = EventTypes()


def recorded(*events: object) -> list[RecordedEvent[Any]]:
    new = [TYPES.encode(event, uuid7(), "", "", b"{}") for event in events]
    return TYPES.decode([record(each, position, 0, position) for position, each in enumerate(new, 1)])


def folded(projection: Projection[Any], *events: object, rows: Any = None) -> Any:
    happened = recorded(*events)
    return fold(projection, rows or {}, keyed(projection, happened))


def deposited(account: str = "a", amount: int = 1) -> Deposited:
    return Deposited(account=account, amount=Decimal(amount))


@dataclass(frozen=True)
class Count:
    account: Annotated[str, Key()]
    number: int = 0
    last: int = 0


class Shapes(Projection[Count]):
    """Every shape that a method may have."""

    name = "shapes"

    @on(Opened)
    def opened(self, event: Opened, recorded: RecordedEvent[Opened]) -> Count:
        return Count(event.account, last=recorded.position)

    @on(Deposited)
    def deposited(self, row: Count | None, event: Deposited) -> Count:
        return replace(row or Count(event.account), number=(row.number if row else 0) + 1)

    @on(Withdrawn)
    def withdrawn(self, row: Count, event: Withdrawn, recorded: RecordedEvent[Withdrawn]) -> Count | None:
        return None if row.number == 0 else replace(row, number=0, last=recorded.position)


def withdrawn(account: str = "a") -> Withdrawn:
    return Withdrawn(account=account, amount=Decimal(1))


def test_a_batch_is_folded_in_order_over_the_rows_that_there_are() -> None:
    result = folded(
        Balances(), Opened(account="b"), deposited("a", 3), deposited("b", 1), deposited("a", 4),
        rows={("a",): Balance("a", "ann", Decimal(10), 1)},
    )  # fmt: skip
    assert result.rows == {
        ("a",): Balance("a", "ann", Decimal(17), 3),
        ("b",): Balance("b", "ann", Decimal(1), 1),
    }
    assert result.failures == []


def test_methods_make_change_and_delete_rows_and_may_see_the_record() -> None:
    result = folded(Shapes(), Opened(account="a"), deposited("a"), withdrawn("a"), Opened(account="b"), withdrawn("b"))
    assert result.rows == {("a",): Count("a", 0, 3), ("b",): None}


def test_a_row_that_may_be_none_gets_the_events_of_new_keys() -> None:
    assert folded(Shapes(), deposited("x"), deposited("x")).rows == {("x",): Count("x", 2)}


def test_a_row_can_come_back_after_it_was_deleted() -> None:
    result = folded(Shapes(), Opened(account="a"), withdrawn("a"), Opened(account="a"))
    assert result.rows == {("a",): Count("a", last=3)}


def test_an_event_for_a_row_that_is_not_there_fails_with_the_remedy() -> None:
    result = folded(Balances(), Opened(account="a"), deposited("x"), deposited("a"))
    assert [failure.position for failure in result.failures] == [2]
    assert result.rows == {("a",): Balance("a", "ann", Decimal(1), 1)}
    assert isinstance(result.failures[0].error, RowNotFoundError)
    assert "declare `row: ... | None`" in str(result.failures[0].error)


def failures(result: Any) -> list[tuple[int, str]]:
    return [(failure.position, repr(failure.error or "")) for failure in result.failures]


def test_an_event_that_fails_takes_no_effect_nor_do_the_later_ones_of_its_row() -> None:
    class Broken(Balances):
        @on(Withdrawn)
        def broken(self, row: Balance, event: Withdrawn) -> Balance:
            raise KeyError("broken")

    result = folded(
        Broken(), Opened(account="a"), deposited(), withdrawn(), Opened(account="b"), deposited(), deposited("b")
    )
    assert failures(result) == [(3, "KeyError('broken')"), (5, "''")]
    assert result.rows == {("a",): Balance("a", "ann", Decimal(1), 1), ("b",): Balance("b", "ann", Decimal(1), 1)}


def test_a_row_that_changes_its_key_is_a_failure_and_not_a_second_row() -> None:
    class Renaming(Balances):
        @on(Deposited)
        def renamed(self, row: Balance, event: Deposited) -> Balance:
            return replace(row, account="other")

    result = folded(Renaming(), Opened(account="a"), deposited())
    assert result.rows == {("a",): Balance("a", "ann")}
    assert "about the row ('a',), its method returned the row ('other',)" in str(result.failures[0].error)


def test_a_method_that_returns_something_else_than_a_row_is_named() -> None:
    class Misled(Balances):
        @on(Opened)
        def opened(self, event: Opened) -> Any:
            return event.owner

        @on(Deposited)
        def deposited(self, row: Balance, event: Deposited) -> Balance:
            return row.missing  # type: ignore[attr-defined, no-any-return]

    of_opened = folded(Misled(), Opened(account="a")).failures[0].error
    assert str(of_opened).startswith(
        "balances: the method for Opened returned an instance of str; let it return the row, a Balance"
    )
    of_deposited = folded(Misled(), deposited(), rows={("a",): Balance("a", "ann")}).failures[0].error
    assert isinstance(of_deposited, AttributeError), "what the method itself raises is kept"


def test_keys_may_be_composed_and_computed() -> None:
    @dataclass(frozen=True)
    class PerOwner:
        owner: Annotated[str, Key()]
        account: Annotated[str, Key()]

    class Owners(Projection[PerOwner]):
        name = "owners"

        @on(Opened)
        def opened(self, event: Opened) -> PerOwner:
            return PerOwner(event.owner, event.account)

    class Totals(Projection[Count]):
        name = "totals"

        def key(self, event: Any) -> str:
            return "all"

        @on(Deposited)
        def deposited(self, row: Count | None, event: Deposited) -> Count:
            return Count("all", (row.number if row else 0) + 1)

    assert folded(Owners(), Opened(account="a", owner="o")).rows == {("o", "a"): PerOwner("o", "a")}
    assert folded(Totals(), deposited("a"), deposited("b")).rows == {("all",): Count("all", 2)}


def test_a_key_that_cannot_be_found_is_an_error_of_its_own() -> None:
    class Keyless(Balances):
        def key(self, event: Any) -> Any:
            return event.nothing

    with pytest.raises(AttributeError):
        folded(Keyless(), Opened(account="a"))


def test_a_subclass_inherits_rows_and_methods() -> None:
    class More(Balances):
        name = "more"

        @on(Withdrawn)
        def nothing(self, row: Balance, event: Withdrawn) -> Balance:
            return row

    assert set(More().handles()) == {Opened, Deposited, Withdrawn}
    assert folded(More(), Opened(account="a"), withdrawn()).rows == {("a",): Balance("a", "ann")}


def test_the_name_must_be_that_of_a_table() -> None:
    for name in ("", "Upper", "1st", "a-b", "twofold_x", "x" * 41, 'a"b'):
        with pytest.raises(InvalidProjectionError, match="needs a `name` such as"):
            type("Named", (Balances,), {"name": name})().table()


def test_a_projection_must_say_what_its_rows_are() -> None:
    class Nameless(Projection):  # type: ignore[type-arg]
        name = "nameless"

    with pytest.raises(InvalidProjectionError, match="declare `Projection\\[YourRow\\]`"):
        Nameless().table()


def test_a_method_with_other_parameters_is_refused_when_the_projection_is_asked() -> None:
    class Odd(Projection[Count]):
        name = "odd"

        @on(Opened)
        def opened(self, row: Count, event: Opened, more: int) -> None: ...

    with pytest.raises(InvalidProjectionError, match=r"opened must take \(self, event\) or \(self, row, event\)"):
        Odd().handles()


def test_a_row_type_of_an_enclosing_function_may_be_none_too() -> None:
    @dataclass(frozen=True)
    class Local:
        account: Annotated[str, Key()]

    class Locals(Projection[Local]):
        name = "locals"

        @on(Deposited)
        def deposited(self, row: Local | None, event: Deposited) -> Local:
            return row or Local(event.account)

    assert folded(Locals(), deposited("a")).rows == {("a",): Local("a")}
