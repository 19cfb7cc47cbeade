"""A flipped bit is a named error, whatever field it is in."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from twofold.errors import CorruptEventError
from twofold.messages.stored_event import SEAL_MODULUS, StoredEvent, is_intact, record, seal
from twofold.testing.samples import EVENT_TYPES, new_event

ROW = record(
    new_event("Note-1", "x", text="some text", metadata=b'{"user":"u1"}', event_id=UUID(int=7)),
    position=12_345,
    version=42,
    recorded_at=1_764_000_000_123_456,
)
NUMBERS = ("position", "version", "schema_version", "recorded_at", "checksum")
TEXTS = ("stream_id", "stream_type", "type")
BYTES = ("event_id", "payload", "metadata", "tags")


def flipped(row: StoredEvent, field: str, bit: int) -> StoredEvent:
    """Return the row with one bit of a field flipped, as a disk might."""
    value: Any = getattr(row, field)
    if isinstance(value, int):
        return replace(row, **{field: value ^ (1 << bit % 63)})
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    damaged = raw.decode("latin-1") if isinstance(value, str) else bytes(raw)
    return replace(row, **{field: damaged})


def test_the_fields_of_these_tests_are_all_that_there_are() -> None:
    assert {*NUMBERS, *TEXTS, *BYTES} == set(StoredEvent.__struct_fields__)


@pytest.mark.parametrize("field", StoredEvent.__struct_fields__)
def test_every_flipped_bit_of_every_field_is_noticed(field: str) -> None:
    value = getattr(ROW, field)
    bits = 63 if isinstance(value, int) else 8 * len(value)
    for bit in range(bits):
        damaged = flipped(ROW, field, bit)
        assert not is_intact(damaged), f"bit {bit}"
        with pytest.raises(CorruptEventError) as caught:
            EVENT_TYPES.decode([ROW, damaged])
        assert caught.value.position == damaged.position


@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    place=st.tuples(st.integers(1, 1 << 50), st.integers(0, 1 << 50), st.integers(0, 1 << 52)),
    field=st.sampled_from(StoredEvent.__struct_fields__),
    bit=st.integers(0, 10_000),
)
@settings(deadline=None)
def test_a_flipped_bit_of_any_row_is_noticed(text: str, place: tuple[int, int, int], field: str, bit: int) -> None:
    row = record(new_event("Note-é", "x", text=text), *place)
    assert is_intact(row)
    with pytest.raises(CorruptEventError):
        EVENT_TYPES.decode([flipped(row, field, bit)])


@given(st.integers(0, (1 << 32) - 1), st.integers(1, 1 << 50), st.integers(0, 1 << 50), st.integers(0, 1 << 52))
def test_the_checksum_fits_an_unsigned_32_bit_number(content: int, position: int, version: int, at: int) -> None:
    assert 0 <= seal(content, position, version, at) < 1 << 32


def test_the_modulus_is_prime() -> None:
    assert all(SEAL_MODULUS % divisor for divisor in range(2, 1 << 16))


def test_a_row_at_another_place_is_not_intact() -> None:
    assert not is_intact(replace(ROW, position=ROW.position + 1))
    assert not is_intact(replace(ROW, version=ROW.version - 1))
    assert not is_intact(replace(ROW, payload=ROW.metadata, metadata=ROW.payload))
