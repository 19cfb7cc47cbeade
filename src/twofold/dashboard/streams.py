"""A stream: its events, the state after each, and how two of these differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from twofold.application import Application
from twofold.dashboard.rendering import page, whole_number
from twofold.errors import TwofoldError
from twofold.inspection import StreamState, document_of, stream_state
from twofold.log.codec.unknown import raw_events

PAGE = 100
"""Events on a page."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A place in which two states differ."""

    place: str
    """Such as `items[0].quantity`."""
    before: Any
    after: Any
    """None if it is not there."""


async def show_stream(app: Application, request: Request) -> Response:
    """Show a stream, with the state after the version that is asked for, and what changed since another one."""
    asked = request.query_params
    stream = asked.get("id", "").strip()
    if not stream:
        raise HTTPException(400, "Name a stream: /stream?id=Order-7f3")
    after = _version("after", asked.get("after", "")) or 0
    events = raw_events(await app.store.log.read_stream(stream, after=after, limit=PAGE))
    version, since = (_version(name, asked.get(name, "")) for name in ("version", "since"))
    state, refusal = await _state(app, stream, version)
    earlier = None
    if state is not None:
        since = max(state.version - 1, 0) if since is None else since
        earlier, refusal = await _state(app, stream, since)
    has_next = bool(state and await app.store.log.read_stream(stream, after=state.version, limit=1))
    differences = list(compare(document_of(earlier.state), document_of(state.state))) if state and earlier else []
    return page(
        request, "stream.html", 200 if events or after else 404, title=f"Stream {stream}", stream=stream, events=events,
        state=state, earlier=earlier, differences=differences, refusal=refusal, after=after, has_next=has_next,
        more=events[-1].version if len(events) == PAGE else None,
    )  # fmt: skip


def compare(before: Any, after: Any, place: str = "") -> Iterator[Difference]:
    """Yield the places in which two documents differ, in the order of the first."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from compare(before.get(name), after.get(name), f"{place}.{name}" if place else str(name))
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            old, new = (each[index] if index < len(each) else None for each in (before, after))
            yield from compare(old, new, f"{place}[{index}]")
    elif before != after or type(before) is not type(after):
        yield Difference(place=place or "state", before=before, after=after)


async def _state(app: Application, stream: str, version: int | None) -> tuple[StreamState | None, str]:
    """Return a state, or why there is none."""
    try:
        return await stream_state(app.store, stream, version=version), ""
    except (ValueError, TwofoldError) as error:
        return None, str(error)
    except Exception as error:  # the application's own code folds it
        return None, f"{type(error).__name__}: {error}"


def _version(name: str, text: str) -> int | None:
    if not text:
        return None
    if (version := whole_number(text)) is None:
        raise HTTPException(400, f"`{name}` is the number of events in the stream, got {text!r}")
    return version
