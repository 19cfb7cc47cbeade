"""Who works on which segment: leases in the checkpoints, dealt out evenly among the workers that are there."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import msgspec

from twofold.ports.checkpoints import LEDGER, SQL, Checkpoint, Generation
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.ports.segments import Segment, bounds

REBUILDING = "rebuild:"
"""An owner that begins so takes a segment out of turn, to bring it to an exact position."""

CHANGING_OVER = REBUILDING + "changing over"
"""Owner of the generation that served until just now: it stands still for as long as readers may still ask it."""

Codes = Collection[tuple[str, int]]
"""Names and versions of projections."""


class Held(NamedTuple):
    """A lease."""

    segment: Segment
    epoch: int
    suffix: str
    """Of the names of its generation's tables."""
    version: int


class Ledger(NamedTuple):
    """All that a database holds on who works on what."""

    generations: Sequence[Generation]
    checkpoints: Sequence[Checkpoint]
    workers: Mapping[str, frozenset[tuple[str, int]]]
    """What each worker that is there has the code of."""


class Turn(NamedTuple):
    """What came of a worker's turn."""

    held: Sequence[Held]
    to_merge: Sequence[tuple[Held, Held]]
    """Neighbours that it holds both and that shall be one."""
    ledger: Ledger
    """What the database held before."""


def new_worker() -> str:
    """Return a name for a worker, which no other and no later one has."""
    return f"{_machine()}:{os.getpid()}:{uuid4().hex[:12]}"


class Leases:
    """Takes, keeps and gives back the segments of one database for one worker.

    A lease is kept by steps and by turns, and a turn keeps only those whose work goes on. Times are the database's. A
    lease ends by itself when its time is over; the epoch, raised by who takes the segment next, makes sure that a
    former holder commits nothing more.
    """

    def __init__(self, database: ReadDatabase, worker: str, codes: Codes, seconds: float) -> None:
        self._database = database
        self._worker = worker
        self._codes = codes
        self._seconds = seconds
        self._time = {"lease": int(seconds * 1e6)}

    async def take_turn(self, working: Collection[Segment]) -> Turn:
        """Show that this worker is there, and bring what it holds in line with its share.

        Args:
            working: the segments that it holds and whose work goes on.

        Raises:
            StorageError: the database failed.
        """
        async with self._database.transaction(idle=self._seconds) as transaction:
            await transaction.lock(LEDGER)
            codes = msgspec.json.encode(sorted(self._codes)).decode()
            await transaction.run(SQL["see_worker"], worker=self._worker, projections=codes, **self._time)
            await transaction.run(SQL["forget_workers"], worker="")
            ledger = await read_ledger(transaction)
            share = shares(ledger).get(self._worker, ())
            held = [
                held for row in ledger.checkpoints if (held := await self._settle(transaction, row, share, working))
            ]
            named = _named(held, ledger.generations)
            return Turn(*await self._reshape(transaction, named, ledger.generations), ledger)

    async def leave(self) -> None:
        """Give everything back."""
        async with self._database.transaction(idle=self._seconds) as transaction:
            await transaction.lock(LEDGER)
            await transaction.run(SQL["give_back_all"], owner=self._worker)
            await transaction.run(SQL["forget_workers"], worker=self._worker)

    async def _settle(
        self, transaction: ReadTransaction, row: Checkpoint, share: Collection[Segment], working: Collection[Segment]
    ) -> tuple[Segment, int] | None:
        """Keep, take or give back one segment; return it with its epoch if it is held afterwards."""
        segment = segment_of(row)
        place = {"name": row.name, "generation": row.generation, "first": row.first, "epoch": row.epoch}
        if row.owner == self._worker:
            if segment not in share:
                await transaction.run(SQL["give_back"], **place)
                return None
            if segment in working:
                await transaction.run(SQL["renew"], **place, **self._time)
            if segment in working or row.is_leased:
                return segment, row.epoch
        if segment in share and (not row.is_leased or is_gone(row.owner)):
            taken = await transaction.run(SQL["lease"], **place, owner=self._worker, **self._time)
            return (segment, taken[0][0]) if taken else None
        return None

    async def _reshape(
        self, transaction: ReadTransaction, held: list[Held], generations: Sequence[Generation]
    ) -> tuple[list[Held], list[tuple[Held, Held]]]:
        """Split what is larger than wanted; name the neighbours that shall be one."""
        wanted = {(each.name, each.number): bounds(each.segments) for each in generations}
        kept: list[Held] = []
        for each in held:
            edges = [edge for edge in wanted[each.segment[:2]] if each.segment.first < edge < each.segment.end]
            kept += await self._split(transaction, each, edges) if edges else [each]
        kept.sort()
        to_merge = [
            (left, right) for left, right in pairwise(kept)
            if left.segment[:2] == right.segment[:2] and left.segment.end == right.segment.first
            and right.segment.first not in wanted[right.segment[:2]]
        ]  # fmt: skip
        return kept, to_merge

    async def _split(self, transaction: ReadTransaction, held: Held, edges: Sequence[int]) -> list[Held]:
        segment, ends = held.segment, [*edges, held.segment.end]
        place = {"name": segment.projection, "generation": segment.generation}
        first = {**place, "first": segment.first, "epoch": held.epoch}
        [(epoch,)] = await transaction.run(SQL["end_segment"], **first, end=edges[0]) or [(0,)]
        if not epoch:
            return []
        for start, end in pairwise(ends):
            await transaction.run(SQL["split_off"], **place, parent=segment.first, first=start, end=end)
        parts = pairwise([segment.first, *ends])
        return [held._replace(segment=segment._replace(first=start, end=end), epoch=epoch) for start, end in parts]


