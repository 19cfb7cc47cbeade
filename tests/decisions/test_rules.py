"""The rules of the examples of dcb.events, one by one; `test_decisions.py` holds them under race."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from decisions import courses, invoices, opt_in, orders_once, prices, usernames
from twofold import ValueTakenError
from twofold.testing import scenario

NOON = datetime.fromisoformat("2026-01-01T12:00:00+00:00")
SECOND = timedelta(seconds=1)


def test_a_course_is_taken_once_while_it_has_seats() -> None:
    given = scenario(courses.wire)
    maths = courses.CourseDefined(course="maths", capacity=1)
    ann = courses.StudentSubscribed(student="ann", course="maths")
    bob = courses.Subscribe(student="bob", course="maths")
    given(maths).when(courses.Subscribe(student="ann", course="maths")).then(ann)
    given(maths, ann).when(courses.Subscribe(student="ann", course="maths")).then_raises(courses.CourseError, "already")
    given(maths, ann).when(bob).then_raises(courses.CourseError, "is full")
    given().when(bob).then_raises(courses.CourseError, "no course")
    more = courses.CapacityChanged(course="maths", capacity=2)
    given(maths, ann, more).when(bob).then(courses.StudentSubscribed(student="bob", course="maths"))
    given(maths).when(courses.DefineCourse(course="maths", capacity=3)).then_raises(courses.CourseError, "there is a")
    given().when(courses.ChangeCapacity(course="maths", capacity=3)).then_raises(courses.CourseError, "no course")


def test_a_student_takes_ten_courses() -> None:
    taken = [courses.StudentSubscribed(student="ann", course=f"c{n}") for n in range(courses.MOST_COURSES)]
    given = scenario(courses.wire)(courses.CourseDefined(course="maths", capacity=1), *taken)
    given.when(courses.Subscribe(student="ann", course="maths")).then_raises(courses.CourseError, "10 courses already")


def test_a_name_is_free_three_days_after_it_was_given_up() -> None:
    given = scenario(usernames.wire)
    registered = usernames.AccountRegistered(account="a", name="ann")
    renamed = usernames.NameChanged(account="a", name="anna", old_name="ann", changed_at=NOON)
    closed = usernames.AccountClosed(account="a", name="ann", closed_at=NOON)
    early = usernames.Register(account="b", name="ann", timestamp=NOON + usernames.RESERVED - SECOND)
    later = usernames.Register(account="b", name="ann", timestamp=NOON + usernames.RESERVED)
    given(registered).when(later).then_raises(usernames.NameTakenError)
    for released in (renamed, closed):
        given(registered, released).when(early).then_raises(usernames.NameTakenError, "ann")
        given(registered, released).when(later).then(usernames.AccountRegistered(account="b", name="ann"))
    anna = usernames.Register(account="b", name="anna", timestamp=NOON + usernames.RESERVED)
    given(registered, renamed).when(anna).then_raises(usernames.NameTakenError, "anna")
    given(registered, closed).when(usernames.CloseAccount(account="a")).then_raises(LookupError, "no account")


def test_an_order_is_accepted_at_the_prices_that_were_shown() -> None:
    def order(price: int, after: timedelta) -> prices.OrderProducts:
        return prices.OrderProducts(items=(prices.Item("book", Decimal(price)),), timestamp=NOON + after)

    earlier = prices.PriceSet(product="book", price=Decimal(10), set_at=NOON - timedelta(days=1))
    given = scenario(prices.wire)(earlier, prices.PriceSet(product="book", price=Decimal(12), set_at=NOON))
    given.when(order(10, prices.GRACE - SECOND)).then(prices.ProductsOrdered(products=("book",), total=Decimal(10)))
    given.when(order(10, prices.GRACE)).then_raises(prices.PriceError, "does not cost 10")
    given.when(order(12, prices.GRACE)).then_returns(Decimal(12))
    given.when(prices.OrderProducts(items=())).then_raises(prices.PriceError, "at least")


def test_an_invoice_has_the_next_number() -> None:
    first = invoices.InvoiceCreated(number=1, customer="ann", amount=Decimal(1))
    create = invoices.CreateInvoice(customer="bob", amount=Decimal(2))
    scenario(invoices.wire)().when(create).then_returns(1)
    scenario(invoices.wire)(first).when(create).then(
        invoices.InvoiceCreated(number=2, customer="bob", amount=Decimal(2))
    )


def test_a_token_is_good_once_and_for_an_hour() -> None:
    initiated = opt_in.SignUpInitiated(token="t", email="ann@example.org", initiated_at=NOON)
    confirmed = opt_in.SignUpConfirmed(token="t", email="ann@example.org")
    confirm = opt_in.ConfirmSignUp(token="t", timestamp=NOON + opt_in.GOOD_FOR - SECOND)
    given = scenario(opt_in.wire)
    given(initiated).when(confirm).then(confirmed).then_returns("ann@example.org")
    given(initiated, confirmed).when(confirm).then_raises(opt_in.TokenError, "was used")
    given().when(confirm).then_raises(opt_in.TokenError, "no such token")
    late = opt_in.ConfirmSignUp(token="t", timestamp=NOON + opt_in.GOOD_FOR)
    given(initiated).when(late).then_raises(opt_in.TokenError, "too late")


def test_a_form_places_one_order() -> None:
    placed = orders_once.OrderPlaced(order="o1", token="t")
    given = scenario(orders_once.wire)
    given().when(orders_once.PlaceOrder(order="o1", token="t")).then(placed)
    given(placed).when(orders_once.PlaceOrder(order="o2", token="t")).then_raises(ValueTakenError)
