"""A value that does not fit the protocol fails the append that brings it, and no other of its group."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from twofold.engines.engine import Engine
from twofold.errors import OutcomeUnknownError, StorageError
from twofold.messages.event_query import EventQuery
from twofold.ports.event_log import Append, Appended
from twofold.testing.samples import append_of, new_event


def changed(**values: Any) -> Append:
    return append_of(new_event("Note-1")._replace(**values))


def after_text(append: Append) -> Append:
    """Return an append whose condition has passed its own check, and yet holds what PostgreSQL cannot take."""
    assert append.condition is not None
    msgspec.structs.force_setattr(append.condition, "after", "x")
    return append


BAD = {
    "schema version as text": changed(schema_version="one"),
    "schema version too large": changed(schema_version=2**40),
    "no stream id": changed(stream_id=None),
    "lone surrogate": changed(stream_id="\ud800"),
    "payload as text": changed(payload="{}"),
    "payload missing": changed(payload=None),
    "tags missing": changed(tag_names=None),
    "checksum as text": changed(content_checksum="x"),
    "event id as text": changed(event_id="x" * 16),
    "expected version as text": Append((new_event("Note-2"),), (("Note-2", "1"),)),  # type: ignore[arg-type]
    "expected version missing": Append((new_event("Note-2"), new_event("Note-2")), (("Note-2", None),)),  # type: ignore[arg-type]
    "condition after text": after_text(append_of(new_event("Note-1"), fail_if=EventQuery.all())),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_a_bad_append_fails_alone(engine: Engine, bad: Append) -> None:
    good = [append_of(new_event("Note-1")) for _ in range(20)]
    outcomes = await asyncio.gather(
        *(engine.log.append(each) for each in (*good[:10], bad, *good[10:])), return_exceptions=True
    )
    refused = outcomes.pop(10)
    assert isinstance(refused, Exception)
    assert not isinstance(refused, (OutcomeUnknownError, StorageError))
    assert all(isinstance(outcome, Appended) for outcome in outcomes), outcomes
    assert len(await engine.log.read(EventQuery.all(), limit=100)) == 20
