"""How messages flow through the application, as a picture and as a list."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from twofold.application import Application
from twofold.dashboard.pictures import Box, columns
from twofold.dashboard.rendering import link_query, page, root_of
from twofold.inspection import FlowKind, FlowNode, message_flow

_COLUMNS = (
    (FlowKind.COMMAND,),
    (FlowKind.EVENT,),
    (FlowKind.READ_MODEL, FlowKind.REACTION, FlowKind.PROCESS),
)


async def show_flow(app: Application, request: Request) -> Response:
    """Show commands, events, read models, reactions and processes, and what leads to what."""
    flow = message_flow(app.commands, app.projections)
    root = root_of(request)
    boxes = [[_box(node, root) for node in flow.nodes if node.kind in kinds] for kinds in _COLUMNS]
    names = {node.id: node for node in flow.nodes}
    picture = columns("Commands, the events they lead to, and what takes these", boxes, flow.links)
    links = [(names[start], names[end]) for start, end in flow.links]
    return page(request, "flow.html", title="Message flow", flow=flow, picture=picture, links=links)


def _box(node: FlowNode, root: str) -> Box:
    kind = node.kind.value.replace(" ", "-")
    return Box(id=node.id, text=node.name, kind=kind, title=f"{node.kind.value} {node.code}", href=_href(node, root))


def _href(node: FlowNode, root: str) -> str:
    if node.kind is FlowKind.EVENT:
        return f"{root}/events?{link_query({'type': node.name})}"
    if node.kind is FlowKind.PROCESS:
        return f"{root}/processes/{node.name}"
    return f"{root}/projections/{node.name}" if node.kind is not FlowKind.COMMAND else ""
