"""Folding decision models: reading what matches their queries, behind a known state where that is much.

1. A decision reads the head of the log first: what is appended from there on is not read, and conflicts.
2. It reads the first chunk of what matches. If there is more, it looks for a state that this process has kept, and then
   for a stored snapshot of this query and this fold; of a query that is known to match much, it looks at once.
3. With a kept state, it asks whether tags were added to stored events since, which lets the query match older ones, and
   reads the event again with which the state ends. If either is otherwise, the state is forgotten.
4. It reads what matches behind the state, or else all. If that was much, the new state is kept, and offered to be
   stored.
5. The append's condition covers the whole query, from the head that was read first. So a state that is out of date
   costs a retry, and never leads to a wrong decision.

Within a command, all decisions are made as of one position, and what an attempt has read serves the next one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import msgspec

from twofold.errors import HistoryChangedError
from twofold.log.chunks import Pace, Rows, chunks, pace_of, scan_chunks
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.mutable_fields import copier
from twofold.log.codec.unknown import Decoding, decoder, readable
from twofold.log.folding.decision_model import DecisionModel
from twofold.log.folding.fingerprint import fold_fingerprint, identity_of
from twofold.log.folding.kept_states import DecisionKey, KeptDecision, KeptStates, LastMatch, copy_of
from twofold.log.folding.snapshots import Looked, Plan, Snapshots
from twofold.log.folding.state_form import UnstorableStateError, ValueForm
from twofold.log.unit_of_work import CommandReads, DecisionHistory, current_unit
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.turns import Turns

S = TypeVar("S")


class _Wanted(NamedTuple):
    """What a decision depends on."""

    model: DecisionModel[Any]
    query: EventQuery
    plan: Plan
    """How the states of the model are stored."""
    position: int
    cleared: int | None
    """How often the kept states were dropped when the reading began; None: this one is not to be kept."""

    @property
    def key(self) -> DecisionKey:
        """Under which its state is kept."""
        return self.plan.fingerprint, self.query


class Decisions:
    """Reads what decisions depend on, and folds it.

    Args:
        log: where the events are.
        events: their classes.
        snapshots: finds and stores states.
        options: how the log is read in chunks, and which states are stored.
        kept: the states that the process keeps.
    """

    def __init__(
        self, log: EventLog, events: EventTypes, snapshots: Snapshots, options: LogOptions, kept: KeptStates
    ) -> None:
        self._log = log
        self._events = events
        self._decoding = Decoding(decoder(events))
        self._snapshots = snapshots
        self._options = options
        self._kept = kept
        self._folding: WeakValueDictionary[DecisionKey, Turns] = WeakValueDictionary()
        self._long: OrderedDict[EventQuery, None] = OrderedDict()
        """Queries that are known to match much."""

    async def fold(self, model: DecisionModel[S], query: EventQuery) -> tuple[S, int]:
        """Return the state of a model, and up to which position of the log it was folded.

        Within a command handler that is one position for all decisions, so that one condition covers them; the events
        that the command itself has appended come last.

        Args:
            model: what is folded.
            query: the model's own, in the names that the log has.
        """
        unit, staged = current_unit(), list[RecordedEvent[Any]]()
        if unit is None:
            history, position = await self._read(model, query)
        else:
            history, position = await self._read_within(unit.reads, model, query)
            staged = unit.matching(query)
            if unit.is_open:
                unit.reads.decisions[query, history.owner] = history
        state: S = model.initial_state if history.state is None else history.state()
        return model._folded(state, map(_copied, history.events + staged)), position

    async def fold_as_of(self, model: DecisionModel[S], query: EventQuery, position: int) -> S:
        """Return the state that a model had when the log ended at a position, whatever a command has staged."""
        history, _ = await self._read(model, query, position, is_past=True)
        state: S = model.initial_state if history.state is None else history.state()
        return model._folded(state, map(_copied, history.events))

    async def _read_within(
        self, reads: CommandReads, model: DecisionModel[Any], query: EventQuery
    ) -> tuple[DecisionHistory, int]:
        """Return what a command sees of a model, as of the position of all its decisions."""
        while True:
            if reads.position is not None and (known := self._known(reads, model, query)) is not None:
                return known, reads.position
            history, position = await self._read(model, query, reads.position)
            if reads.as_of(position) == position:  # else another task of the command was first, and has read another
                return history, position

    def _known(self, reads: CommandReads, model: DecisionModel[Any], query: EventQuery) -> DecisionHistory | None:
        """Return what the command has read of a query: all that matches, or what stands behind a state of this fold."""
        if (known := reads.decisions.get((query, b""))) is not None:
            return known
        if any(each == query and owner for each, owner in reads.decisions) and (plan := self._plan(model)):
            return reads.decisions.get((query, plan.fingerprint))
        return None

    async def _read(
        self, model: DecisionModel[Any], query: EventQuery, fixed: int | None = None, *, is_past: bool = False
    ) -> tuple[DecisionHistory, int]:
        """Return what matches up to a position, by default the head of the log, and that position.

        Args:
            model: what is folded.
            query: the model's own, in the names that the log has.
            fixed: the position.
            is_past: whether that is no present decision: no state is kept of it.
        """
        position = await self._log.head() if fixed is None else fixed
        begun: Rows = ()
        if query not in self._long:
            size = self._pace().size
            begun = await self._log.read(query, before=position + 1, limit=size)
            if len(begun) < size:
                return DecisionHistory(await self._decoded(begun)), position
        if (plan := self._plan(model)) is None:
            return DecisionHistory(await self._all(query, position, begun)), position
        await self._events._fetch_keys(())  # no kept state outlives what is forgotten
        wanted = _Wanted(model, query, plan, position, None if is_past else self._kept.cleared)
        if is_past:
            return await self._read_long(wanted), position
        if (found := await self._behind_kept(wanted)) is not None:
            return found, position
        async with self._folding.setdefault(wanted.key, Turns()):  # of those that want it at once, one reads all of it
            if fixed is None:  # what was kept while this one waited may be of a later position
                wanted = wanted._replace(position=await self._log.head())
            return await self._behind_kept(wanted) or await self._read_long(wanted), wanted.position

    async def _behind_kept(self, wanted: _Wanted) -> DecisionHistory | None:
        """Return what matches behind the kept state; None if none is kept that the log of today leads to."""
        kept = self._kept.of_decision(wanted.key)
        if kept is None or kept.last.position > wanted.position:
            return None
        events = None
        if await self._snapshots.tag_changes() == kept.looked.tag_changes:
            events = await self._behind(Mark(kept.last.position - 1), wanted, kept.last)
        if events is None:
            self._kept.forget(wanted.key)
            return None
        history = DecisionHistory(events, wanted.plan.fingerprint, kept)
        return self._kept_if_long(wanted, history, kept.last, kept.looked, kept.unstored)

    async def _read_long(self, wanted: _Wanted) -> DecisionHistory:
        """Return what matches behind the stored snapshot, or else all; and only its state, if that was much.

        It is read from its beginning again: what was read before the look might lack tags that were added since.
        """
        self._remember_long(wanted.query)
        looked = await self._snapshots.find(wanted.plan, _subject(wanted.query))
        stored = looked.state
        if stored is not None and stored.snapshot.position <= wanted.position:
            if (events := await self._behind(stored.snapshot.mark, wanted)) is not None:
                self._snapshots.used()
                found, shot = DecisionHistory(events, wanted.plan.fingerprint, stored), stored.snapshot
                last = LastMatch(shot.position, shot.event_id, shot.event_checksum)
                return self._kept_if_long(wanted, found, last, looked)
            looked = self._snapshots.refuse(looked)
        last = LastMatch(0, b"", 0)
        history = DecisionHistory(await self._all(wanted.query, wanted.position))
        return self._kept_if_long(wanted, history, last, looked)

    def _kept_if_long(
        self, wanted: _Wanted, history: DecisionHistory, last: LastMatch, looked: Looked, unstored: int = 0
    ) -> DecisionHistory:
        """Keep the state that a history leads to, if folding it again would take long; and let it be stored.

        What was found stored is kept in any case: the next decision then need not look for it.

        Args:
            wanted: what is decided on.
            history: what was read.
            last: the last event of the state with which that begins.
            looked: what the look for a stored snapshot has found.
            unstored: events that this state contains, and the newest snapshot that is known does not.

        Returns:
            The kept state alone; the history, if none is kept.
        """
        model, events = wanted.model, history.events
        few = self._options.short_stream if history.state is None else self._options.short_tail
        if len(events) <= few and (history.state is None or isinstance(history.state, KeptDecision)):
            return history
        state = model.initial_state if history.state is None else history.state()
        pickled = copy_of(model._folded(state, map(_copied, events), checked=False))
        if pickled is None:
            return history
        unstored += len(events)
        if events:
            last = _last_of(events[-1].stored)
            if unstored > self._options.snapshot_every:
                self._snapshots.offer(wanted.plan, _subject(wanted.query), events[-1].stored, pickled, looked)
                looked, unstored = looked._replace(useless=None), 0
        kept = KeptDecision(last, pickled, looked._replace(state=None), unstored)
        if looked.tag_changes >= 0 and wanted.cleared == self._kept.cleared:
            self._kept.keep(wanted.key, kept)
        return DecisionHistory([], wanted.plan.fingerprint, kept)

    async def _behind(
        self, place: Mark, wanted: _Wanted, last: LastMatch | None = None
    ) -> list[RecordedEvent[Any]] | None:
        """Return what matches behind a mark; None if it is of another history.

        Args:
            place: the mark.
            wanted: what is decided on.
            last: the event that must come first, and is left out.
        """
        found: list[RecordedEvent[Any]] = []
        chunks_behind = scan_chunks(self._log, wanted.query, place, wanted.position, self._pace())
        try:
            async with aclosing(chunks_behind) as all_chunks:
                async for rows in all_chunks:
                    if last is not None:
                        if not rows or _last_of(rows[0]) != last:
                            return None
                        rows, last = rows[1:], None
                    found += await self._decoded(rows)
        except HistoryChangedError:
            return None
        return found

    async def _all(self, query: EventQuery, position: int, begun: Rows = ()) -> list[RecordedEvent[Any]]:
        """Return all that matches up to a position; the first chunk may have been read already."""

        async def follow(after: int, size: int) -> tuple[Rows, int]:
            rows = await self._log.read(query, after=after, before=position + 1, limit=size)
            return rows, rows[-1].position if rows else after

        found: list[RecordedEvent[Any]] = []
        after = begun[-1].position if begun else 0
        async with aclosing(chunks(follow, after, self._pace(), begun=begun)) as all_chunks:
            async for rows in all_chunks:
                found += await self._decoded(rows)
        return found

    async def _decoded(self, rows: Rows) -> list[RecordedEvent[Any]]:
        events, _, failure = await readable(self._decoding, rows)
        if failure is not None:
            raise failure
        return list(events)

    def _plan(self, model: DecisionModel[Any]) -> Plan | None:
        """Return how the states of a model are stored; None if they are neither stored nor kept."""
        names = sorted({name for item in model.query.items for name in item.types})
        classes = tuple(filter(None, map(self._events.class_of, names)))
        owner = identity_of((model._fold, model.initial_state, model.state_type, classes))
        name = getattr(model.evolve, "__qualname__", type(model.evolve).__qualname__)
        return self._snapshots.plan(owner, f"decision {name}", partial(self._planned, model, name, classes))

    def _planned(self, model: DecisionModel[Any], name: str, classes: Sequence[type]) -> Plan:
        """Work out how the states of a model are stored.

        Raises:
            UnstorableStateError: they cannot be.
        """
        form = ValueForm(name, model.state_type)
        if not all(item.types for item in model.query.items):
            raise UnstorableStateError(
                f"the query of {name} names no types, so that nothing tells whether the classes of its events are what "
                f"they were; name them: EventQuery.of(OrderCreated, …, tags=…)"
            )
        fingerprint = fold_fingerprint([model._fold, partial(_begun, model.initial_state)], form.types, classes)
        return Plan(f"decision {name}", form, fingerprint, is_by_tags=True)

    def _remember_long(self, query: EventQuery) -> None:
        self._long[query] = None
        self._long.move_to_end(query)
        if len(self._long) > self._options.fold_plans:
            self._long.popitem(last=False)

    def _pace(self) -> Pace:
        return pace_of(self._log, self._options)


def _begun(state: S) -> S:
    """Stand in a fingerprint for how a model begins."""
    return state


def _subject(query: EventQuery) -> str:
    """Return what the snapshot of a query is stored under. stored: change it with care."""
    return msgspec.json.encode(query).decode()


def _last_of(row: StoredEvent) -> LastMatch:
    """Return a row as the last event of a state."""
    return LastMatch(row.position, row.event_id, row.checksum)


def _copied(recorded: RecordedEvent[Any]) -> RecordedEvent[Any]:
    """Return an event that an attempt of the command cannot change for the next one."""
    copies = copier(type(recorded.event))
    return recorded if copies is None else RecordedEvent(copies(recorded.event), recorded.stored)
