"""Leases: which worker works on which segment.

In each of its rounds, which are one transaction each, a worker

1. takes the lock of the lease table, shows that it is there, and forgets the workers that no longer do;
2. reads the lease table: the generations, their segments with the leases, the workers with what they have the code of;
3. computes how all segments are dealt out; each worker comes to the same result;
4. renews its leases on the segments of its share whose work goes on, gives back the others, and takes those of its
   share that no worker holds: it raises their epoch, so that a former holder commits nothing more;
5. splits what it holds and is to be smaller, and names the neighbours that are to be one segment.

A lease holds from the moment when it was given until its deadline, by the database's clock. When the clock goes back
behind that moment, the lease does not hold: its deadline could be hours away.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from twofold.errors import SegmentsApartError
from twofold.options import SynchronizerOptions
from twofold.ports.checkpoints import LEASE_TABLE, SQL, Checkpoint, Generation
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.ports.segments import Segment, bounds
from twofold.synchronizer import history

TAKEOVER = "takeover:"
"""stored: an owner that begins so has seized a segment, to bring it to an exact position."""

CHANGING_OVER = TAKEOVER + "changing over"
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
    serves: bool = False
    """Whether questions are answered from the generation."""


class LeaseTable(NamedTuple):
    """All that a database holds on which worker works on what."""

    generations: Sequence[Generation]
    checkpoints: Sequence[Checkpoint]
    workers: Mapping[str, frozenset[tuple[str, int]]]
    """What each worker that is there has the code of: names and versions."""


class LeaseRound(NamedTuple):
    """What came of a worker's round."""

    held: Sequence[Held]
    to_merge: Sequence[tuple[Held, Held]]
    """Neighbours that the worker holds both and that shall be one."""
    table: LeaseTable
    """What the database held before."""


def new_worker() -> str:
    """Return a name for a worker, which no other and no later worker has."""
    return f"{_machine()}:{os.getpid()}:{uuid4().hex[:12]}"


class Leases:
    """Takes, renews and gives back the segments of one database for one worker; see the flow at the top.

    Args:
        database: where the read models are.
        worker: its name.
        codes: what it has the code of.
        seconds: for which a lease holds.
        options: which marks of the trails are kept.
    """

    def __init__(
        self,
        database: ReadDatabase,
        worker: str,
        codes: Codes,
        seconds: float,
        options: SynchronizerOptions = SynchronizerOptions(),  # noqa: B008 - it is immutable
    ) -> None:
        self._database = database
        self._worker = worker
        self._codes = codes
        self._seconds = seconds
        self._options = options
        self._time = {"lease": int(seconds * 1e6)}

    async def take_round(self, working: Collection[Segment]) -> LeaseRound:
        """Show that this worker is there, and bring what it holds in line with its share.

        Args:
            working: the segments that it holds and whose work went on since its last round.

        Raises:
            StorageError: the database failed.
        """
        async with self._database.transaction(idle=self._seconds) as transaction:
            await transaction.lock(LEASE_TABLE)
            codes = msgspec.json.encode(sorted(self._codes)).decode()
            await transaction.run(SQL["see_worker"], worker=self._worker, projections=codes, **self._time)
            await transaction.run(SQL["forget_workers"], worker="")
            table = await read_lease_table(transaction)
            share = shares(table).get(self._worker, ())
            await self._renew(transaction, table, {segment for segment in working if segment in share})
            held = [
                held
                for row in table.checkpoints
                if (held := await self._settle(transaction, row, share, working, table.workers))
            ]
            named = _named(held, table.generations)
            await history.remember(transaction)
            return LeaseRound(*await self._reshape(transaction, named, table.generations), table)

    async def leave(self) -> None:
        """Give all leases back.

        Raises:
            StorageError: the database failed; the leases run out.
        """
        async with self._database.transaction(idle=self._seconds) as transaction:
            await transaction.lock(LEASE_TABLE)
            await transaction.run(SQL["give_back_all"], owner=self._worker)
            await history.remember(transaction)
            await history.thin_out(transaction, self._options)
            await transaction.run(SQL["forget_workers"], worker=self._worker)

    async def _renew(self, transaction: ReadTransaction, table: LeaseTable, working: Collection[Segment]) -> None:
        """Renew the leases of what goes on: as a rule that is all that this worker holds, and one statement does it."""
        held = [row for row in table.checkpoints if row.owner == self._worker]
        moving = [row for row in held if segment_of(row) in working]
        if moving and len(moving) == len(held):
            await transaction.run(SQL["renew_all"], owner=self._worker, **self._time)
            return
        for row in moving:
            place = {"name": row.name, "generation": row.generation, "first": row.first, "epoch": row.epoch}
            await transaction.run(SQL["renew"], **place, **self._time)

    async def _settle(
        self,
        transaction: ReadTransaction,
        row: Checkpoint,
        share: Collection[Segment],
        working: Collection[Segment],
        workers: Collection[str],
    ) -> tuple[Segment, int] | None:
        """Keep, take or give back one segment; return it with its epoch if it is held afterwards.

        The lease of one that is kept was renewed before, if its work goes on.
        """
        segment = segment_of(row)
        place = {"name": row.name, "generation": row.generation, "first": row.first, "epoch": row.epoch}
        if row.owner == self._worker:
            if segment not in share:
                await transaction.run(SQL["give_back"], **place)
                return None
            if segment in working or row.is_leased:
                return segment, row.epoch
        if segment in share and (not row.is_leased or is_gone(row.owner)):
            taken = await transaction.run(SQL["lease"], **place, owner=self._worker, **self._time)
            if taken and row.owner in workers and row.leased_at <= row.now:  # its worker is there, and did not go on
                wedged = f"its work did not go on for {self._seconds:g} s; it was begun again"
                await transaction.run(SQL["set_error"], **{**place, "epoch": taken[0][0]}, error=wedged)
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


