"""CQRS and event sourcing for Python: one append-only log, read models folded from it."""

from twofold.aggregate import Aggregate
from twofold.application import Application
from twofold.codec import EventTypes
from twofold.command_bus import CommandBus, CommandHandler
from twofold.consistency import Answer
from twofold.consistent_query import ConsistentQueryHandler
from twofold.context import current_metadata, metadata
from twofold.decider import Decider
from twofold.decision_model import Decision, DecisionModel, combine
from twofold.engines import open_event_store
from twofold.event_query import AppendCondition, EventQuery, QueryItem
from twofold.event_store import EventStore
from twofold.grouped_projection import GroupedProjection
from twofold.handlers import Middleware
from twofold.messages import (
    AwareDatetime,
    Command,
    Event,
    Metadata,
    Query,
    RecordedEvent,
    Tag,
    event_type,
)
from twofold.on import on
from twofold.policy import Policy, WhenLate
from twofold.projection import Projection
from twofold.query_bus import QueryBus, QueryHandler
from twofold.read_model import PaginatedResult, ReadModel
from twofold.receipt import Receipt
from twofold.repository import DeciderHandler, Repository
from twofold.row_type import FullText, Index, Key
from twofold.sql_projection import Reaction, SqlProjection
from twofold.status import ProjectionStatus, State
from twofold.streams import ANY, STREAM_EXISTS
from twofold.subscription import Batch, Subscription
from twofold.synchronizer import ReadModelSynchronizer
from twofold.words import marked_html

__all__ = [
    "ANY",
    "STREAM_EXISTS",
    "Aggregate",
    "Answer",
    "AppendCondition",
    "Application",
    "AwareDatetime",
    "Batch",
    "Command",
    "CommandBus",
    "CommandHandler",
    "ConsistentQueryHandler",
    "Decider",
    "DeciderHandler",
    "Decision",
    "DecisionModel",
    "Event",
    "EventQuery",
    "EventStore",
    "EventTypes",
    "FullText",
    "GroupedProjection",
    "Index",
    "Key",
    "Metadata",
    "Middleware",
    "PaginatedResult",
    "Policy",
    "Projection",
    "ProjectionStatus",
    "Query",
    "QueryBus",
    "QueryHandler",
    "QueryItem",
    "Reaction",
    "ReadModel",
    "ReadModelSynchronizer",
    "Receipt",
    "RecordedEvent",
    "Repository",
    "SqlProjection",
    "State",
    "Subscription",
    "Tag",
    "WhenLate",
    "combine",
    "current_metadata",
    "event_type",
    "marked_html",
    "metadata",
    "on",
    "open_event_store",
]
