"""A log in a file whose bytes are flipped while nobody has it open, and the judge of what it answers afterwards."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.errors import CorruptCommandError, CorruptEventError, StorageError, TwofoldError
from twofold.log.verify import verify_log
from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.stored_event import StoredEvent, is_intact
from twofold.options import SqliteOptions
from twofold.ports.event_log import CommandRecord
from twofold.testing.samples import Noted, Revised, append_of, new_command, new_event, topic

STREAMS, TOPICS, APPENDS = 9, 7, 150
NAMED = (StorageError, CorruptEventError, CorruptCommandError)

Answers = dict[str, Sequence[StoredEvent]]


def open_log(path: Path) -> SqliteEventLog:
    return SqliteEventLog(SqliteDatabase(path, options=SqliteOptions(readers=1)))


async def write_log(path: Path, seed: int) -> tuple[Answers, list[CommandRecord]]:
    """Make a log and return what it answers while it is whole."""
    chance, commands = random.Random(seed), []
    log = open_log(path)
    await log.open()
    for n in range(APPENDS):
        commands.append(new_command(result=b'{"number":%d}' % n))
        stream = f"Note-{n % STREAMS}" if n % 4 else ""
        topics = chance.sample([f"t{each}" for each in range(TOPICS)], 2)
        text = "x" * chance.choice((10, 200, 6_000))
        event = new_event(stream, *topics, kind=chance.choice((Noted, Revised)), text=text)
        await log.append(append_of(event, new_event(stream, topics[0]), command=commands[-1]))
    answers = {name: await _ask(log, name) for name in questions()}
    await log.close()
    return answers, commands


def questions() -> list[str]:
    """Return the names of all reads."""
    named = [f"stream Note-{n}" for n in range(STREAMS)] + [f"tag t{n}" for n in range(TOPICS)]
    return ["all", "backwards", "types", "type and tag", *named]


async def _ask(log: SqliteEventLog, name: str) -> Sequence[StoredEvent]:
    kind, _, value = name.partition(" ")
    if kind == "stream":
        return await log.read_stream(value, limit=10_000)
    queries = {
        "types": EventQuery.of(Noted, Revised),
        "type": EventQuery((QueryItem(("Noted",), ("topic:t1",)), QueryItem(("Revised",), ("topic:t2",)))),
        "tag": topic(value),
    }
    return await log.read(queries.get(kind, EventQuery.all()), limit=10_000, backwards=kind == "backwards")


def flip(path: Path, chance: random.Random) -> str:
    """Change one to four bytes of a file, anywhere."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    for at in range(place, min(place + chance.choice((1, 1, 1, 4)), len(content))):
        content[at] ^= chance.choice((1 << chance.randrange(8), chance.randrange(1, 256)))
    path.write_bytes(content)
    return f"at byte {place}"


async def judge_damaged(path: Path, whole: Answers, *, verified: bool = True) -> str:
    """Read everything; every answer is exact or a named error, and what is lacking silently, `verify` finds.

    Args:
        verified: whether a reader verifies the checksums, as every reader of events does.
    """
    log = open_log(path)
    try:
        await log.open()
    except NAMED:
        return "refused to open"
    try:
        return await _judge_open(log, whole, verified)
    finally:
        await log.close()


async def _judge_open(log: SqliteEventLog, whole: Answers, verified: bool) -> str:
    verdicts = {await _judge_answer(log, name, rows, verified) for name, rows in whole.items()}
    if "lacking" in verdicts:
        assert await _verify(log), "events are lacking in an answer, and verify says that the log is whole"
        return "lacking, found by verify"
    return "named error" if "error" in verdicts else "found by verify alone" if await _verify(log) else "harmless"


async def _judge_answer(log: SqliteEventLog, name: str, rows: Sequence[StoredEvent], verified: bool) -> str:
    try:
        found = await _ask(log, name)
        if verified and not all(map(is_intact, found)):
            return "error"  # CorruptEventError, as soon as it is decoded
    except NAMED:
        return "error"
    if found == rows:
        return "exact"
    expected = iter(rows)
    for row in found:  # what is there must be exact and in order, even if something lacks
        assert any(row == other for other in expected), f"{name} is answered with the wrong event {row}"
    return "lacking"


async def _verify(log: SqliteEventLog) -> TwofoldError | None:
    try:
        await verify_log(log)
    except NAMED as error:
        return error
    return None