class ApartError(Exception):
    """Two segments do not stand at the same position, or somebody else has one of them."""


async def merge(transaction: ReadTransaction, left: Held, right: Held) -> None:
    """Make one segment of two that stand at the same position. Appends may move both, if they are written inline.

    Raises:
        ApartError: nothing came of it; roll the transaction back.
    """
    await transaction.lock(LEDGER)
    place = {"name": left.segment.projection, "generation": left.segment.generation}
    raised = max(left.epoch, right.epoch) + 1  # no slot ever sees an epoch again
    grown = await transaction.run(  # first, as whoever locks several segments does it in this order
        SQL["annex"], **place, first=left.segment.first, epoch=left.epoch, end=right.segment.end, raised=raised
    )
    rows = await _checkpoints(transaction)
    position = next((row.position for row in rows if segment_of(row)[:3] == left.segment[:3]), 0)
    if not grown or not await transaction.run(
        SQL["remove_segment"], **place, first=right.segment.first, epoch=right.epoch, position=position
    ):
        raise ApartError


async def read_ledger(transaction: ReadTransaction) -> Ledger:
    """Return who works on what."""
    workers = await transaction.run(SQL["workers"])
    return Ledger(
        [Generation(*row) for row in await transaction.run(SQL["generations"])],
        await _checkpoints(transaction),
        {
            worker: frozenset(msgspec.json.decode(codes, type=list[tuple[str, int]]))
            for worker, codes in workers
            if not is_gone(worker)
        },
    )


def shares(ledger: Ledger) -> dict[str, set[Segment]]:
    """Deal all segments out evenly, to workers that have the code. Every worker comes to the same result.

    Segments stay where they are as far as that is even. Neighbours that shall be one go to one worker. A worker whose
    lease ran out although it is there does not move: its segment goes to another one, if there is such.
    """
    dealt: dict[str, set[Segment]] = {worker: set() for worker in ledger.workers}
    generations = {(each.name, each.number): each for each in ledger.generations if not each.paused}
    groups: dict[tuple[str, int, int], list[Checkpoint]] = {}
    for row in ledger.checkpoints:
        if (generation := generations.get((row.name, row.generation))) and not _is_taken_out(row):
            first = max(edge for edge in bounds(generation.segments) if edge <= row.first)
            groups.setdefault((row.name, row.generation, first), []).append(row)
    for (name, number, _), rows in sorted(groups.items()):
        able = [
            worker for worker, codes in ledger.workers.items() if (name, generations[name, number].version) in codes
        ]
        moving = [worker for worker in able if not any(row.owner == worker and not row.is_leased for row in rows)]
        if chosen := moving or able:
            owner = rows[0].owner
            least = min(chosen, key=lambda worker: (len(dealt[worker]), worker != owner, worker))
            dealt[least].update(map(segment_of, rows))
    return dealt


def segment_of(row: Checkpoint) -> Segment:
    """Return the segment that a checkpoint is of."""
    return Segment(row.name, row.generation, row.first, row.end)


def is_gone(owner: str) -> bool:
    """Return whether an owner was a process of this machine that is no more."""
    machine, _, rest = owner.removeprefix(REBUILDING).rpartition(":")[0].rpartition(":")
    if machine != _machine() or not rest.isdecimal():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


async def _checkpoints(transaction: ReadTransaction) -> list[Checkpoint]:
    return [Checkpoint(*row) for row in await transaction.run(SQL["checkpoints"])]


def _named(held: Sequence[tuple[Segment, int]], generations: Sequence[Generation]) -> list[Held]:
    by_number = {(each.name, each.number): each for each in generations}
    return [
        Held(segment, epoch, by_number[segment[:2]].suffix, by_number[segment[:2]].version) for segment, epoch in held
    ]


def _is_taken_out(row: Checkpoint) -> bool:
    return row.owner.startswith(REBUILDING) and row.is_leased and not is_gone(row.owner)


def _machine() -> str:
    """Return what tells this machine, since it was started, from all others; process ids mean something within it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink().name[5:-1]
        return f"{boot[:13]}-{namespace}"
    except OSError:
        return socket.gethostname().replace(":", "-")
