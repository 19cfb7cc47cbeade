"""Scenarios of handlers: commands and queries of an application in memory, wired as a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, Unpack

from msgspec.structs import replace

from twofold.application import Application
from twofold.log.codec.event_types import EventTypes
from twofold.messages.event import Metadata
from twofold.messages.query import Query
from twofold.messages.tenant_names import own_events
from twofold.ports.event_log import Append, Appended
from twofold.tenants import all_tenants, checked_tenant, current_tenant
from twofold.testing.scenarios.driving import in_own_loop
from twofold.testing.scenarios.history import Entry, History, Scenario, Where, encoded
from twofold.testing.scenarios.outcome import Outcome
from twofold.testing.scenarios.report import Told, fail, fail_with

__tracebackhide__ = True  # pytest then shows the line of the test

PATIENCE = 10.0
"""Seconds that a query waits for its read models. More: a stuck one is told late; less: a busy machine fails tests."""


class HandlerScenario(Scenario):
    """Handlers: `given(DEFINED).when(Subscribe(student="ann", course="maths")).then(SUBSCRIBED)`.

    Each `when` runs in an application of its own in memory. A command is handled without any projection running; a
    query is answered from read models that show all events.

    With tenants, what is given and done is on behalf of one: `with metadata(tenant="acme"):` around it says of which,
    and so does the metadata of what is given.

    Args:
        wire: registers handlers and adds projections, as where the application is made.
        tenants: whether the application keeps tenants apart.
    """

    def __init__(self, wire: Callable[[Application], object], *, tenants: bool = False) -> None:
        super().__init__(EventTypes(), History(by_tenant=tenants))
        self._wire = wire
        self._tenants = tenants

    def given(self, *events: object, **where: Unpack[Where]) -> Self:
        """Return a scenario in which these events have happened, too; see `Scenario.given`.

        Raises:
            TenantMissingError: there are tenants, and none is named.
        """
        told = where.get("metadata", Metadata())
        if self._tenants and events and isinstance(told, Metadata) and told.tenant is None:
            where = {**where, "metadata": replace(told, tenant=current_tenant("what is given"))}
        return super().given(*events, **where)

    def when(self, message: Any) -> HandlerOutcome:
        """Dispatch a command or a query."""

        async def work() -> _Done:
            app = Application("memory://", synchronize=isinstance(message, Query), tenants=self._tenants)
            self._wire(app)
            async with app:
                with all_tenants():
                    for each in self._history.entries:
                        await _append(app, each, tenants=self._tenants)
                return await _dispatch(app, message)

        return HandlerOutcome(self._told._replace(when=[message]), in_own_loop(work))


class HandlerOutcome(Outcome):
    """What came of a command or a query: events, and what its handler has returned, or an error."""

    def __init__(self, told: Told, done: _Done) -> None:
        super().__init__(told, done.events, done.error)
        self._value = done.value

    def then_returns(self, value: object) -> Self:
        """Expect what the handler returns: of a command, or the answer to a query.

        Raises:
            AssertionError: it returned something else, or raised.
        """
        self._claim.close()
        if self._error is not None:
            fail(f"expected {value!r}, but it raised {self._error!r}", self._told, self._error)
        if self._value != value:
            fail_with("something else than expected (-) was returned (+):", self._told, [value], [self._value])
        return self


class _Done(NamedTuple):
    events: Sequence[object] = ()
    value: Any = None
    error: Exception | None = None


async def _dispatch(app: Application, message: Any) -> _Done:
    head = await app.store.head()
    try:
        if isinstance(message, Query):
            return _Done(value=await app.queries.dispatch(message, after=head, timeout=PATIENCE))
        value = await app.commands.dispatch(message)
    except Exception as error:  # the domain's; `then_raises` expects it, the others report it
        return _Done(error=error)
    return _Done([each.event async for each in app.store.read(after=head)], value)


async def _append(app: Application, entry: Entry, *, tenants: bool) -> None:
    """Store an event of the past at the place that the log allots to it, which must be the one that the test says."""
    new = encoded(entry, app.store.events)
    if tenants:
        [new] = own_events(checked_tenant(entry.metadata.tenant or ""), [new])
    stored = await app.store.log.append(Append((new,)))
    if not isinstance(stored, Appended) or (stored.first, stored.version) != (entry.position, entry.version):
        raise ValueError(
            f"the log of an application allots positions and versions by itself: {entry.what!r} got {stored}, and not "
            f"position {entry.position} and version {entry.version}; give all events that stand before it"
        )
