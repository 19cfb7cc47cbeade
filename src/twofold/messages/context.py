"""Who acts, on behalf of what: the metadata that events get without being passed from hand to hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from twofold.messages.event import Metadata

_current: ContextVar[Metadata] = ContextVar("twofold_metadata")
_NOTHING = Metadata()


def current_metadata() -> Metadata:
    """Return the metadata that an event recorded here and now would get."""
    return _current.get(_NOTHING)


@contextmanager
def metadata(**fields: Any) -> Iterator[Metadata]:
    """Set fields of `Metadata` for all that is recorded within the block, such as `user="ann", tenant="t1"`."""
    inner = msgspec.structs.replace(current_metadata(), **fields)
    token = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(token)
