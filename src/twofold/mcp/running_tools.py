"""What an agent may ask of a running application: where everything stands, what failed, what is wrong beneath it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import msgspec
from pydantic import Field

from twofold.checks.databases import examine_database
from twofold.checks.findings import Finding, facts_of
from twofold.inspection import document_of
from twofold.inspection.parked import parked_by_cause
from twofold.mcp.answers import fitted, listed
from twofold.mcp.looked_at import LookedAt
from twofold.ports.maintenance import PortableLog

MOST = 100
"""Instances, steps or parked events in one answer."""
_SHOWN = ("name", "state", "kind", "version", "position", "behind", "lag", "parked", "problems")
"""What is told of a read model: its segments would be many."""

Projection = Annotated[str, Field(description="The name of a projection, a reaction or a process.")]
Process = Annotated[str, Field(description="The name of a process.")]
Instance = Annotated[str, Field(description="The id of an instance, such as that of an order.")]
State = Literal["", "running", "stuck", "completed", "cancelled"]
InState = Annotated[State, Field(description="Only instances in this state.")]
BehindId = Annotated[str, Field(description="Only instances behind this id.")]
Limit = Annotated[int, Field(ge=1, le=MOST, description="The most to return.")]


class RunningTools:
    """Tools that look at read models, processes and databases of an application."""

    def __init__(self, looked_at: LookedAt) -> None:
        self._looked_at = looked_at

    async def status(self) -> dict[str, Any]:
        """Show where the log, the read models and the processes stand, and what is wrong: begin with this.

        `lag` is in seconds. A read model without `problems` is healthy.
        """
        async with self._looked_at.opened() as app:
            found = await app.status.ask()
        projections = listed(
            "projections", [{name: getattr(each, name) for name in _SHOWN} for each in found.projections]
        )
        processes = listed(
            "processes",
            [{"name": each.name, "counts": each.counts, "problems": each.problems} for each in found.processes],
        )
        left_out = projections["left_out"] + processes["left_out"]
        return {"head": found.head, **projections, **processes, "left_out": left_out}

    async def parked_by_cause(self) -> dict[str, Any]:
        """Show the events that projections, reactions and processes failed on, by kind of error and place in the code.

        One fault of the code often parks thousands: of a projection the first thousand count here, and in `status` all.
        `example` has the traceback of the first. Once the code is mended, a person has them tried again with
        `twofold parked retry`.
        """
        async with self._looked_at.opened() as app:
            groups = await parked_by_cause(app.projections, await app.projections.status())
        return listed("groups", [{"projection": name, **document_of(group)} for name, group in groups])

    async def show_parked(self, projection: Projection, limit: Limit = 20) -> dict[str, Any]:
        """Show the first events that a projection failed on, and those that wait behind them, in order.

        `left_out` is 0 if these are all; of those beyond `limit` it counts one.
        """
        async with self._looked_at.opened() as app:
            parked = await app.projections.control(projection).parked(limit=limit + 1)
        return listed("parked", parked[:limit], len(parked))

    async def list_instances(
        self, process: Process, state: InState = "", after: BehindId = "", limit: Limit = 20
    ) -> dict[str, Any]:
        """Show instances of a process, in the order of their ids: how each stands, what it waits for, why it fails.

        `left_out` is 0 if these are all; of those beyond `limit` it counts one. Pass the last id as `after` to go on.
        """
        async with self._looked_at.opened() as app:
            found = await app.processes.control(process).list(status=state, after=after, limit=limit + 1)
        return listed("instances", found[:limit], len(found))

    async def show_instance(self, process: Process, instance: Instance) -> dict[str, Any]:
        """Show an instance of a process: how it stands, each input that it took in, and what followed from it."""
        async with self._looked_at.opened() as app:
            control = app.processes.control(process)
            found, steps = await control.get(instance), await control.steps(instance, limit=MOST)
        told = [msgspec.json.decode(each.payload) for each in steps]
        return {"instance": fitted(found), **listed("steps", told, found.version)}

    async def doctor(self) -> dict[str, Any]:
        """Examine the database of the log, its role and the machine: settings, privileges, disk, clocks, versions."""
        async with self._looked_at.opened() as app:
            log = cast(PortableLog, app.store.log)
            is_with = getattr(log, "is_with", lambda _: False)
            beside = next(filter(is_with, app.projections.databases), None)
            found = await examine_database(log, database=beside)
        return {"facts": dict(found.facts), **listed_findings(found.findings)}


def listed_findings(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings with what to do about each."""
    return listed("findings", [facts_of(each) for each in findings])
