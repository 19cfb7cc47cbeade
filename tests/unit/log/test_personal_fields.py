"""Personal fields: how they are declared, what is stored of them, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, ClassVar

import msgspec
import pydantic
import pytest
import pytest_asyncio

from twofold import (
    NO_STREAM,
    Aggregate,
    DecisionModel,
    EventQuery,
    EventStore,
    InvalidEventError,
    InvalidMessageTypeError,
    KeyMissingError,
    LogOptions,
    Options,
    Personal,
    Repository,
    Subject,
    SubjectForgottenError,
    Tag,
    UnreadableEventError,
    event_type,
    on,
    open_event_store,
)
from twofold.engines.engine import connect_keys
from twofold.log.codec.encrypt import key_ids, sealed_of
from twofold.log.codec.event_types import EventTypes
from twofold.messages.ids import uuid7
from twofold.messages.stored_event import StoredEvent

TEXT = 'Ann "\\ü\u2028,"~personal":{"}}'


@dataclass(frozen=True)
class Address:
    street: str
    city: str = ""


@dataclass(frozen=True)
class Street(Address):
    """Would come back as its base."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    customer_id: Annotated[str, Subject(), Tag("customer")]
    name: Annotated[str, Personal()]
    address: Annotated[Address | None, Personal(placeholder=None)] = None
    born: Annotated[date, Personal(placeholder=date(1, 1, 1))] = date(2000, 2, 3)
    plan: str = "basic"


