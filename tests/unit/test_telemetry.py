"""Spans for commands and queries, as soon as a provider for them is set, and none before."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import trace

from twofold import Application, Query

spans = []


class Recording(trace.TracerProvider):
    def get_tracer(self, *_, **__):
        return Tracer()


class Tracer(trace.NoOpTracer):
    @contextmanager
    def start_as_current_span(self, name, **_):
        spans.append(name)
        yield trace.INVALID_SPAN


@dataclass(frozen=True)
class Ping:
    pass


@dataclass(frozen=True)
class Ask(Query[int]):
    pass


async def main():
    app = Application("memory://")

    async def pong(command: Ping) -> int:
        return 1

    async def answer(query: Ask) -> int:
        return 2

    app.commands.register(Ping, pong)
    app.queries.register(Ask, answer, reads=[])
    async with app:
        assert await app.commands.dispatch(Ping()) + await app.queries.dispatch(Ask()) == 3
        assert spans == [], spans
        trace.set_tracer_provider(Recording())
        assert await app.commands.dispatch(Ping()) + await app.queries.dispatch(Ask()) == 3
        assert spans == ["handle Ping", "handle Ask"], spans


asyncio.run(main())
"""


def test_commands_and_queries_have_spans_as_soon_as_a_provider_is_set() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
