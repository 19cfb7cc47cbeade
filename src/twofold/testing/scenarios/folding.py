"""Scenarios of keyed and grouped projections: the rows that follow from what has happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Self, TypeVar, Unpack

from twofold.messages.event import RecordedEvent
from twofold.projections.folding import Folded, fold
from twofold.projections.grouped import GroupedProjection
from twofold.projections.keys.lookups import keyed_or_lookups
from twofold.projections.projection import Projection
from twofold.projections.reading.joint_fold import fold_jointly
from twofold.testing.scenarios.history import Scenario, Where, types_of
from twofold.testing.scenarios.report import expect_error, fail, fail_with

__tracebackhide__ = True  # pytest then shows the line of the test

R = TypeVar("R")


class RowsScenario(Scenario, Generic[R]):
    """A projection: `given(OPENED, DEPOSITED).then_row(Balance("a", 3))`.

    It sees its events as a log would give them; those that it does not handle pass it by, as they do in life.
    """

    def __init__(self, projection: Projection[R]) -> None:
        super().__init__(types_of(projection.handles()))
        self._projection = projection
        self._key_of = projection.row_type().key_of

    def when(self, *events: object, **where: Unpack[Where]) -> Self:
        """Let further events be recorded; see `given`."""
        return self._when(self._history.add(events, **where))

    def then_row(self, row: R) -> Self:
        """Expect this row.

        Raises:
            AssertionError: there is none with its key, or another one.
        """
        rows, key = self._rows(), self._key_of(row)
        if key not in rows:
            fail(f"expected a row with the key {key!r}; there are {sorted(rows)}", self._told)
        if rows[key] != row:
            fail_with("another row than expected (-) came of it (+):", self._told, [row], [rows[key]])
        return self

    def then_rows(self, *rows: R) -> Self:
        """Expect these rows and no others, in any order.

        Raises:
            AssertionError: there are others.
        """
        found, expected = self._rows(), {self._key_of(row): row for row in rows}
        if expected != found:
            both = [[rows[key] for key in sorted(rows)] for rows in (expected, found)]
            fail_with("other rows than expected (-) came of it (+):", self._told, *both)
        return self

    def then_no_row(self, *key: Any) -> Self:
        """Expect that there is no row with this key.

        Raises:
            AssertionError: there is one.
        """
        if (row := self._rows().get(key)) is not None:
            fail(f"expected no row with the key {key!r}, but there is {row!r}", self._told)
        return self

    def then_raises(self, error: type[Exception], match: str = "") -> None:
        """Expect that an event of the last `when` fails with an error of this class, whose text matches.

        In an application, such an event is parked, with the later ones of its row.

        Raises:
            AssertionError: it was otherwise.
        """
        rows, raised = self._outcome()
        expect_error(raised, error, match, self._told, f"there are the rows {list(rows.values())}")

    def _rows(self) -> dict[tuple[Any, ...], R]:
        rows, error = self._outcome()
        if error is not None:
            raise error
        return rows

    def _outcome(self) -> tuple[dict[tuple[Any, ...], R], BaseException | None]:
        """Return the rows, and why an event of the last `when` failed; what fails of the past is raised."""
        self._then()
        recorded = self._history.recorded(self._types)
        handled = [each for each in recorded if type(each.event) in self._projection.handles()]
        since = len(recorded) if self._since is None else self._since
        first = recorded[since].position if since < len(recorded) else None
        folded = self._folded(handled)
        for failure in folded.failures:
            if failure.error is not None:
                if first is None or failure.position < first:
                    raise failure.error
                return self._by_key(folded), failure.error
        return self._by_key(folded), None

    def _folded(self, events: Sequence[RecordedEvent[Any]]) -> Folded:
        if self._projection.reads:
            return fold_jointly(self._projection, events)
        return fold(self._projection, {}, keyed_or_lookups(self._projection, events))

    def _by_key(self, folded: Folded) -> dict[tuple[Any, ...], R]:
        kept = [row for row in folded.rows.values() if row is not None]
        if isinstance(self._projection, GroupedProjection):
            kept = [row for group in kept for row in group]
        return {self._key_of(row): row for row in kept}