class Moved(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    customer_id: Annotated[str, Subject()]
    new_street: Annotated[str, Personal(placeholder="")]


class Rated(pydantic.BaseModel, frozen=True):
    customer_id: Annotated[int, Subject()]
    comment: Annotated[str, Personal()]
    stars: int


@event_type("Recommended")
@dataclass(frozen=True, kw_only=True)
class Recommended:
    """Two subjects, and a tag that is a digest."""

    customer_id: Annotated[str, Subject()]
    referrer_id: str
    email: Annotated[str, Tag("email"), Personal(blind=True)]
    friend: Annotated[str, Personal(subject="referrer_id")]


SAMPLES = [
    Registered(customer_id="c1", name=TEXT, address=Address("Elm Street 1")),
    Moved(customer_id="c1", new_street="Oak Street 2"),
    Rated(customer_id=1, comment="no good", stars=1),
    Recommended(customer_id="c1", referrer_id="c2", email="ann@example.com", friend="Bob"),
]
PLACEHOLDERS = [
    Registered(customer_id="c1", name="(forgotten)", address=None, born=date(1, 1, 1)),
    Moved(customer_id="c1", new_street=""),
    Rated(customer_id=1, comment="(forgotten)", stars=1),
    Recommended(customer_id="c1", referrer_id="c2", email="(forgotten)", friend="Bob"),
]
SECRETS = [b"Ann", b"Elm", b"2000-02-03", b"Oak", b"no good", b"ann@", b"Bob"]


@pytest_asyncio.fixture
async def store() -> AsyncIterator[EventStore]:
    async with open_event_store("memory://") as store:
        yield store


def forget(store: EventStore, subject: str) -> None:
    assert store.keys is not None
    store.keys.forget(subject, reason="asked", by="test")


async def events(store: EventStore) -> list[Any]:
    return [each.event async for each in store.read()]


def _shows(row: StoredEvent, secret: bytes) -> bool:
    """Return whether a secret stands in a row; in base64, three letters may stand by chance."""
    sealed = sealed_of(row.payload)
    assert sealed.parts
    return any(secret in each for each in (sealed.public, row.tags, *(encrypted for _, encrypted in sealed.parts)))


@pytest.mark.parametrize("copies", [1, 20], ids=["few", "many"])
async def test_what_is_stored_is_read_and_does_not_stand_in_the_log(store: EventStore, copies: int) -> None:
    sent = [each for each in SAMPLES for _ in range(copies)]
    await store.append(sent)
    assert await events(store) == sent
    stored = [each.stored async for each in store.read()]
    found = [(secret, row.payload, row.tags) for row in stored for secret in SECRETS if _shows(row, secret)]
    assert found == []


@pytest.mark.parametrize("number", range(4))
async def test_after_a_forgetting_the_placeholders_are_read(store: EventStore, number: int) -> None:
    await store.append([SAMPLES[number]])
    forget(store, "1" if number == 2 else "c1")
    assert await events(store) == [PLACEHOLDERS[number]]


class Guest(Aggregate):
    """Calls a function while it is folded."""

    name = ""
    between: ClassVar[Callable[[], None]]

    @on(Registered)
    def registered(self, event: Registered) -> None:
        self.name = event.name
        type(self).between()


async def test_a_state_that_is_folded_while_a_person_is_forgotten_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(log=LogOptions(short_stream=2, first_chunk=2))
    async with open_event_store("memory://", options=options) as store:
        sent = [Registered(customer_id="c1", name="Ann")] * 5
        await store.append_events("Guest-1", "Guest", sent, expected_version=0)
        guests = Repository(store, Guest)
        monkeypatch.setattr(Guest, "between", lambda: forget(store, "c1"), raising=False)
        assert (await guests.load("1")).name == "Ann"  # its events were read before
        assert (await guests.load("1")).name == "(forgotten)"


class Between:
    """What happens while a decision is folded."""

    happens: Callable[[], object] = staticmethod(lambda: None)


def last_name(_: str, event: Registered) -> str:
    Between.happens()
    return event.name


async def test_a_decision_that_is_folded_while_a_person_is_forgotten_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = Options(log=LogOptions(short_stream=2, first_chunk=2))
    names = DecisionModel(query=EventQuery.of(Registered), initial_state="", evolve=last_name)
    async with open_event_store("memory://", options=options) as store:
        await store.append([Registered(customer_id=each, name="Ann") for each in ("c1", "c2") * 3])
        for _ in range(2):
            assert (await store.decide(names)).state == "Ann"
        forget(store, "c2")
        assert (await store.decide(names)).state == "(forgotten)", "what was kept is dropped"
        await store.append([Registered(customer_id="c1", name="Ann") for _ in range(20)])
        monkeypatch.setattr(Between, "happens", lambda: forget(store, "c1"))
        assert (await store.decide(names)).state == "Ann"  # its events were read before
        monkeypatch.undo()
        assert (await store.decide(names)).state == "(forgotten)"


async def test_a_second_subject_is_forgotten_apart_from_the_first(store: EventStore) -> None:
    await store.append([SAMPLES[3]])
    forget(store, "c2")
    assert await events(store) == [
        Recommended(customer_id="c1", referrer_id="c2", email="ann@example.com", friend="(forgotten)")
    ]


async def test_both_subjects_may_be_one_person(store: EventStore) -> None:
    both = Recommended(customer_id="c1", referrer_id="c1", email="ann@example.com", friend="Ann")
    await store.append([both])
    assert await events(store) == [both]
    forget(store, "c1")
    [left] = await events(store)
    assert (left.email, left.friend) == ("(forgotten)", "(forgotten)")


async def test_a_blind_tag_finds_its_events_and_shows_no_value(store: EventStore) -> None:
    await store.append([SAMPLES[3]])
    assert store.keys is not None
    tag = f"email:{store.keys.blind('email', 'ann@example.com')}"
    assert [each.tags async for each in store.read(EventQuery.of(Recommended, tags=[tag]))] == [(tag,)]


async def test_a_repeated_append_takes_effect_once(store: EventStore) -> None:
    ids = [uuid7() for _ in SAMPLES]
    first = await store.append(SAMPLES, event_ids=ids)
    again = await store.append(SAMPLES, event_ids=ids)
    assert (first.repeated, again.repeated, again.position) == (False, True, first.position)


async def test_no_new_personal_data_of_a_forgotten_subject_is_stored(store: EventStore) -> None:
    await store.append([SAMPLES[0]])
    forget(store, "c1")
    with pytest.raises(SubjectForgottenError, match="Moved"):
        await store.append([SAMPLES[1]])
    await store.append(PLACEHOLDERS[:2])
    assert len(await events(store)) == 3


async def test_what_is_encrypted_cannot_be_moved_to_another_event(store: EventStore) -> None:
    await store.append([SAMPLES[0]])
    [row] = [each.stored async for each in store.read()]
    decode = store.events.decode_payload
    assert decode(row.type, 1, row.payload, 1, row.event_id)[0].event == SAMPLES[0]
    with pytest.raises(UnreadableEventError, match="belong to another event"):
        decode(row.type, 1, row.payload, 1, uuid7().bytes)
    own, other = key_ids(row.payload)[0], store.keys.key_of("c2")[0]  # type: ignore[union-attr]
    with pytest.raises(UnreadableEventError, match="belong to another event"):
        decode(row.type, 1, row.payload.replace(own.encode(), other.encode()), 1, row.event_id)


async def test_a_key_that_is_not_in_the_store_is_an_error_and_no_placeholder(store: EventStore) -> None:
    await store.append([SAMPLES[0]])
    [row] = [each.stored async for each in store.read()]
    unknown = row.payload.replace(key_ids(row.payload)[0].encode(), b"0" * 32)
    with pytest.raises(KeyMissingError, match="not in the key store"):
        store.events.decode_payload(row.type, 1, unknown, 1, row.event_id)


async def test_texts_show_no_personal_value(store: EventStore) -> None:
    await store.append_events("Customer-1", "Customer", [SAMPLES[0]], expected_version=NO_STREAM)
    [recorded] = [each async for each in store.read()]
    assert repr(recorded) == "<1: Customer-1@1 Registered (personal)>"
    with pytest.raises(InvalidEventError, match="cannot be stored") as failed:
        await store.append([Registered(customer_id="c1", name=3.5)])  # type: ignore[arg-type]
    assert "3.5" not in str(failed.value)
    with pytest.raises(InvalidEventError, match="which is personal") as failed:
        await store.append([Registered(customer_id="c1", name="Ann", address=Street("Elm", "x"))])
    assert "Elm" not in str(failed.value)


async def test_a_user_may_write_what_looks_like_the_format(store: EventStore) -> None:
    @dataclass(frozen=True)
    class Noted:
        text: str
        notes: dict[str, dict[str, str]]

    sent = Noted('{"~personal":{"a":"b"}}', {"~personal": {"key": "value"}})
    await store.append([sent])
    assert await events(store) == [sent]


def _declared(**fields: Any) -> type:
    return dataclass(frozen=True)(type("Declared", (), {"__annotations__": fields}))


@dataclass(frozen=True)
class Within:
    street: Annotated[str, Personal()]


@dataclass(frozen=True)
class Picky:
    id: Annotated[str, Subject()]
    mail: Annotated[str, Personal()]

    def __post_init__(self) -> None:
        if "@" not in self.mail:
            raise ValueError(self.mail)


P, ID = Annotated[str, Personal()], Annotated[str, Subject()]


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"name": P}, r"write Annotated\[str, Subject\(\)\]"),
        ({"a": ID, "b": ID, "name": P}, "several fields"),
        ({"a": ID}, "mark those that are"),
        ({"a": str, "name": Annotated[str, Personal(subject="b")]}, "'b' is no field"),
        ({"a": Annotated[float, Subject()], "name": P}, "none of str, int and UUID"),
        ({"a": Annotated[str, Subject(), Personal()]}, "personal itself"),
        ({"a": ID, "name": Annotated[str, Tag("name"), Personal()]}, "blind=True"),
        ({"a": ID, "name": Annotated[str, Personal(blind=True)]}, "no tag"),
        ({"a": ID, "age": Annotated[int, Personal()]}, "placeholder"),
        ({"a": ID, "name": P | None}, "within another field"),
        (
            {
                "a": ID,
                "names": tuple[P, ...],  # type: ignore[valid-type]
            },
            "within another field",
        ),
        ({"a": ID, "address": Within}, "within another field"),
    ],
)
async def test_what_cannot_work_is_refused_when_it_is_declared(
    store: EventStore, fields: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(InvalidMessageTypeError, match=remedy):
        store.events.register(_declared(**fields))


async def test_without_a_key_store_personal_fields_are_refused() -> None:
    with pytest.raises(InvalidMessageTypeError, match="keys_url="):
        EventTypes().register(Registered)


async def test_an_event_that_could_not_be_read_after_a_forgetting_is_refused(store: EventStore) -> None:
    with pytest.raises(InvalidEventError, match="does not admit the placeholders") as failed:
        await store.append([Picky("c1", "ann@example.com")])
    assert "ann" not in str(failed.value)


async def test_an_event_without_its_subject_is_refused(store: EventStore) -> None:
    cls = _declared(a=Annotated[str | None, Subject()], name=P)
    with pytest.raises(InvalidEventError, match="give the subject"):
        await store.append([cls(None, "Ann")])


async def test_a_personal_value_may_not_be_the_name_of_a_stream(store: EventStore) -> None:
    with pytest.raises(InvalidEventError, match="name of its stream"):
        await store.append_events("Customer-Ann", "Customer", [Moved(customer_id="c1", new_street="Ann")],
                                  expected_version=NO_STREAM)  # fmt: skip


def test_the_file_of_the_log_is_no_place_for_keys() -> None:
    with pytest.raises(ValueError, match="name another file"):
        connect_keys("sqlite:///a.db", "sqlite:///./a.db")
    with pytest.raises(ValueError, match="no place"):
        connect_keys("sqlite:///a.db", None, "x")
