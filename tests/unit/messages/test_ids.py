"""Tests of the ids of events."""

from __future__ import annotations

from uuid import uuid4, uuid5

from twofold.messages.ids import event_ids_of


def test_the_ids_of_a_commands_events_are_those_of_uuid5() -> None:
    for _ in range(200):
        command_id = uuid4()
        expected = [uuid5(command_id, str(place)).bytes for place in range(8, 12)]
        assert event_ids_of(command_id, range(8, 12)) == expected
