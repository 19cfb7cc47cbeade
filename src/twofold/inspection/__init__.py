"""Looking into a log and its read models: what the command line and the dashboard show.

All of it reads only, works beside running applications, and is for operators: in an application with tenants it needs
`with twofold.all_tenants(): ...`.
"""

from twofold.inspection.documents import document_of
from twofold.inspection.flow import FlowKind, FlowNode, MessageFlow, message_flow
from twofold.inspection.parked import ParkedGroup, parked_groups
from twofold.inspection.searching import EventSearch, FoundEvents, find_event, follow_events, search_events
from twofold.inspection.states import StreamState, stream_state
from twofold.inspection.tracing import Trace, TracedCommand, TracedEvent, trace
from twofold.log.codec.encrypt import masked

__all__ = [
    "EventSearch",
    "FlowKind",
    "FlowNode",
    "FoundEvents",
    "MessageFlow",
    "ParkedGroup",
    "StreamState",
    "Trace",
    "TracedCommand",
    "TracedEvent",
    "document_of",
    "find_event",
    "follow_events",
    "masked",
    "message_flow",
    "parked_groups",
    "search_events",
    "stream_state",
    "trace",
]
