"""What an agent may ask of the code of an application: what flows where, what is left over, what events look like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from twofold.checks.explaining import explain
from twofold.inspection import message_flow
from twofold.mcp.answers import fitted
from twofold.mcp.looked_at import LookedAt
from twofold.mcp.running_tools import listed_findings
from twofold.schema import check_file, lock_types

LOCK = "events.lock.json"

About = Annotated[str, Field(description="Only what is linked with this command, event, read model or process.")]
WithLog = Annotated[bool, Field(description="Whether to compare the code with what its databases hold, too.")]
Ignore = Annotated[list[str] | None, Field(description="Codes to leave out, such as TF003, or TF003:OrderPrinted.")]
Name = Annotated[str, Field(description="The stored name of a type of events; by default all are listed.")]
Lock = Annotated[str, Field(description="The file that `twofold schema lock` has written.")]
Code = Annotated[str, Field(description="The code of an error or of a finding, such as TE304 or TF003.")]


class CodeTools:
    """Tools that look at the code of an application."""

    def __init__(self, looked_at: LookedAt) -> None:
        self._looked_at = looked_at

    async def message_flow(self, about: About = "") -> dict[str, Any]:
        """Show how messages flow, as the code says: commands → events → read models, reactions and processes.

        `links` are pairs of ids of `nodes`. `code` says where each is declared.
        """
        app = self._looked_at.app
        found = message_flow(app.commands, app.projections)
        centre = {node.id for node in found.nodes if node.name == about}
        if about and not centre:
            names = ", ".join(sorted({node.name for node in found.nodes}))
            raise ValueError(f"`about`: there is no {about}; there are {names}")
        links = [pair for pair in found.links if not about or centre.intersection(pair)]
        linked = centre.union(*links)
        nodes = [node for node in found.nodes if not about or node.id in linked]
        return {"nodes": fitted(nodes), "links": fitted(links)}

    async def check(self, with_log: WithLog = False, ignore: Ignore = None) -> dict[str, Any]:
        """Find what the code declares and never uses, or uses and never declares. Each finding says what to do."""
        findings = self._looked_at.app.check(ignore=ignore or ())
        if with_log:
            async with self._looked_at.opened() as app:
                findings = findings + await app.check_log(ignore=ignore or ())
        return listed_findings(findings)

    async def event_schemas(self, name: Name = "") -> dict[str, Any]:
        """List the types of events with their versions; with a name, show the JSON Schema, tags and personal fields."""
        types = lock_types(self._looked_at.app.event_types()).types
        if not name:
            return {"types": fitted({each: locked.version for each, locked in types.items()})}
        if name not in types:
            raise ValueError(f"`name`: no class has the stored name {name}; there are {', '.join(types)}")
        return {"name": name, **fitted(types[name])}

    async def check_schema(self, lock: Lock = LOCK) -> dict[str, Any]:
        """Compare the classes of events with their lock: whether they read all that is stored, and older code them."""
        app = self._looked_at.app
        return listed_findings(check_file(app.event_types(), Path(lock), app.store._known_streams))

    async def explain(self, code: Code) -> dict[str, Any]:
        """Explain the code of an error or a finding: what happened, why, and what to do."""
        return {**fitted(explain(code))}
