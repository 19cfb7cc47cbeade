"""Stored snapshots: found when a long fold begins, saved behind it, believed only if nothing has changed.

1. A load that finds a long stream, or a long decision, asks for the snapshot of it (`find`). One that does not match
   its checksum, the fingerprint of today's code or the tags of the log is refused, counted, and later replaced.
2. The load reads on behind the event with which the snapshot ends. If another event stands there, the log has another
   history, and the snapshot is refused, too (`refuse`).
3. What was folded is offered as a copy (`offer`). It holds committed events only, so that a process which dies at any
   moment leaves either the older snapshot or this one.
4. Where there are keys of persons, the state is encrypted with a key that is destroyed whenever one is forgotten.
5. A task beside the loads encodes and saves it. The newest one wins, whichever process saves it; a failure costs
   another fold and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import msgspec

from twofold.errors import StorageError, StorageUnavailableError
from twofold.log.folding.state_form import StateForm, UnstorableStateError
from twofold.log.keys.keyring import KeyRing
from twofold.messages.stored_event import MARKER, StoredEvent
from twofold.options import Backoff, LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.snapshots import Snapshot, SnapshotLog, is_intact, with_checksum
from twofold.tasks import end, supervise
from twofold.telemetry import count_snapshot

log = logging.getLogger(__name__)

_ENCRYPTED = b'{"' + MARKER.encode() + b'":'
"""stored: so begins a state that is encrypted."""


class Plan(NamedTuple):
    """How the states of one fold are stored."""

    name: str
    """Of the fold; stored."""
    form: StateForm
    fingerprint: bytes
    is_by_tags: bool = False
    """Whether the events are found by their tags, so that tags which are added to stored events change the fold."""


MakePlan = Callable[[], Plan]
"""Works out how the states of a fold are stored; raises `UnstorableStateError` if they cannot be."""


class LastEvent(Protocol):
    """The last event that a state contains, by which the history is told that it is of."""

    @property
    def version(self) -> int:
        """Of the stream."""
        ...

    @property
    def event_id(self) -> bytes:
        """Its id."""
        ...

    @property
    def checksum(self) -> int:
        """Its checksum; that of a repeat in another history is another one."""
        ...


class StoredLast(NamedTuple):
    """The last event of a snapshot."""

    version: int
    event_id: bytes
    checksum: int


@dataclass(frozen=True)
class StoredState:
    """A snapshot that matches its checksum, today's code and the tags of the log."""

    snapshot: Snapshot
    form: StateForm
    _decoded: list[Any]
    """The state that was decoded to see whether it can be; the first to ask gets it."""

    @property
    def last(self) -> LastEvent:
        """The last event that it contains."""
        return StoredLast(self.snapshot.version, self.snapshot.event_id, self.snapshot.event_checksum)

    def __call__(self) -> Any:
        """Return the state, a new one each time."""
        return self._decoded.pop() if self._decoded else self.form.decode(self.snapshot.state)


class Looked(NamedTuple):
    """What a look for a snapshot has found; `offer` wants it back."""

    state: StoredState | None
    tag_changes: int
    useless: int | None = None
    """The checksum of a snapshot that was refused."""
    key_id: str = ""
    """Of the key of stored states, before the fold began; a state is saved with that key or not at all."""


class SnapshotStatus(NamedTuple):
    """What became of stored snapshots in this process."""

    used: int = 0
    """A load began with it."""
    saved: int = 0
    refused_code: int = 0
    """The code that folds, the state's type or the classes of events are others."""
    refused_damage: int = 0
    """It does not match its checksum, or cannot be read."""
    refused_history: int = 0
    """Its last event does not stand in the log."""
    refused_tags: int = 0
    """Tags were added to stored events since."""
    refused_forgotten: int = 0
    """A person was forgotten since."""
    failed: int = 0
    """The database failed while one was saved."""
    unstorable: Mapping[str, str] = {}
    """Folds whose states cannot be stored, each with the reason and the remedy."""


def _identity(snapshot: Snapshot) -> bytes:
    """Return what is authenticated beside a state. stored."""
    return f"{snapshot.fold}\0{snapshot.subject}\0{snapshot.position}\0".encode() + snapshot.event_id


