"""CQRS and event sourcing for Python: one append-only log, read models folded from it."""

from twofold.application import Application
from twofold.commands.aggregate import Aggregate
from twofold.commands.bus import CommandBus, CommandHandler
from twofold.commands.decider import Decider
from twofold.commands.repository import DeciderHandler, Repository
from twofold.engines.engine import open_event_store
from twofold.errors import (
    AggregateNotFoundError,
    ArchiveError,
    CheckpointMovedError,
    CommandReusedError,
    ConflictError,
    CorruptEventError,
    DamagedRowError,
    DuplicateEventIdError,
    DuplicateHandlerError,
    ForeignEventError,
    FuturePositionError,
    HandlerNotFoundError,
    HistoryChangedError,
    InvalidCursorError,
    InvalidEventError,
    InvalidFilterError,
    InvalidHandlerError,
    InvalidMessageTypeError,
    InvalidProjectionError,
    InvalidTenantError,
    InvalidTokenError,
    KeyMissingError,
    LeaseLostError,
    LimitExceededError,
    LogFileError,
    LogsDifferError,
    MasterKeyError,
    MissingTableError,
    NewerSchemaError,
    NewerStorageError,
    NotCommittedError,
    NoWorkerError,
    OutcomeUnknownError,
    OwnershipError,
    PastUnknownError,
    ProjectionFailedError,
    ReadModelBuildingError,
    ReadOnlyStorageError,
    RebuildFailedError,
    RepeatedTransactionError,
    RowNotFoundError,
    SegmentsApartError,
    StaleReadError,
    StorageError,
    StorageFullError,
    StorageReplacedError,
    StorageUnavailableError,
    StreamClosedError,
    SubjectForgottenError,
    TenantMissingError,
    TimeLimitError,
    TransactionReusedError,
    TransformFailedError,
    TwofoldError,
    UnitOfWorkError,
    UnknownEventTypeError,
    UnknownFieldError,
    UnknownProjectionError,
    UnreadableEventError,
    UnsafeStorageError,
    ValueTakenError,
    VersionMismatchError,
)
from twofold.log.chunks import Batch
from twofold.log.codec.event_types import EventTypes
from twofold.log.ending.closing import NextStream
from twofold.log.event_store import EventStore
from twofold.log.folding.decision_model import Decision, DecisionModel, combine
from twofold.log.importers.importing import import_events
from twofold.log.keys.master_key import MasterKeys
from twofold.log.moving.fork import fork_log
from twofold.log.moving.plain_event import PlainEvent, SourceEvent, Transform
from twofold.log.moving.report import Moved
from twofold.log.moving.transform import transform_log
from twofold.log.retaining.retention import RetentionApplied, RulePlan, apply_retention, plan_retention
from twofold.log.retaining.rules import RetentionAction, RetentionRule
from twofold.log.staged_receipt import StagedReceipt
from twofold.log.subscription import Subscription
from twofold.log.transfer.exporting import Exported, export_log
from twofold.log.transfer.importing import Imported, import_log
from twofold.log.unique import unique
from twofold.messages.command import Command
from twofold.messages.context import current_metadata, metadata
from twofold.messages.endings import StreamClosed, StreamTombstoned
from twofold.messages.event import AwareDatetime, Event, Metadata, RawEvent, RecordedEvent, Tag, event_type
from twofold.messages.event_methods import on
from twofold.messages.event_query import AppendCondition, EventQuery, QueryItem
from twofold.messages.mark import Mark
from twofold.messages.personal import Personal, Subject, SubjectForgotten
from twofold.messages.position import Position
from twofold.messages.query import Answer, Query
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.messages.receipt import Receipt
from twofold.messages.session import Session, WriteToken, session
from twofold.messages.stream import ANY, NO_STREAM, STREAM_EXISTS
from twofold.messages.upcasting import Into, RetiredType
from twofold.middleware import Middleware
from twofold.options import CommandOptions, LogOptions, Options, QueryOptions
from twofold.ports.full_text import marked_html
from twofold.ports.read_database import Filter, Total
from twofold.privacy.privacy import Privacy
from twofold.privacy.reports import ForgetReport, ForgottenSubject, KnownSubject
from twofold.privacy.sealing import seal_log
from twofold.projections.batch_reaction import BatchReaction
from twofold.projections.grouped import GroupedProjection
from twofold.projections.projection import Projection
from twofold.projections.reaction import Reaction
from twofold.projections.rows.row_type import FullText, Index, Key
from twofold.projections.sql_projection import SqlProjection
from twofold.queries.bus import QueryBus, QueryHandler
from twofold.queries.consistent_query import ConsistentQueryHandler
from twofold.queries.pages import PaginatedResult
from twofold.queries.read_model import ReadModel
from twofold.queries.watch import watch
from twofold.synchronizer.control import ProjectionControl
from twofold.synchronizer.parking import ParkedEvent, SkippedEvent
from twofold.synchronizer.status import ProjectionState, ProjectionStatus
from twofold.synchronizer.synchronizer import ReadModelSynchronizer
from twofold.tenants import all_tenants

