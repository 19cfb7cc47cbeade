"""Arrays in PostgreSQL's binary format, many times faster than the driver's general way with lists."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, cast

from psycopg import abc
from psycopg.adapt import Dumper
from psycopg.pq import Format

BYTEA, INT8, INT4, TEXT, JSON, UUID = 17, 20, 23, 25, 114, 2950
_ARRAY_OF = {BYTEA: 1001, INT8: 1016, INT4: 1007, TEXT: 1009, JSON: 199, UUID: 2951}
_LENGTH = [struct.pack("!i", length) for length in range(4096)]
_NULL = struct.pack("!i", -1)
_HEADER = struct.Struct("!iiIii")


class Binary:
    """A value in the binary format of a type, ready to be sent."""

    __slots__ = ("data", "oid")

    def __init__(self, data: bytes, oid: int) -> None:
        self.data = data
        self.oid = oid


def scalar(data: bytes, type: int) -> Binary:
    """Return a value whose binary format is its bytes: text, json, bytea, uuid."""
    return Binary(data, type)


def array(values: Sequence[bytes | None], type: int) -> Binary:
    """Return an array of values whose binary format is their bytes; None is NULL."""
    parts = [_header(len(values), type, has_null=None in values)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            length = len(value)
            parts.append(_LENGTH[length] if length < 4096 else struct.pack("!i", length))
            parts.append(value)
    return Binary(b"".join(parts), _ARRAY_OF[type])


def texts(values: Iterable[str]) -> Binary:
    """Return an array of text."""
    return array([value.encode() for value in values], TEXT)


def int4s(values: Sequence[int]) -> Binary:
    """Return an array of integer."""
    return _integers(values, INT4, 4, "i")


def nullable_int4s(values: Sequence[int | None]) -> Binary:
    """Return an array of integer in which None is NULL."""
    if None not in values:
        return int4s(cast("Sequence[int]", values))
    return array([None if value is None else struct.pack("!i", value) for value in values], INT4)


def int8s(values: Sequence[int]) -> Binary:
    """Return an array of bigint."""
    return _integers(values, INT8, 8, "q")


def _integers(values: Sequence[int], type: int, size: int, code: str) -> Binary:
    flat = [size] * (2 * len(values))
    flat[1::2] = values
    return Binary(_header(len(values), type) + _layout(len(values), code).pack(*flat), _ARRAY_OF[type])


@lru_cache(256)
def _layout(count: int, code: str) -> struct.Struct:
    return struct.Struct("!" + f"i{code}" * count)


def _header(count: int, type: int, *, has_null: bool = False) -> bytes:
    return _HEADER.pack(1, has_null, type, count, 1) if count else struct.pack("!iiI", 0, 0, type)


class BinaryDumper(Dumper):
    """Sends a `Binary` as it is."""

    format = Format.BINARY

    def get_key(self, obj: Any, format: Any) -> abc.DumperKey:
        """Tell the driver that each type wants a dumper of its own."""
        return (Binary, cast("type", obj.oid))  # any hashable will do

    def upgrade(self, obj: Any, format: Any) -> BinaryDumper:
        """Return the dumper of the value's type."""
        dumper = BinaryDumper(Binary)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: Any) -> bytes:
        """Return the bytes."""
        data: bytes = obj.data
        return data