class _Offered(NamedTuple):
    plan: Plan
    subject: str
    last: StoredEvent
    pickled: bytes
    looked: Looked


class Snapshots:
    """Finds and saves the stored snapshots of one log.

    Args:
        log: where they are; one that keeps no snapshots goes without.
        options: whether they are stored, and how large and how many.
        keys: of persons, if the states may hold personal data.
    """

    def __init__(self, log: EventLog, options: LogOptions, keys: KeyRing | None = None) -> None:
        self._keys = keys
        self._log = cast(SnapshotLog, log)
        self._options = options
        self._is_on = options.snapshots == "on" and hasattr(log, "find_snapshot")
        self._plans: OrderedDict[Hashable, Plan | None] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._unstorable: dict[str, str] = {}
        self._waiting: OrderedDict[tuple[str, str], _Offered] = OrderedDict()
        self._writer: asyncio.Task[None] | None = None

    def status(self) -> SnapshotStatus:
        """Return what became of stored snapshots in this process."""
        return SnapshotStatus(**self._counts, unstorable=dict(self._unstorable))

    def plan(self, owner: Hashable, name: str, make: MakePlan) -> Plan | None:
        """Return how the states of a fold are stored; None if they are not.

        Args:
            owner: what tells the fold from others.
            name: what it is called, if they cannot be.
            make: works it out, once.
        """
        if not self._is_on:
            return None
        if owner not in self._plans:
            try:
                self._plans[owner] = make()
            except UnstorableStateError as error:
                self._plans[owner] = None
                self._complain(name, error)
            if len(self._plans) > self._options.fold_plans:
                self._plans.popitem(last=False)
        return self._plans[owner]

    def may_hold(self, owner: Hashable) -> bool:
        """Return whether there may be snapshots of a fold: as long as its plan was not asked for, there may."""
        return self._is_on and self._plans.get(owner, owner) is not None

    async def read_short(self, stream_id: str, limit: int) -> Sequence[StoredEvent] | None:
        """Return all of a stream of fewer than `limit` events; None of a longer one, of which a snapshot may be found.

        Raises:
            StorageError: the database failed.
        """
        return await self._log.read_short_stream(stream_id, limit=limit)

    async def tag_changes(self) -> int:
        """Return how often tags were added to stored events.

        Raises:
            StorageError: the database failed.
        """
        return await self._log.tag_changes()

    async def find(self, plan: Plan, subject: str) -> Looked:
        """Look for the snapshot of a subject, and refuse it unless it is of today's code.

        Raises:
            StorageUnavailableError: the database is away.
        """
        key_id = (await self._keys.prepare_states_key())[0] if self._keys is not None else ""
        try:
            snapshot, tag_changes = await self._log.find_snapshot(plan.name, subject)
        except StorageUnavailableError:
            raise
        except StorageError as error:  # the page of a damaged file; the events may well be whole
            log.warning("the snapshot of %s of %r cannot be read: %s", plan.name, subject, error)
            self._count("refused_damage")
            return Looked(None, -1)
        if snapshot is None:
            return Looked(None, tag_changes, key_id=key_id)
        useless, decoded = snapshot.checksum, []
        refusal = self._refusal(snapshot, plan, subject, tag_changes)
        if refusal is None:
            if (state := self.state_of(snapshot)) is None:
                refusal = "refused_forgotten"
            else:
                snapshot = snapshot._replace(state=state)
        if refusal is None:
            try:
                decoded.append(plan.form.decode(snapshot.state))
            except Exception as error:  # msgspec's, or one of a constructor of the user's
                log.warning("the snapshot of %s of %r cannot be read: %s", plan.name, subject, error)
                refusal = "refused_damage"
        if refusal is not None:
            self._count(refusal)
            return Looked(None, tag_changes, useless, key_id)
        return Looked(StoredState(snapshot, plan.form, decoded), tag_changes, key_id=key_id)

    def state_of(self, snapshot: Snapshot) -> bytes | None:
        """Return the state of a snapshot as JSON; None if the key that it was encrypted with is destroyed."""
        if not snapshot.state.startswith(_ENCRYPTED):
            return snapshot.state
        key_id, encrypted = msgspec.json.decode(snapshot.state, type=dict[str, tuple[str, bytes]])[MARKER]
        key = self._keys.find_states_key(key_id) if self._keys is not None else None
        return None if key is None else key.decrypt(encrypted, _identity(snapshot))

    async def _encrypted(self, snapshot: Snapshot, key_id: str) -> Snapshot | None:
        """Return a snapshot with its state encrypted; None if a person was forgotten since the fold began."""
        if self._keys is None:
            return snapshot
        present, key = await self._keys.prepare_states_key()
        if key is None or present != key_id:
            return None
        encrypted = key.encrypt(snapshot.state, _identity(snapshot))
        return snapshot._replace(state=msgspec.json.encode({MARKER: (key_id, encrypted)}))

    def used(self) -> None:
        """Count a snapshot with which a load begins."""
        self._count("used")

    def refuse(self, looked: Looked) -> Looked:
        """Refuse a snapshot whose last event does not stand in the log."""
        self._count("refused_history")
        return looked._replace(state=None, useless=looked.state.snapshot.checksum if looked.state else None)

    def offer(self, plan: Plan, subject: str, last: StoredEvent, pickled: bytes, looked: Looked) -> None:
        """Let a state be saved, soon and beside everything else.

        Args:
            plan: how.
            subject: of what it is.
            last: the last event that it contains.
            pickled: a copy of it.
            looked: what the look for a snapshot has found, before the fold began.
        """
        if looked.tag_changes < 0 or len(pickled) > self._options.snapshot_bytes:
            return
        self._waiting[plan.name, subject] = _Offered(plan, subject, last, pickled, looked)
        while len(self._waiting) > self._options.snapshots_waiting:
            self._waiting.popitem(last=False)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(
                supervise("the writer of snapshots", self._save_all, Backoff()), name="twofold-snapshots"
            )

    async def end(self) -> None:
        """Save what waits, for a few seconds, and end the task that does so."""
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():
            await asyncio.wait([writer], timeout=self._options.snapshots_closing)
            await end(writer)
        self._waiting.clear()

    async def _save_all(self) -> None:
        while self._waiting:
            _, offered = self._waiting.popitem(last=False)
            await asyncio.sleep(0)  # what has folded it goes on first
            await self._save(offered)

    async def _save(self, offered: _Offered) -> None:
        plan, subject, last, pickled, looked = offered
        try:
            state = plan.form.encode(pickle.loads(pickled))  # noqa: S301 - what this process has pickled
        except UnstorableStateError as error:
            self._complain(plan.name, error)
            return
        if len(state) > self._options.snapshot_bytes:
            return
        snapshot = Snapshot(
            plan.name, subject, last.version, last.position, last.event_id, last.checksum, looked.tag_changes,
            plan.fingerprint, state, time.time_ns() // 1000, 0,
        )  # fmt: skip
        try:
            stored = await self._encrypted(snapshot, looked.key_id)
            if stored is not None and await self._log.save_snapshot(with_checksum(stored), instead_of=looked.useless):
                self._count("saved")
        except (StorageError, RuntimeError) as error:  # RuntimeError: the log was closed under a store without an end
            log.info("the snapshot of %s of %r was not saved: %s", plan.name, subject, error)
            self._count("failed")

    def _refusal(self, snapshot: Snapshot, plan: Plan, subject: str, tag_changes: int) -> str | None:
        """Return why a snapshot is not believed."""
        if not is_intact(snapshot) or snapshot[:2] != (plan.name, subject):
            return "refused_damage"
        if snapshot.fingerprint != plan.fingerprint:
            return "refused_code"
        if plan.is_by_tags and snapshot.tag_changes != tag_changes:
            return "refused_tags"
        return None

    def _complain(self, name: str, error: UnstorableStateError) -> None:
        if self._unstorable.get(name) != str(error):
            self._unstorable[name] = str(error)
            log.warning("states of %s are not stored, and each process folds them again: %s", name, error)

    def _count(self, outcome: str) -> None:
        self._counts[outcome] += 1
        count_snapshot(outcome)
