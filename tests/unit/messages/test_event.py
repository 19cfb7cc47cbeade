from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pydantic
import pytest

from twofold.log.codec.event_types import EventTypes, encode_metadata
from twofold.messages.command import Command
from twofold.messages.event import Event, EventType, Metadata, event_type, event_type_of
from twofold.messages.ids import uuid7
from twofold.messages.stored_event import record


@dataclass(frozen=True, kw_only=True)
class Rename(Command):
    name: str


@dataclass(frozen=True, kw_only=True)
class Renamed(Event):
    name: str


def test_a_command_gets_an_id_and_an_aware_time_by_itself() -> None:
    before = datetime.now(UTC)
    command = Rename(name="new")
    assert command.command_id.version == 7
    assert command.timestamp.utcoffset() == timedelta(0)
    assert before <= command.timestamp <= datetime.now(UTC)


def test_two_commands_have_different_ids_in_the_order_of_their_making() -> None:
    ids = [Rename(name="n").command_id for _ in range(100)]
    assert len(set(ids)) == 100
    assert ids == sorted(ids)


def test_a_command_keeps_the_id_that_it_is_given() -> None:
    command_id = uuid7()
    assert Rename(command_id=command_id, name="n").command_id == command_id


def test_a_command_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Rename(name="n").name = "other"  # type: ignore[misc]


def test_ids_are_real_uuids() -> None:
    assert type(uuid7()) is UUID


def test_a_class_is_stored_under_its_own_name_by_default() -> None:
    assert event_type_of(Renamed) == EventType("Renamed", 1, {}, ())


def test_a_declared_name_does_not_depend_on_the_class() -> None:
    @event_type("person_renamed", aliases=("NameChanged",))
    @dataclass(frozen=True)
    class Anything(Event):
        name: str

    assert event_type_of(Anything) == EventType("person_renamed", 1, {}, ("NameChanged",))


def test_a_subclass_does_not_inherit_the_stored_name() -> None:
    @event_type("person_renamed")
    @dataclass(frozen=True)
    class Parent(Event):
        name: str

    class Child(Parent):
        pass

    assert event_type_of(Child).name == "Child"


@pytest.mark.parametrize("base", [msgspec.Struct, pydantic.BaseModel])
def test_structs_and_pydantic_models_are_declared_alike(base: type) -> None:
    cls = event_type("person_renamed", version=2, upcasters={1: dict})(type("Changed", (base,), {}))
    assert (event_type_of(cls).name, event_type_of(cls).version) == ("person_renamed", 2)


def test_a_dataclass_with_slots_keeps_its_declaration() -> None:
    @dataclass(frozen=True, slots=True)
    @event_type("slotted")
    class Slotted(Event):
        name: str

    assert event_type_of(Slotted).name == "slotted"


@pytest.mark.parametrize(
    ("version", "steps"), [(0, []), (-1, []), (2, []), (1, [1]), (3, [1]), (3, [2]), (3, [1, 2, 3]), (3, [0, 1, 2])]
)
def test_upcasters_lead_from_every_older_version_to_todays_and_nowhere_else(version: int, steps: list[int]) -> None:
    with pytest.raises(ValueError, match="needs upcasters for exactly the versions"):
        event_type("x", version=version, upcasters=dict.fromkeys(steps, dict))


def test_a_recorded_event_shows_its_row() -> None:
    types, event_id, causation = EventTypes(), uuid7(), uuid7()
    metadata = Metadata(causation_id=causation, user="u1", extra={"ip": "::1"})
    new = types.encode(Renamed(name="n"), event_id, "Person-1", "Person", encode_metadata(metadata))
    (recorded,) = types.decode([record(new, 7, 3, 1_700_000_000_123_456)])
    assert recorded.event == Renamed(name="n")
    assert (recorded.position, recorded.version, recorded.event_id) == (7, 3, event_id)
    assert (recorded.stream_id, recorded.stream_type) == ("Person-1", "Person")
    assert (recorded.type, recorded.schema_version, recorded.tags) == ("Renamed", 1, ())
    assert recorded.metadata == metadata
    assert recorded.recorded_at == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert repr(recorded) == "<7: Person-1@3 Renamed(name='n')>"


def test_recorded_events_are_equal_when_their_rows_are() -> None:
    types = EventTypes()
    row = record(types.encode(Renamed(name="n"), uuid7(), "", "", b"{}"), 1, 0, 5)
    first, second = types.decode([row, row])
    assert first == second
    assert hash(first) == hash(second)
    assert first != types.decode([record(types.encode(Renamed(name="n"), uuid7(), "", "", b"{}"), 1, 0, 5)])[0]


def test_metadata_leaves_out_what_is_not_known() -> None:
    assert encode_metadata(Metadata()) == b"{}"
    assert encode_metadata(Metadata(tenant="t")) == b'{"tenant":"t"}'
