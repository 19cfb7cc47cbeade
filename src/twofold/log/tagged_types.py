"""Which tags the stored events of a type carry: a class that has got another tag does not find its old events by it.

1. The log records for each type which tags all of its events carry, with the field that each is made of.
2. `compare`, when an application starts, refuses a class with a tag that its events in the log lack.
3. `record`, before the first append of a class in this process, compares too, and writes down what holds from now on: a
   class without a tag that the events before it have takes that tag from the record.
4. `add_tags` adds the tags to the old events, and then records them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

from twofold.errors import StorageUnavailableError, TagsMissingError, TwofoldError
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.payload import PayloadCodec
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.maintenance import PortableLog

log = logging.getLogger(__name__)

DeclaredTags = frozenset[tuple[str, str]]
"""The names of tags, each with the field that it is made of."""


class TaggedTypes:
    """Compares the tags that classes declare with those that the stored events of their types carry.

    Args:
        log: where the events are. A log that records nothing of its types is not compared.
        events: the classes.
        options: what is done about tags that old events lack.
    """

    def __init__(self, log: EventLog, events: EventTypes, options: LogOptions) -> None:
        self._log = cast(PortableLog, log)
        self._events = events
        self._options = options
        self._records = hasattr(log, "tagged_types")

    async def compare(self) -> None:
        """Refuse classes with tags that their stored events lack, or warn of them, as the options say.

        Raises:
            TagsMissingError: a class has such a tag.
            StorageError: the database failed.
        """
        if self._records and self._options.changed_tags != "ignore":
            codecs = self._events.codecs
            recorded = await self._log.tagged_types() if codecs else {}
            for codec in codecs:
                await self._compared(codec, recorded)

    async def record(self) -> None:
        """Compare the classes that are about to be appended for the first time, and record what their events carry.

        Raises:
            TagsMissingError, StorageError: as `compare`; nothing was recorded.
        """
        codecs = list(self._events.unrecorded)
        if self._records:
            recorded = await self._log.tagged_types()
            changes: dict[str, str] = {}
            for codec in codecs:
                changes |= await self._compared(codec, recorded)
            if changes:
                await self._record(changes)
        self._events.unrecorded.difference_update(codecs)

    async def _record(self, changes: Mapping[str, str]) -> None:
        """Write down what holds of types; it says the same however often, so a lost connection is no reason to fail."""
        for remaining in reversed(range(self._options.record_attempts)):
            try:
                await self._log.record_tagged_types(changes)
            except StorageUnavailableError:
                if not remaining:
                    raise
            else:
                return

    async def _compared(self, codec: PayloadCodec, recorded: Mapping[str, str]) -> Mapping[str, str]:
        """Return what is to be recorded of a class."""
        declared, changes = codec.tags.declared, {}
        for name in (*codec.names, *codec.stored.sources):
            known = as_tags(recorded[name]) if name in recorded else None
            if declared if known is None else declared - known:
                known = await self._known(codec, name, known)
            lacking = declared - known if known is not None else frozenset()
            if lacking and self._options.changed_tags != "ignore":
                self._complain(name, sorted({tag for tag, _ in lacking}))
            holds = declared - lacking
            if name in self._events.sources:  # others are made of it, too, and may have tags of their own
                holds |= known or frozenset()
            elif given_up := (known or frozenset()) - declared:
                log.warning("events of the type %s no longer carry %s", name, ", ".join(sorted(t for t, _ in given_up)))
            if (known is None or holds != known) and (declared or known):
                changes[name] = as_text(holds)
        return changes

    async def _known(self, codec: PayloadCodec, name: str, known: DeclaredTags | None) -> DeclaredTags | None:
        """Return what the stored events carry, by the record or by the first of them; None if there are none."""
        of_type = EventQuery.exactly(name)
        rows = await self._log.read(of_type, limit=self._options.compared_events if known is None else 1)
        if not rows:
            return None
        if known is not None:
            return known
        await self._events._fetch_keys(rows)
        return frozenset() if any(self._lacks_tags(codec, row) for row in rows) else codec.tags.declared

    def _lacks_tags(self, codec: PayloadCodec, row: StoredEvent) -> bool:
        try:
            own = [each for each in self._events.decode([row]) if type(each.event) is codec.cls]
            return any(not set(codec.tags.of(each.event)) <= set(each.tags) for each in own)
        except TwofoldError:  # what cannot be read is told to those who read it, and holds up no append
            return False

    def _complain(self, name: str, lacking: list[str]) -> None:
        error = TagsMissingError(name, lacking)
        if self._options.changed_tags == "refuse":
            raise error
        log.warning("%s", error)


def as_text(tags: Iterable[tuple[str, str]]) -> str:
    """Return declared tags as the log records them."""
    return msgspec.json.encode(sorted(tags)).decode()


def as_tags(text: str) -> DeclaredTags:
    """Return declared tags from the log's record of them."""
    return frozenset(msgspec.json.decode(text, type=list[tuple[str, str]]))