async def merge(transaction: ReadTransaction, left: Held, right: Held) -> None:
    """Make one segment of two that stand at the same position. Appends may move both, if they are written inline.

    Raises:
        SegmentsApartError: they do not, or another worker has one of them; roll the transaction back.
    """
    await transaction.lock(LEASE_TABLE)
    place = {"name": left.segment.projection, "generation": left.segment.generation}
    raised = max(left.epoch, right.epoch) + 1  # no slot ever sees an epoch again
    grown = await transaction.run(  # first, as all that lock several segments lock them in this order
        SQL["annex"], **place, first=left.segment.first, epoch=left.epoch, end=right.segment.end, raised=raised
    )
    rows = await _checkpoints(transaction)
    position = next((row.position for row in rows if segment_of(row)[:3] == left.segment[:3]), 0)
    if not grown or not await transaction.run(
        SQL["remove_segment"], **place, first=right.segment.first, epoch=right.epoch, position=position
    ):
        raise SegmentsApartError(left.segment.projection)


class Looks:
    """Runs statements that only read, each by itself, so that nothing waits for a writer."""

    def __init__(self, database: ReadDatabase) -> None:
        self._database = database

    async def run(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement; see `ReadDatabase.query`."""
        return await self._database.query(sql, **values)


async def read_lease_table(transaction: ReadTransaction | Looks) -> LeaseTable:
    """Return which worker works on what."""
    workers = await transaction.run(SQL["workers"])
    return LeaseTable(
        [Generation(*row) for row in await transaction.run(SQL["generations"])],
        await _checkpoints(transaction),
        {
            worker: frozenset(msgspec.json.decode(codes, type=list[tuple[str, int]]))
            for worker, codes in workers
            if not is_gone(worker)
        },
    )


def shares(table: LeaseTable) -> dict[str, set[Segment]]:
    """Deal all segments out evenly, to workers that have the code. Every worker comes to the same result.

    Segments stay where they are as far as that is even. Neighbours that shall be one go to one worker. A worker whose
    lease ran out although it is there does not move: its segment goes to another worker, if another has the code.
    """
    dealt: dict[str, set[Segment]] = {worker: set() for worker in table.workers}
    generations = {(each.name, each.number): each for each in table.generations if not each.stands_still}
    groups: dict[tuple[str, int, int], list[Checkpoint]] = {}
    for row in table.checkpoints:
        if (generation := generations.get((row.name, row.generation))) and not _is_seized(row):
            first = max(edge for edge in bounds(generation.segments) if edge <= row.first)
            groups.setdefault((row.name, row.generation, first), []).append(row)
    for (name, number, _), rows in sorted(groups.items()):
        able = [worker for worker, codes in table.workers.items() if (name, generations[name, number].version) in codes]
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
    """Return whether an owner was a process of this machine that has ended."""
    machine, _, rest = owner.removeprefix(TAKEOVER).rpartition(":")[0].rpartition(":")
    if machine != _machine() or not rest.isdecimal():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


async def _checkpoints(transaction: ReadTransaction | Looks) -> list[Checkpoint]:
    return [Checkpoint(*row) for row in await transaction.run(SQL["checkpoints"])]


def _named(held: Sequence[tuple[Segment, int]], generations: Sequence[Generation]) -> list[Held]:
    by_number = {(each.name, each.number): each for each in generations}
    found = [(segment, epoch, by_number[segment[:2]]) for segment, epoch in held]
    return [
        Held(segment, epoch, generation.suffix, generation.version, generation.role == "serving")
        for segment, epoch, generation in found
    ]


def _is_seized(row: Checkpoint) -> bool:
    return row.owner.startswith(TAKEOVER) and row.is_leased and not is_gone(row.owner)


def _machine() -> str:
    """Return what tells this machine, since it was started, from all others; process ids mean something within it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink().name[5:-1]
        return f"{boot[:13]}-{namespace}"
    except OSError:
        return socket.gethostname().replace(":", "-")
