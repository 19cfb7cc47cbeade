"""What caused an event and what followed from it, as a tree of commands and events, across streams and processes.

1. From the event, `causation_id` leads up to what caused it, an event or a command, and on to the first one: each step
   is one look-up by an index.
2. All that follows bears the first one's correlation id and stands behind it: from there on the log is walked through
   within the engine, slice by slice. There is no index of correlation ids: it would cost every append, for the few who
   trace. So a trace of yesterday's event costs one day of the log, and ends at the options' limits.
3. `causation_id` and `command_id` say what hangs under what. The steps of processes say which commands they sent, also
   those that were refused or have no effect yet; the records of the others say what they are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from twofold.arguments import check_instance, check_whole
from twofold.errors import EventNotFoundError
from twofold.inspection.searching import EventSearch, Recorded, find_event, portable, search_events
from twofold.log.codec.unknown import raw_events
from twofold.log.event_store import EventStore
from twofold.options import InspectionOptions
from twofold.ports.maintenance import PortableLog
from twofold.processes.steps import STEP, CommandRefused, decode_step


@dataclass(frozen=True, kw_only=True)
class TracedEvent:
    """An event in a trace."""

    event: Recorded
    depth: int
    """How many causes stand above it."""
    cause: UUID | None
    """The id of the event or command right above it."""


@dataclass(frozen=True, kw_only=True)
class TracedCommand:
    """A command in a trace. The events of its decision stand right below it."""

    command_id: UUID
    name: str
    """The stored name of its class; empty if its record was removed, or it has none, as it had no effect."""
    refusal: str
    """Why the domain refused it, as the process that sent it was told; empty if it was not."""
    depth: int
    cause: UUID | None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Where an event comes from and what it led to."""

    of: UUID
    """The id of the event or the command that was asked for; it stands somewhere in the tree."""
    correlation_id: UUID
    """What all of the tree has in common."""
    nodes: Sequence[TracedCommand | TracedEvent]
    """The tree in the order in which it is drawn: each command and event is followed by what it caused, which is one
    deeper. A tree of objects would be as deep as the longest chain, for which Python's stack is too short."""
    is_complete: bool
    """Whether the log was walked through to its end; if not, more may have followed."""


async def trace(store: EventStore, which: int | UUID, *, options: InspectionOptions | None = None) -> Trace:
    """Return what caused an event or a command, and all that followed from it.

    Args:
        store: where they are.
        which: the position or the id of the event, or the id of the command.
        options: how much is looked through at most.

    Raises:
        EventNotFoundError: there is no such event, and no command of this id has taken effect.
        CorruptEventError: an event of the tree does not match its checksum.
        TenantMissingError: there are tenants, and this code does not run on behalf of all.
        StorageError: the database failed.
    """
    if not isinstance(which, UUID):
        check_whole("which", which, 1)
    options = options or InspectionOptions()
    check_instance("options", options, InspectionOptions)
    log = portable(store)
    chain = await _causes(log, await _event_of(store, which))
    first = chain[-1]
    correlation = first.metadata.correlation_id or first.event_id
    search = EventSearch(correlation=correlation, after=first.position - 1)
    found = await search_events(store, search, limit=options.traced, options=options)
    known = {each.event_id: each for each in [*chain, *found.events]}
    tree = _Tree(sorted(known.values(), key=lambda each: each.position))
    for node in tree.unnamed():
        if (command := await log.find_command(node.id.bytes)) is not None:
            node.name = command.record.name
    asked = which if isinstance(which, UUID) else chain[0].event_id
    return Trace(of=asked, correlation_id=correlation, nodes=list(tree.walk(first)), is_complete=found.next is None)


async def _event_of(store: EventStore, which: int | UUID) -> Recorded:
    """Return the event that is meant, or the first one of the command that is."""
    try:
        return await find_event(store, which)
    except EventNotFoundError:
        found = await portable(store).find_command(which.bytes) if isinstance(which, UUID) else None
        if found is None:
            raise
        return raw_events(found.rows[:1])[0]


async def _causes(log: PortableLog, event: Recorded) -> list[Recorded]:
    """Return an event, what caused it, and so on: of a command, the first of its events."""
    chain, seen = [event], {event.event_id}
    while cause := chain[-1].metadata.causation_id:
        rows = await log.find_events([cause.bytes])
        if not rows and (command := await log.find_command(cause.bytes)):
            rows = command.rows[:1]
        if not rows or (found := raw_events(rows)[0]).event_id in seen:
            break  # the command itself, one without a record, or a cause that was set by hand
        seen.add(found.event_id)
        chain.append(found)
    return chain


@dataclass
class _Node:
    """Something in the tree, while it is put together."""

    id: UUID
    parent: UUID | None
    event: Recorded | None = None
    name: str = ""
    refusal: str = ""
    children: list[_Node] = field(default_factory=list)


class _Tree:
    """Events and commands of one correlation, each under what caused it.

    Args:
        events: in the order of their positions.
    """

    def __init__(self, events: Iterable[Recorded]) -> None:
        self._nodes: dict[UUID, _Node] = {}
        for each in events:
            self._add(each)
        for node in self._nodes.values():
            if node.parent is not None and node.parent != node.id and (parent := self._nodes.get(node.parent)):
                parent.children.append(node)

    def unnamed(self) -> list[_Node]:
        """Return the commands that no process has sent."""
        return [node for node in self._nodes.values() if node.event is None and not node.name]

    def walk(self, first: Recorded) -> Iterator[TracedCommand | TracedEvent]:
        """Iterate over the tree that begins with an event, or with the command that it is of."""
        walked = set[UUID]()
        begin = self._nodes[first.metadata.command_id or first.event_id]
        waiting: list[tuple[_Node, int, UUID | None]] = [(begin, 0, None)]
        while waiting:
            node, depth, cause = waiting.pop()
            if node.id in walked:  # causes that were set by hand may go in circles
                continue
            walked.add(node.id)
            yield _traced(node, depth, cause)
            waiting += [(each, depth + 1, node.id) for each in reversed(node.children)]

    def _add(self, recorded: Recorded) -> None:
        known = recorded.metadata
        if (command := known.command_id) is not None:
            self._command(command, known.causation_id)
        self._nodes[recorded.event_id] = _Node(recorded.event_id, command or known.causation_id, recorded)
        if recorded.type == STEP:
            self._add_sent(recorded)

    def _add_sent(self, recorded: Recorded) -> None:
        """Note which commands a step of a process sent, and which it heard to be refused."""
        step = decode_step(recorded.stored.payload)
        for sent in step.sent:
            self._command(sent.command_id, recorded.event_id).name = sent.command
        if isinstance(refused := step.input, CommandRefused):
            self._command(refused.command_id, None).refusal = f"{refused.error}: {refused.reason}"

    def _command(self, command_id: UUID, cause: UUID | None) -> _Node:
        return self._nodes.setdefault(command_id, _Node(command_id, cause))


def _traced(node: _Node, depth: int, cause: UUID | None) -> TracedCommand | TracedEvent:
    if node.event is not None:
        return TracedEvent(event=node.event, depth=depth, cause=cause)
    return TracedCommand(command_id=node.id, name=node.name, refusal=node.refusal, depth=depth, cause=cause)
