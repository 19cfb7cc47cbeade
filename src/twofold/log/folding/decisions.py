"""Folding decision models: reading what matches their queries, behind a stored snapshot where that is much.

1. A decision reads the head of the log first: what is appended from there on is not read, and conflicts.
2. It reads the first chunk of what matches. If there is more, it looks for a stored snapshot of this query and this
   fold; of a query that is known to match much, it looks at once.
3. It reads what matches behind the snapshot, or else all. If that was much, the state is offered to be stored.
4. The append's condition covers the whole query, from the head that was read first.

Within a command, all decisions are made as of one position, and what an attempt has read serves the next one.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import msgspec

from twofold.errors import HistoryChangedError
from twofold.log.chunks import Pace, Rows, chunks, pace_of, scan_chunks
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.mutable_fields import copier
from twofold.log.codec.unknown import Decoding, decoder, readable
from twofold.log.folding.decision_model import DecisionModel
from twofold.log.folding.fingerprint import fold_fingerprint, identity_of
from twofold.log.folding.kept_states import copy_of
from twofold.log.folding.snapshots import Plan, Snapshots
from twofold.log.folding.state_form import UnstorableStateError, ValueForm
from twofold.log.unit_of_work import CommandReads, DecisionHistory, current_unit
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog

S = TypeVar("S")


class Decisions:
    """Reads what decisions depend on, and folds it.

    Args:
        log: where the events are.
        events: their classes.
        snapshots: finds and stores states.
        options: how the log is read in chunks, and which states are stored.
    """

    def __init__(self, log: EventLog, events: EventTypes, snapshots: Snapshots, options: LogOptions) -> None:
        self._log = log
        self._events = events
        self._decoding = Decoding(decoder(events))
        self._snapshots = snapshots
        self._options = options
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
        unit = current_unit()
        if unit is None:
            position = await self._log.head()
            history, staged = await self._read(model, query, position), list[RecordedEvent[Any]]()
        else:
            reads = unit.reads
            position = reads.as_of(await self._log.head() if reads.position is None else reads.position)
            history = self._known(reads, model, query) or await self._read(model, query, position)
            staged = unit.matching(query)
            if unit.is_open:
                reads.decisions[query, history.owner] = history
        state: S = model.initial_state if history.state is None else history.state()
        return model._folded(state, map(_copied, history.events + staged)), position

    async def fold_as_of(self, model: DecisionModel[S], query: EventQuery, position: int) -> S:
        """Return the state that a model had when the log ended at a position, whatever a command has staged."""
        history = await self._read(model, query, position)
        state: S = model.initial_state if history.state is None else history.state()
        return model._folded(state, map(_copied, history.events))

    def _known(self, reads: CommandReads, model: DecisionModel[Any], query: EventQuery) -> DecisionHistory | None:
        """Return what the command has read of a query: all that matches, or what stands behind a state of this fold."""
        if (known := reads.decisions.get((query, b""))) is not None:
            return known
        if any(each == query and owner for each, owner in reads.decisions) and (plan := self._plan(model)):
            return reads.decisions.get((query, plan.fingerprint))
        return None

    async def _read(self, model: DecisionModel[Any], query: EventQuery, position: int) -> DecisionHistory:
        pace = self._pace()
        begun: Rows = ()
        if query not in self._long:
            begun = await self._log.read(query, before=position + 1, limit=pace.size)
            if len(begun) < pace.size:
                return DecisionHistory(await self._decoded(begun))
        if (plan := self._plan(model)) is None:
            return DecisionHistory(await self._all(query, position, begun))
        return await self._read_long(model, query, position, plan)

    async def _read_long(
        self, model: DecisionModel[Any], query: EventQuery, position: int, plan: Plan
    ) -> DecisionHistory:
        """Return what matches behind the stored snapshot, or else all; and only its state, if that was much.

        It is read from its beginning again: what was read before the look might lack tags that were added since.
        """
        self._remember_long(query)
        subject = _subject(query)
        looked = await self._snapshots.find(plan, subject)
        events, few, state = None, self._options.snapshot_every, looked.state
        if state is not None and state.snapshot.position <= position:
            if (events := await self._behind(state.snapshot.mark, query, position)) is None:
                looked = self._snapshots.refuse(looked)
            else:
                self._snapshots.used()
        if events is None:
            events, few, state = await self._all(query, position), self._options.short_stream, None
        history = DecisionHistory(events, plan.fingerprint if state else b"", state)
        if len(events) <= few:
            return history
        folded = model._folded(state() if state else model.initial_state, map(_copied, events), checked=False)
        if (pickled := copy_of(folded)) is None:
            return history
        self._snapshots.offer(plan, subject, events[-1].stored, pickled, looked)
        return DecisionHistory([], plan.fingerprint, partial(pickle.loads, pickled))

    async def _behind(self, mark: Mark, query: EventQuery, position: int) -> list[RecordedEvent[Any]] | None:
        """Return what matches behind a mark; None if it is of another history."""
        found: list[RecordedEvent[Any]] = []
        try:
            async with aclosing(scan_chunks(self._log, query, mark, position, self._pace())) as all_chunks:
                async for rows in all_chunks:
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
        """Return how the states of a model are stored; None if they are not."""
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


def _copied(recorded: RecordedEvent[Any]) -> RecordedEvent[Any]:
    """Return an event that an attempt of the command cannot change for the next one."""
    copies = copier(type(recorded.event))
    return recorded if copies is None else RecordedEvent(copies(recorded.event), recorded.stored)
