"""Rows that need not be read again: those that the last steps of a segment have left."""

from __future__ import annotations

from typing import Any

from twofold.ports.segments import Segment, Step


class RowCache:
    """The rows of a read model as this process has left them, for each segment that it works on.

    Only who holds the epoch of a segment writes its rows, and whatever an operator or another worker does raises it.
    So they are as they were left, as long as the next step begins under the same epoch where the last one ended: at the
    same position, and behind the same event, as a database that is restored may come to that position once more.

    Args:
        capacity: rows of the read model that are kept, at most. Fewer: more rows are read again; more: more memory.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._by_segment: dict[Segment, tuple[tuple[int, int, str, str], dict[Any, Any]]] = {}

    def take(self, step: Step) -> dict[Any, Any]:
        """Return what is known before a step, by key, None for a row that is not there; and keep it no longer.

        Who could not take the step, or does not know whether it was taken, gives nothing back.
        """
        place, rows = self._by_segment.pop(step.segment, ((0, 0, "", ""), {}))
        return rows if place == (step.epoch, step.before, step.before_id, step.held_before) else {}

    def give_back(self, step: Step, rows: dict[Any, Any]) -> None:
        """Keep the rows of a segment as a step that was taken has left them.

        Those of a step on the spot are not kept: nothing would tell them from the rows before it.
        """
        if (step.after, step.held_after) == (step.before, step.held_before):
            return
        if len(rows) + sum(len(known) for _, known in self._by_segment.values()) > self._capacity:
            self._by_segment.clear()
        if len(rows) <= self._capacity:
            self._by_segment[step.segment] = (step.epoch, step.after, step.event_id, step.held_after), rows
