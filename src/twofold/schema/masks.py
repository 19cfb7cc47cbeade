"""Masks for what is personal in the samples of a log: values that say nothing, and that the field still admits.

A mask takes the place of a value. Which one the field admits is found out by reading the event with it: the first of
these that is read is taken.

1. What the lock's JSON Schema of the field names: the first value of an enumeration, the least number.
2. A value of the same form, such as the first day of a year for a date, and a fixed text for all other texts.
3. The same with letters and digits of a text replaced one by one, for a field that asks for a length or a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MASK = "(masked)"
"""What stands in place of a text about a person."""
_FORMS = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*(Z|[+-]\d\d:?\d\d)", "2000-01-01T00:00:00Z"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*", "2000-01-01T00:00:00"),
    (r"\d{4}-\d\d-\d\d", "2000-01-01"),
    (r"\d\d:\d\d(:\d\d(\.\d+)?)?", "00:00:00"),
    (r"-?P[\dDTHMSWY.,]+", "P0D"),
    (r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "00000000-0000-4000-8000-000000000000"),
    (r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", "1"),
    (r"[^@\s]+@[^@\s]+\.[a-z]+", "masked@example.com"),
)
"""Forms of texts, and what stands for one."""

Fits = Callable[[Any], bool]
"""Whether an event is read with a value in the place of a field's own."""


def masked(value: Any, schema: Mapping[str, Any], fits: Fits) -> Any:
    """Return the first mask that a field admits.

    Args:
        value: the field's own.
        schema: the JSON Schema of the field, with `$defs` for what it refers to; empty if none is known.
        fits: tells whether the field admits a mask.

    Raises:
        ValueError: it admits none of them.
    """
    named = [each for each in _of_schema(schema, schema.get("$defs", {})) if each != value]
    for each in (*named, replaced(value, _of_form), replaced(value, _of_shape)):
        if fits(each):
            return each
    raise ValueError("no mask fits")


def replaced(value: Any, text: Callable[[str], str]) -> Any:
    """Return a value of the same shape that says nothing.

    Args:
        value: JSON.
        text: gives what stands for a text.
    """
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return type(value)(0)
    if isinstance(value, list):
        return [replaced(each, text) for each in value]
    return {key: replaced(each, text) for key, each in value.items()}


def _of_form(text: str) -> str:
    return next((mask for form, mask in _FORMS if re.fullmatch(form, text)), MASK)


def _of_shape(text: str) -> str:
    if (mask := _of_form(text)) != MASK and len(mask) == len(text):
        return mask
    shaped = re.sub(r"[^\W\d_]", lambda found: "X" if found[0].isupper() else "x", text)
    return re.sub(r"\d", "0", shaped)


def _of_schema(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[Any]:
    """Iterate over values that the schema of a field names itself."""
    if (reference := schema.get("$ref")) is not None:
        yield from _of_schema(parts.get(str(reference).rpartition("/")[2], {}), parts)
    for each in schema.get("anyOf", ()):
        yield from _of_schema(each, parts)
    yield from schema.get("enum", ())
    if "const" in schema:
        yield schema["const"]
    if "minimum" in schema:
        yield schema["minimum"]
    if "exclusiveMinimum" in schema:
        yield schema["exclusiveMinimum"] + schema.get("multipleOf", 1)
    if "maximum" in schema:
        yield schema["maximum"]