__all__ = [
    "ANY",
    "NO_STREAM",
    "STREAM_EXISTS",
    "Aggregate",
    "AggregateNotFoundError",
    "Answer",
    "AppendCondition",
    "Application",
    "ArchiveError",
    "AwareDatetime",
    "Batch",
    "BatchReaction",
    "CheckpointMovedError",
    "Command",
    "CommandBus",
    "CommandHandler",
    "CommandOptions",
    "CommandReusedError",
    "ConflictError",
    "ConsistentQueryHandler",
    "CorruptEventError",
    "DamagedRowError",
    "Decider",
    "DeciderHandler",
    "Decision",
    "DecisionModel",
    "DuplicateEventIdError",
    "DuplicateHandlerError",
    "Event",
    "EventQuery",
    "EventStore",
    "EventTypes",
    "Exported",
    "Filter",
    "ForeignEventError",
    "ForgetReport",
    "ForgottenSubject",
    "FullText",
    "FuturePositionError",
    "GroupedProjection",
    "HandlerNotFoundError",
    "HistoryChangedError",
    "Imported",
    "Index",
    "Into",
    "InvalidCursorError",
    "InvalidEventError",
    "InvalidFilterError",
    "InvalidHandlerError",
    "InvalidMessageTypeError",
    "InvalidProjectionError",
    "InvalidTenantError",
    "InvalidTokenError",
    "Key",
    "KeyMissingError",
    "KnownSubject",
    "LeaseLostError",
    "LimitExceededError",
    "LogFileError",
    "LogOptions",
    "LogsDifferError",
    "Mark",
    "MasterKeyError",
    "MasterKeys",
    "Metadata",
    "Middleware",
    "MissingTableError",
    "Moved",
    "NewerSchemaError",
    "NewerStorageError",
    "NextStream",
    "NoWorkerError",
    "NotCommittedError",
    "Options",
    "OutcomeUnknownError",
    "OwnershipError",
    "PaginatedResult",
    "ParkedEvent",
    "PastUnknownError",
    "Personal",
    "PlainEvent",
    "Position",
    "Privacy",
    "Projection",
    "ProjectionControl",
    "ProjectionFailedError",
    "ProjectionState",
    "ProjectionStatus",
    "Query",
    "QueryBus",
    "QueryHandler",
    "QueryItem",
    "QueryOptions",
    "RawEvent",
    "Reaction",
    "ReadModel",
    "ReadModelBuildingError",
    "ReadModelSynchronizer",
    "ReadOnlyStorageError",
    "ReadPolicy",
    "RebuildFailedError",
    "Receipt",
    "RecordedEvent",
    "RepeatedTransactionError",
    "Repository",
    "RetentionAction",
    "RetentionApplied",
    "RetentionRule",
    "RetiredType",
    "RowNotFoundError",
    "RulePlan",
    "SegmentsApartError",
    "Session",
    "SkippedEvent",
    "SourceEvent",
    "SqlProjection",
    "StagedReceipt",
    "StaleReadError",
    "StorageError",
    "StorageFullError",
    "StorageReplacedError",
    "StorageUnavailableError",
    "StreamClosed",
    "StreamClosedError",
    "StreamTombstoned",
    "Subject",
    "SubjectForgotten",
    "SubjectForgottenError",
    "Subscription",
    "Tag",
    "TenantMissingError",
    "TimeLimitError",
    "Total",
    "TransactionReusedError",
    "Transform",
    "TransformFailedError",
    "TwofoldError",
    "UnitOfWorkError",
    "UnknownEventTypeError",
    "UnknownFieldError",
    "UnknownProjectionError",
    "UnreadableEventError",
    "UnsafeStorageError",
    "ValueTakenError",
    "VersionMismatchError",
    "WhenLate",
    "WriteToken",
    "all_tenants",
    "apply_retention",
    "combine",
    "current_metadata",
    "event_type",
    "export_log",
    "fork_log",
    "import_events",
    "import_log",
    "marked_html",
    "metadata",
    "on",
    "open_event_store",
    "plan_retention",
    "seal_log",
    "session",
    "transform_log",
    "unique",
    "watch",
]
