"""Values that can be changed in place, which no two instances, decisions or commands may share."""

from __future__ import annotations

import dataclasses
from collections import deque

import msgspec

_CONTAINERS = (list, dict, set, bytearray, deque)


def is_mutable(value: object) -> bool:
    """Return whether a value can be changed in place, as far as its type tells."""
    if isinstance(value, _CONTAINERS):
        return True
    if isinstance(value, tuple):
        return any(map(is_mutable, value))
    if isinstance(value, type):
        return False
    if isinstance(value, msgspec.Struct):
        return not value.__struct_config__.frozen
    if dataclasses.is_dataclass(value):
        return not getattr(value, "__dataclass_params__").frozen  # noqa: B009 - no stub knows it
    config = getattr(value, "model_config", None)  # of a pydantic model
    return isinstance(config, dict) and not config.get("frozen")
