"""A file of anchors: one line of JSON for each, in the order of their positions; lines are only ever added."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from twofold.errors import LogFileError
from twofold.log.integrity.chain import Anchor


async def read_anchors(path: Path, *, may_be_absent: bool = False) -> Sequence[Anchor]:
    """Return the anchors in a file; none if there may be no file, and is none.

    Raises:
        LogFileError: a line is no anchor, or their positions do not ascend.
        OSError: the file cannot be read.
    """
    if may_be_absent and not await asyncio.to_thread(path.exists):
        return []
    lines = (await asyncio.to_thread(path.read_bytes)).splitlines()
    anchors = [_anchor(path, line, number) for number, line in enumerate(lines, 1)]
    for number, (before, after) in enumerate(pairwise(anchors), 2):
        if after.position <= before.position:
            raise LogFileError(
                path, f"the anchor at {after.position} does not stand behind that at {before.position}", number
            )
    return anchors


async def append_anchors(path: Path, anchors: AsyncIterator[Anchor]) -> AsyncGenerator[Anchor]:
    """Add anchors to a file, each durably before the next is made, and iterate over them.

    Raises:
        OSError: the file cannot be written.
        Exception: whatever making them raises; those before are kept.
    """
    async for anchor in anchors:
        await asyncio.to_thread(_append, path, msgspec.json.encode(anchor) + b"\n")
        yield anchor


def _append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _anchor(path: Path, line: bytes, number: int) -> Anchor:
    try:
        return msgspec.json.decode(line, type=Anchor)
    except msgspec.DecodeError as error:
        raise LogFileError(path, f"this is no anchor: {error}", number) from None
