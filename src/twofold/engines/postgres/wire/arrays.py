"""Arrays in PostgreSQL's binary format, many times faster than the driver's general way with lists."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, cast

from psycopg import abc
from psycopg.adapt import Dumper
from psycopg.pq import Format

from twofold.errors import LimitExceededError

BOOL, BYTEA, INT8, INT4, TEXT, JSON, UUID = 16, 17, 20, 23, 25, 114, 2950
_ARRAY_OF = {BYTEA: 1001, INT8: 1016, INT4: 1007, TEXT: 1009, JSON: 199, UUID: 2951}
_NULL = struct.pack("!i", -1)
_HEADER = struct.Struct("!iiIii")
_INT4, _INT8 = struct.Struct("!i"), struct.Struct("!q")
int4_bytes, int8_bytes = _INT4.pack, _INT8.pack
"""Return an integer, a bigint, in the binary format."""
length = lru_cache(4096)(_INT4.pack)
"""Return how long a value is, as it stands in front of it."""


class UnfitError(Exception):
    """A value does not fit the protocol; nothing was sent. Only the caller who brought it is to blame."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        text = f"PostgreSQL cannot store such a value: {error}"
        is_about_range = isinstance(error, ValueError | OverflowError | struct.error)
        self.reason: Exception = LimitExceededError(text) if is_about_range else TypeError(text)
        """What its caller is told."""


class Binary:
    """A value in the binary format of a type, ready to be sent; None is NULL."""

    __slots__ = ("data", "oid")

    def __init__(self, data: bytes | None, oid: int) -> None:
        self.data = data
        self.oid = oid


def int4(value: int | None) -> Binary:
    """Return an integer."""
    return Binary(None if value is None else _INT4.pack(value), INT4)


def int8(value: int) -> Binary:
    """Return a bigint."""
    return Binary(_INT8.pack(value), INT8)


def array(values: Sequence[bytes | None], type: int) -> Binary:
    """Return an array of values whose binary format is their bytes; None is NULL."""
    count, has_null = len(values), None in values
    header = _header(count, type, has_null=has_null)
    if has_null:
        parts = [_NULL if value is None else length(len(value)) + value for value in values]
        return Binary(b"".join([header, *parts]), _ARRAY_OF[type])
    known = cast("Sequence[bytes]", values)
    if count and known.count(known[0]) == count:  # as the names and the metadata of one append often are
        return Binary(header + (length(len(known[0])) + known[0]) * count, _ARRAY_OF[type])
    body = [header] * (2 * count + 1)
    body[1::2] = map(length, map(len, known))
    body[2::2] = known
    return Binary(b"".join(body), _ARRAY_OF[type])


def texts(values: Iterable[str]) -> Binary:
    """Return an array of text."""
    return array(list(map(str.encode, values)), TEXT)


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


def read_integer(data: bytes | None) -> int | None:
    """Return an integer or a bigint that the server sent."""
    return None if data is None else int.from_bytes(data, signed=True)


def read_int4s(data: bytes | None) -> Sequence[int]:
    """Return an array of integer that the server sent; none of them is NULL, and NULL itself is an empty one."""
    count = (len(data or b"") - _HEADER.size) // 8
    return _layout(count, "i").unpack_from(data or b"", _HEADER.size)[1::2] if count > 0 else ()


def read_byteas(data: bytes | None) -> Sequence[bytes]:
    """Return an array of bytea that the server sent; none of them is NULL, and NULL itself is an empty one."""
    values, at = list[bytes](), _HEADER.size
    while data and at < len(data):
        start = at + _INT4.size
        at = start + _INT4.unpack_from(data, at)[0]
        values.append(data[start:at])
    return values


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
    """Sends a `Binary` unchanged."""

    format = Format.BINARY

    def get_key(self, obj: Any, format: Any) -> abc.DumperKey:
        """Tell the driver that each type wants a dumper of its own."""
        return (Binary, cast("type", obj.oid))  # any hashable will do

    def upgrade(self, obj: Any, format: Any) -> BinaryDumper:
        """Return the dumper of the value's type."""
        dumper = BinaryDumper(Binary)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: Any) -> bytes | None:
        """Return the bytes."""
        data: bytes | None = obj.data
        return data
