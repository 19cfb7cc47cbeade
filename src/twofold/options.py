"""All that can be tuned, in one place: one frozen class for each machine, passed in where the machine is made.

`Application(url, options=Options(synchronizer=SynchronizerOptions(lease=30)))`. The defaults are what was measured;
each field says its unit and what gets worse when it is raised or lowered.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, cast, get_type_hints

from twofold.arguments import check_choice, check_instance, check_number, check_text, check_whole


def _check(options: Any) -> None:
    """Refuse options that cannot work, as soon as they are made.

    Raises:
        TypeError, ValueError: one is of another type than its default, is negative, or none of the choices.
    """
    hints = _hints(type(options))  # type: ignore[arg-type]  # mypy takes no class for hashable
    for each in fields(options):
        name, value, hint = f"{type(options).__name__}.{each.name}", getattr(options, each.name), hints[each.name]
        if hint is int:
            check_whole(name, value)
        elif hint is float:
            check_number(name, value)
        elif hint is str:
            check_text(name, value, may_be_empty=True)
        elif is_dataclass(hint):
            check_instance(name, value, cast(type, hint))
        else:
            check_choice(name, value, hint)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Pauses between the tries of what fails again and again: each twice as long as the one before."""

    first: float = 0.1
    """Seconds after the first failure. Lower, and a fault that lasts costs more work in vain; higher, and a fault that
    is over at once delays more."""
    last: float = 30.0
    """Seconds, at most. Higher, and what stood still takes longer to notice that the fault is over."""

    def __post_init__(self) -> None:
        _check(self)

    def pause(self, failures: int) -> float:
        """Return the seconds after that number of failures in a row."""
        return float(min(self.first * 2 ** min(failures - 1, 30), self.last))


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """Event store, subscriptions and everything that reads the log in chunks."""

    max_events: int = 100_000
    """Events of one append, at most. What is larger keeps all other appends waiting for longer."""
    max_bytes: int = 64 * 1024 * 1024
    """Bytes of payload in one append of several events, at most. What is larger keeps all others waiting, and in memory
    it takes several times as much."""
    encoded_at_once: int = 250
    """Events of one append up to which they are encoded in one go. More: the event loop stands still for longer; fewer:
    appends of several events take a little longer."""
    first_chunk: int = 100
    """Events of the first chunk, whose size tells how many the next may have. Fewer: more round trips at the beginning;
    more: large events are read in too large a chunk once."""
    chunk: int = 250
    """The most events of a chunk where events are read one by one. Fewer: more round trips; more: a chunk does not fit
    into the processor's cache."""
    first_batch: int = 4
    """Events of the first batch of a projection, with the same effect as `first_chunk`."""
    subscription_batch: int = 1000
    """The most events of a subscription's batch, unless the subscriber says otherwise. More: more memory."""
    whole_log_chunk: int = 2000
    """The most events of a chunk where a whole log is verified or copied. More: more memory."""
    remembered_streams: int = 200_000
    """Streams whose versions are remembered while a log is verified. More: more memory, about 100 bytes for each;
    fewer: the event before is read for more events."""
    anchored_every: int = 10_000
    """Events behind which an anchor is made, besides the one at the head. More: a forged event is found among more
    events; fewer: more lines in the file of anchors."""
    chunk_bytes: int = 16 << 20
    """Bytes of payload of a chunk, about: where events are large, a chunk has fewer. More: more memory."""
    file_part: int = 2 << 20
    """Bytes of a file that are imported in one transaction, about. Fewer: more commits; more: more memory."""
    parquet_rows: int = 50_000
    """Rows of a file of Parquet. Fewer: more files, which are larger together; more: more memory, and an interrupted
    export writes more of them again."""
    shared_chunk: int = 10_000
    """The most events of a chunk that several readers share, and the positions within which they are near each other.
    More: more memory; fewer: those who stand apart read the log more often."""
    shared_chunks: int = 3
    """Chunks that are kept for readers behind the first. More: more memory; fewer: readers that stand apart read the
    log more often."""
    poll: float = 30.0
    """Seconds after which a waiting subscription reads by itself, should every signal have failed. Less: more reads;
    more: a lost signal, or a log that was restored, is noticed later."""
    kept_states: int = 32 << 20
    """Bytes of the states of long streams and decisions that a process keeps. Fewer: they are folded again more
    often."""
    short_stream: int = 250
    """Events of a stream or a decision that is folded each time: its state is not kept. More: a load takes longer;
    fewer: more states are kept that bring little."""
    short_tail: int = 16
    """Events behind a kept state that are folded each time. More: a load takes longer; fewer: a new state is kept
    more often."""
    snapshots: Literal["on", "off"] = "on"
    """Whether states of which more than `short_stream` events were folded are stored in the database, too. `off`: each
    new process folds each long stream once, and each decision all events of its query."""
    snapshot_every: int = 50
    """Events behind a stored state from which on a newer one is stored. More: the first load in a process takes longer;
    fewer: more is written."""
    snapshot_bytes: int = 1 << 20
    """Bytes of a state that is stored, at most. More: storing it keeps the event loop for longer, about 10 ms for each
    megabyte; fewer: large states are folded again."""
    snapshots_waiting: int = 100
    """States that wait for their turn to be stored, at most; the oldest are dropped. More: more memory; fewer: some
    long streams are folded again in a new process."""
    fold_plans: int = 1000
    """Folds of which it is remembered how their states are stored: more than an application has, but for decision
    models that close over values. More: more memory; fewer: fingerprints are taken again."""
    snapshots_closing: float = 5.0
    """Seconds for which an application that stops goes on storing what waits. Less: a process that lives for one
    command only may never store a state; more: a stop takes longer while the database is slow."""
    commands_kept: float = 90 * 86_400.0
    """Seconds for which the records of commands are kept; then the processes that run the projections remove them, and
    so does `prune_commands`, unless told otherwise. Less: a command that is sent again so late no longer gets the first
    value; more: the records take more room."""
    prunes_commands: Literal["on", "off"] = "on"
    """Whether the processes that run the projections remove old records of commands by themselves. `off`: records are
    kept until `twofold commands prune` removes them, and take more room with each command."""
    pruned_every: float = 86_400.0
    """Seconds from one pass of a process through the records to its next, about. Less: more reads; more: records are
    kept that much longer than `commands_kept`."""
    pruning_share: float = 0.05
    """The part of the time that a pass keeps the database busy, at most: above 0 and up to 1. More: other writes wait
    more often; less: a pass through many records takes longer."""
    pruned_at_once: int = 1000
    """Records of commands that one transaction looks at, to remove the old ones. More: other writes wait for longer;
    fewer: it takes longer as a whole."""
    archive: str = ""
    """The folder of the archive, into which retention moves payloads of closed streams. Empty: the one that the
    environment names as `TWOFOLD_ARCHIVE`; else, for a SQLite log, a folder beside its file: `orders.db-archive`. All
    processes that read the log need the same."""
    archived_bytes: int = 64 << 20
    """Bytes of payload of a file of the archive, about, if it has not `parquet_rows` before. Fewer: more files; more:
    more memory while it is written."""
    ended_at_once: int = 50
    """Streams that retention ends in one append. More: other appends wait for longer; fewer: commands that depend on
    an event query are decided again more often, once for each append that tombstones streams."""
    removed_at_once: int = 500
    """Events of tombstoned streams that one transaction removes. More: other writes wait for longer; fewer: it takes
    longer as a whole."""
    believed: float = 1.0
    """Seconds for which a position is believed to be of the log's history without a look. Less: more reads; more: a
    receipt from before the log was restored is refused later."""
    own_positions: int = 256
    """Appends of this process whose positions are believed without a look. Fewer: under load, more positions are looked
    up; more: more memory."""
    compared_positions: int = 10_000
    """Positions that are remembered as compared with the log. Fewer: more are looked up again; more: more memory."""
    lag_events: int = 500
    """Events that are read to find the oldest one of a segment, by which its lag is measured. Fewer: a lag is
    overstated; more: `status()` reads more of a log that a segment is far behind."""
    changed_tags: Literal["refuse", "warn", "ignore"] = "refuse"
    """What to do about a class of events with a tag that its stored events lack, so that rules by it do not know them.

    `refuse` raises `TagsMissingError` at the start and at the first append, `warn` logs it.
    """
    compared_events: int = 100
    """The first events of a type of which nothing is recorded, whose tags are compared with those of its class. Fewer:
    an event without a tag that comes later is overlooked; more: the first start on such a log takes longer."""
    record_attempts: int = 10
    """How often it is tried to record which tags the events of a class carry, should connections be lost or events be
    appended in between. More: the first append waits longer for a database that is away; fewer: it fails where the next
    attempt would not."""
    first_pause: float = 0.1
    """Seconds before a subscription tries again to reach a database that is away; each pause is twice as long as the
    one before. Less: more connections to a server that starts; more: events arrive later after a short outage."""
    last_pause: float = 5.0
    """Seconds of such a pause, at most. Less: more connections to a server that is away; more: events arrive later
    when it is back."""

    def __post_init__(self) -> None:
        _check(self)
        if not 0 < self.pruning_share <= 1:
            raise ValueError(
                f"`LogOptions.pruning_share` is a part of the time, above 0 and up to 1: {self.pruning_share}"
            )


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """Command bus: attempts and waiting after conflicts."""

    attempts: int = 100
    """How often a command is tried that learns what was in the way. With fewer, a command on a contested stream fails
    with `ConflictError`; with more, one that never gets its turn holds its caller for longer."""
    blind_attempts: int = 20
    """The same for a command that conflicts on what it has not read, and so learns nothing from the conflict."""
    remembered: int = 10_000
    """Commands of which a process remembers that it has sent them to the log: a repeat is looked up before its handler
    runs. Raised, the ids take more memory; lowered, more repeats load, decide and append before they are found out."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class QueryOptions:
    """Query bus, read models, and waiting for consistency."""

    lookup: float = 1.0
    """Seconds after which a read model looks up again which generation serves.

    Raised: a process notices a rebuild later. It must stay below `GRACE_OF_PREVIOUS`. Lowered: more look-ups.
    """
    unready_lookup: float = 0.05
    """The same while no generation serves. Raised: the first answers come later. Lowered: more look-ups."""
    poll: float = 1.0
    """Seconds after which a waiting query looks at the checkpoint, should the signal that it moved have been lost.

    Raised: a lost signal costs more. Lowered: more look-ups while queries wait.
    """
    alignment: float = 0.05
    """Seconds for which a page waits until all segments of its read model stand at one position.

    Raised: pages of a read model that is divided come later while it is written. Lowered: more of them show single rows
    beyond their `position`.
    """
    overlay_events: int = 10_000
    """Events that an overlay looks through, at most, for those of its row. Raised: it takes more memory and time."""
    as_of_events: int = 100_000
    """Events that are looked through for one row as of an earlier moment, at most. Raised: such a question may take
    longer, about a second for the default. Lowered: rows whose keys are in no tags are refused in smaller logs."""
    replication: float = 30.0
    """Seconds that a replica may take to show a read model that was prepared on its primary. Less: a start beside a
    slow replica fails; more: one beside a replica that stands still fails later."""
    unindexed: Literal["warn", "refuse", "ignore"] = "warn"
    """What to do about a filter or a sort by a field without `Index`, where the database has indexes.

    `warn` logs it once for each field, `refuse` raises `UnknownFieldError`.
    """
    marked: int = 200_000
    """Characters of one page in which words are marked, at most; the rest stays unmarked.

    Raised: a page of long texts takes a thread for longer, about half a second for the default.
    """
    shared_events: int = 2000
    """The newest events whose types and tags are kept for all watchers, and the most that are read at once. Raised:
    more memory. Lowered: watchers of a busy log look without need."""
    shared_for: float = 1.0
    """Seconds for which an answer is kept for the other watchers of its moment. Raised: answers take more memory.
    Lowered: watchers that are late look for themselves."""
    cursor: int = 8192
    """Characters of a cursor, at most. Raised: a forged one takes more time to refuse. Lowered: pages that are sorted
    by long texts have no next page."""
    beats: int = 8
    """Parts of a watcher's patience, to one of which the end of its wait is rounded down, so that several end together.
    Raised: a thousand watchers who wait in vain wake the process more often. Lowered: more of them are served at one
    moment, and the first heartbeat of each may come much too early."""
    watch_poll: float = 5.0
    """Seconds after which the read models of watchers are compared with the log though nothing moved. Raised: a watcher
    learns later that another generation answers, if no event tells. Lowered: watchers at rest cost more."""
    watch_pause: float = 0.05
    """Seconds between two answers to one watcher, at least. Raised: changes show later. Lowered: more queries."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class FoldOptions:
    """Folding events into rows: how long at a time, and what appends fold that they have not brought themselves."""

    slice: float = 0.025
    """Seconds of folding before other tasks may run. Raised, they wait longer; lowered, the fold takes longer."""
    pause: float = 0.002
    """Seconds that other tasks get between two slices. Raised, the fold takes longer; at 0 each task gets one step."""
    commit_after: float = 1.0
    """Seconds of folding before what was folded is committed. Raised, rows of slow code appear later; lowered, there
    are more commits."""
    sql_events: int = 1000
    """Events that a projection by SQL takes at once, at most: each is a statement at least, and all must fit well into
    a lease. Raised, a step of slow statements may not; lowered, there are more commits."""
    sql_pause: float = 0.025
    """Seconds between two transactions of slow SQL, at most: SQLite's other writers look about as often whether they
    may write. Raised, the projection is slower; lowered, others come to write later."""
    found_rows: int = 20_000
    """Rows that the events of a batch find by what they hold, at most; only a single event may find more. Raised,
    batches of such events take more memory; lowered, there are more commits."""
    missing: int = 1000
    """Events of other processes that an append folds into an inline projection along with its own, at most. Raised,
    such appends take longer; lowered, more is left to the worker."""
    first_missing: int = 100
    """The same, before the projection has folded its first event, which tells how long it takes for one."""
    missing_time: float = 0.05
    """Seconds that an append may spend on events of other processes. Raised, appends wait behind slow projections;
    lowered, more is left to the worker."""
    segment_looks: int = 5
    """How often an append looks the segments up while others flip or divide the read model. Raised, it waits longer;
    lowered, more is left to the worker."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class SynchronizerOptions:
    """Workers, leases, steps, retries, rebuilds."""

    folding: FoldOptions = FoldOptions()
    """How long folds take at a time."""

    lease: float = 10.0
    """Seconds for which a segment stays with a worker whose work does not go on. Lower, and a short freeze moves
    segments to other workers; higher, and the segments of a dead worker on another machine rest for longer."""
    time_limit: float = 30.0
    """Seconds that one step may take; until then its worker keeps the segment. Higher, and a step that hangs is noticed
    later; lower, and a step that is only slow is given up and tried again. A reaction has a `time_limit` of its own."""
    backoff: Backoff = Backoff()
    """Pauses of whatever fails: a segment, a worker, the preparation. Workers that fail pause for a third of the lease
    at most, as they would lose their segments otherwise."""
    far_behind: int = 5000
    """Positions behind the head from which on a read model holds tenants back that flood it, in an application with
    tenants. Higher, and the others wait longer behind a flood; lower, and a short burst is folded with more steps."""
    flood_share: float = 0.25
    """The part of the events of a batch that floods a read model, if it is one tenant's. Higher, and several tenants
    that flood it at once are let through; lower, and tenants are held back that only have many events."""
    most_held_back: int = 8
    """Tenants that one segment holds back at once, at most. Higher, and their state, which each step stores, is longer;
    lower, and more floods at once are not held back."""
    retries: int = 3
    """Tries of an event that fails, after the first, before it is parked. Higher, and the rest of the segment waits
    longer behind an event that always fails; lower, and a short disturbance parks events."""
    idle_save: float = 0.25
    """Seconds between two saves of a checkpoint that moves only over events which the projection does not handle.
    Lower, and more is written for nothing; higher, and other processes wait longer for such a read model."""
    gathering: float = 0.01
    """Seconds for which events gather before a step while many come one after the other and no query waits for the
    read model. Higher, and other processes see a busy one later; lower, and steps take more of the processor."""
    gathered: int = 5
    """Events that must come in that time to be worth it. Higher, and a log must be busier before its events gather;
    lower, and events gather that come almost alone."""
    behind_appends: float = 0.25
    """Seconds for which an inline projection that is near the head is left to the appends. Lower, and the worker and
    the appends compete for it more often; higher, and what other processes appended waits longer."""
    near_head: int = 1000
    """Positions behind the head up to which an inline projection is near it. Higher, and what the appends cannot bring
    in waits longer; lower, and the worker competes with them."""
    shared_within: int = 1000
    """Positions behind the head up to which the segments of one process read the log together. Higher, and a projection
    that handles few events reads more that it does not need; lower, and each reads a burst of events by itself."""
    retried_at_once: int = 1000
    """Parked events that are retried in one transaction, at most. Higher, and that transaction takes longer."""
    merged_within: int = 1000
    """Positions that two segments may be apart to be made one. Higher, and the work of both rests for longer while one
    catches up to the other; lower, and two segments of a busy log may never come close enough."""
    finished_within: int = 5000
    """Positions behind the head from which on a new generation is verified and takes over. Higher, and the verification
    begins with more left to do; lower, and a busy log may keep ahead of it."""
    build_segments: int = 8
    """Segments in which a new generation is built, at most, if there are as many workers. Higher, and a rebuild takes
    more from the database; lower, and it takes longer."""
    turn_while_building: float = 0.25
    """Seconds between two rounds of a worker while a new generation is being built. Lower, and the database is asked
    more often; higher, and a rebuild ends that much later."""
    verification_limit: float = 3600.0
    """Seconds that one part of the verification of a new generation may take. Higher, and one that hangs is noticed
    later; lower, and a large read model can never be verified."""
    roll_backs: int = 8
    """Tries of a roll-back while others take the segments. Lower, and it is refused sooner."""
    unattended: float = 30.0
    """Seconds without work on a segment after which that is a fault, unless the projection's `max_lag` is shorter."""
    look: float = 0.1
    """Seconds between two looks at a rebuild whose progress is followed. Raised, it is shown later; lowered, the
    database is asked more often."""
    sample_draws: int = 10
    """Places in a new generation at which rows are compared with a fresh fold of the log, the first among them. Raised,
    the verification reads more; lowered, a fault in a part of the rows is more likely missed."""
    drawn_rows: int = 10
    """Rows at each place, with the same effect."""
    recent_marks: int = 10_000
    """Positions behind the last mark of a consumer's trail within which all marks are kept. Raised: longer trails.
    Lowered: the consumer is set back further after a restore, and handles more events again."""
    compared_marks: int = 100_000
    """Marks of a trail that are compared with the log, at most, the latest first. Lowered: a shared one may be missed.
    Raised: a consumer without any takes longer to be told so.
    """
    coarse_marks: int = 10_000
    """Positions of which one mark is kept further back. Lowered: longer trails. Raised: the consumer is set back
    further."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """Processes: their inputs, the commands that they send, and their timers."""

    folding: FoldOptions = FoldOptions()
    """How long folds take at a time."""

    batch: int = 250
    """Inputs that are stored in one transaction, at most. Higher, and appends wait longer for it; lower, and there are
    more transactions."""
    ready: int = 2500
    """Commands that wait in memory for their turn, at most; the others wait in the rows. Higher, and they take more
    memory; lower, and the rows are read more often."""
    commands_at_once: int = 100
    """Commands of different instances that a segment carries out at one time. Higher, and they contend more with each
    other; lower, and slow ones hold up the rest."""
    time_limit: float = 60.0
    """Seconds that a command may take; then it is cancelled and tried again. Higher, and one that hangs is noticed
    later; lower, and one that is only slow never ends."""
    backoff: Backoff = Backoff(first=0.25, last=60.0)
    """Pauses between the tries of a command or a timer that fails."""
    retries: int = 3
    """Tries of a timer or an outcome on which a handler of the process fails, after the first, before the instance is
    stuck. Higher, and it is noticed later that it needs help; lower, and a short disturbance makes it stuck."""
    poll: float = 1.0
    """Seconds between two looks for what is due, apart from what this process knows of. Lower, and the database is
    asked more often; higher, and what an operator lets go on waits longer."""
    instances_kept: int = 10_000
    """Instances whose states are kept in memory. Higher, and they take more of it; lower, and more are folded again."""
    late: float = 60.0
    """Seconds that a timer may be late before that is a fault, unless the process has a `max_lag`. Lower, and a busy
    hour is reported as a fault; higher, and a real one is reported later."""
    ended_kept: float = 90 * 86_400.0
    """Seconds for which the rows of instances that have ended are kept; then the processes that run the projections
    remove them, unless told otherwise, and the streams stay. Lower, and lists show ended instances for a shorter time;
    higher, and the rows take more room."""
    prunes_ended: Literal["on", "off"] = "on"
    """Whether the rows of ended instances are removed by themselves. `off`: they are kept until `twofold processes
    prune` removes them, and take more room with each instance."""
    pruned_every: float = 86_400.0
    """Seconds from one pass through the rows to the next, about. Lower, and more is read; higher, and rows are kept
    that much longer than `ended_kept`."""
    pruning_share: float = 0.05
    """The part of the time that a pass keeps the database busy, at most: above 0 and up to 1. Higher, and other writes
    wait more often; lower, and a pass through many rows takes longer."""
    pruned_at_once: int = 1000
    """Rows that one transaction looks at, to remove the old ones. Higher, and other writes wait for longer; lower, and
    it takes longer as a whole."""

    def __post_init__(self) -> None:
        _check(self)
        if not 0 < self.pruning_share <= 1:
            raise ValueError(
                f"`ProcessOptions.pruning_share` is a part of the time, above 0 and up to 1: {self.pruning_share}"
            )


@dataclass(frozen=True, kw_only=True)
class SqliteOptions:
    """SQLite: its writer, its readers, looking for the commits of other processes."""

    lock_timeout: float = 10.0
    """Seconds to wait for another process that holds the write lock. Raised, a stuck process delays every append for
    longer; lowered, appends fail while another process writes much."""
    readers: int = 4
    """Threads, with a connection each, that read. Raised, they take Python from the event loop; lowered, a slow report
    delays other reads."""
    poll: float = 0.002
    """Seconds between two looks for what other processes have committed, while writes go on and a task waits for them.
    Raised, such a task learns of a commit later; lowered, the looks cost more of the event loop."""
    settling: float = 0.05
    """Seconds for which the looks go on after the last write. Raised, an application at rest costs more;
    lowered, a commit whose sync takes longer is seen only by the next look at rest."""
    rest: float = 1.0
    """Seconds between two looks while nothing is written. Raised, a commit whose sync takes very long is seen later;
    lowered, an application at rest uses more of the processor."""
    blind: float = 0.5
    """The same where the platform does not tell of writes to a file. Raised, a commit of another process is seen later
    after a rest."""
    slowing: float = 2.0
    """How many times as long each pause between two looks in vain is as the one before. Raised, a commit whose sync
    takes long is seen later; lowered, an application that comes to rest looks more often."""
    noticed_wait: float = 0.1
    """Seconds that a job has to wait for its turn before they are taken off its `lock_timeout`. Raised, it waits that
    much longer for a lock; lowered, more commits set their time-out."""
    being_made: float = 0.5
    """Seconds that another process has to make the write-ahead log of a new file. Raised, a copy that lacks its log is
    refused later; lowered, a new file on a slow disk may be taken for one."""
    file_check: float = 0.05
    """Seconds for which a read believes that the file was not deleted or replaced; each commit looks by itself. Raised,
    a read may answer from the old file for longer; lowered, reads cost a microsecond more each."""
    brief_read: int = 256
    """Rows up to which the event loop reads by itself. Raised, other tasks wait longer for it; lowered, more reads pay
    for the way to a thread and back."""
    brief_append: int = 10
    """Events up to which an append without a condition is made in the event loop: they are stored within a few dozen
    microseconds. Raised, the loop stands still for longer; lowered, more appends pay for the way to a thread and back.
    """
    brief_step: int = 4
    """The same for rows of a read model that are written: a full-text index takes a tenth of a millisecond for each."""
    brief_lookup: int = 16
    """The same for rows of read models that are read by key, each of which may lie elsewhere in the file."""
    loop_turn: float = 0.005
    """Seconds for which one read after the other may keep the event loop. More: other tasks wait longer while code asks
    again and again; less: each read costs a turn of the loop."""
    slow_read: float = 0.002
    """Seconds from which on a read in the event loop counts as slow, if it has waited and was not merely kept from the
    processor. Threads then do all reading for a while. Raised, the loop waits for slower disks; lowered, one hiccup
    costs all reads the way to a thread."""
    respite: float = 20.0
    """Length of that while, as a multiple of the slow read. Raised, fast reads return to the loop later; lowered, a
    slow disk may hold the event loop for more than a twentieth of the time."""
    min_group: int = 16
    """Appends below which a group is not split in two. Raised, fewer callers go on during a commit; lowered, a commit
    carries fewer appends."""
    max_group: int = 1000
    """Appends that share a commit at most. Raised, the first of them waits longer; lowered, there are more commits."""
    lock_time: float = 0.1
    """Seconds that appends may hold the write lock together, about, where slow inline projections make each of them
    long. Raised, other processes wait longer; lowered, there are more commits."""
    turn: float = 0.025
    """Seconds between two such commits, in which other processes get the lock: they look about as often. Raised, slow
    appends are slower still; lowered, other processes wait until no append is left."""
    loop_group: int = 8
    """Appends up to which the event loop commits by itself. Raised, it stands still for longer; lowered, more commits
    pay for the way to the thread and back."""
    fast_commit: float = 0.0005
    """Seconds of a commit, on average, up to which the event loop commits by itself: not much more than the way to a
    thread and back. Raised, the loop waits for slower disks; lowered, it hands over what it could do faster."""
    checkpoint_pages: int = 4000
    """Pages in the write-ahead log from which on the writer's thread moves them into the file, behind a commit. Raised,
    the file beside the database grows and opening after a crash takes longer; lowered, commits wait more often."""
    checkpoint_changes: int = 250
    """Changed rows after which the event loop leaves a commit to the thread, which looks whether a checkpoint is due.
    Raised, checkpoints come later; lowered, more commits take the slower way."""
    rows_together: int = 5000
    """Rows that the jobs of one commit keep back, to insert them together. Raised, they take more memory; lowered,
    there are more statements."""
    versions_kept: int = 10_000
    """Streams whose versions the writer remembers. Raised, they take more memory; lowered, more appends look theirs
    up."""
    step_events: int = 5000
    """Events that a read model takes in one commit while it catches up. Raised, appends wait longer for the write lock;
    lowered, catching up takes more commits."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class PostgresOptions:
    """PostgreSQL: connections, deadlines, group commit, listening."""

    connections: int = 8
    """The most connections for questions and read models that a process holds. An event log has two more, for appends
    and to listen, and each read database one, to listen. Fewer: questions wait for each other; more: the server runs
    out of them sooner."""
    connect_timeout: float = 3.0
    """Seconds that each host of the URL has to accept a connection. Less: a busy server is taken for a dead one; more:
    a dead one is noticed later."""
    silence_timeout: float = 1.5
    """Seconds for which a connection may be silent while an answer is due. Then the server is asked, on another one,
    whether it is at work; if it does not say so within the same time, the connection is hung up. Less: a server under
    load gets more questions; more: a dead connection is noticed later."""
    answer_timeout: float = 10.0
    """Seconds that a question of Twofold's own may wait for silent connections, in both of its tries together. Less: a
    server under load is given up sooner; more: callers wait longer for a backend that hangs."""
    statement_timeout: float = 60.0
    """The same for what is the user's or grows with the data: own SQL, pages and totals of read models, changes of
    tables. Less: long reports fail; more: callers wait longer for a backend that hangs."""
    maintenance_timeout: float = 3600.0
    """The same for migrations, and for checking and copying a whole log."""
    read_turn: float = 0.002
    """Seconds for which the event loop reads a long answer without a turn for other tasks. Less: long answers, as those
    of projections that catch up, take more of the processor; more: other tasks wait longer."""
    cancel_timeout: float = 1.0
    """Seconds that the server has to end a statement whose caller was cancelled; then its connection is closed. Less:
    more connections are made again; more: a caller that is cancelled comes back later."""
    append_timeout: float = 30.0
    """Seconds within which the outcome of an append that was sent must be learnt, over as many connections as it takes.
    Less: `OutcomeUnknownError` is raised more often, as during a fail-over; more: callers wait longer for it."""
    poll: float = 2.0
    """Seconds between two looks for the commits of other processes, while notifications come by themselves. Less: more
    questions; more: a notification that was lost costs that time."""
    poll_without_listening: float = 0.02
    """The same behind a pooler, which delivers no notifications, and on a standby, which has none."""
    first_pause: float = 0.02
    """Seconds before the first repetition of what failed; each pause is twice as long as the one before. Less: a fault
    that lasts costs more work in vain; more: one that is over at once delays more."""
    last_pause: float = 1.0
    """Seconds of such a pause, at most. Less: a server that comes back is asked by all at once; more: it is noticed
    later."""
    min_group: int = 16
    """Appends below which a group is not divided in two halves. Less: more commits; more: the server waits for us."""
    encoded_in_loop: int = 5000
    """Events of one group, or kB of their payload, whose arguments the event loop makes by itself. Raised, it stands
    still for longer; lowered, more groups pay for the way to a thread."""
    max_group: int = 512
    """Appends that one commit takes at most; with more, each waits longer for the others."""
    max_group_events: int = 2000
    """Events of them all, with the same effect."""
    max_group_bytes: int = 16 * 1024 * 1024
    """Bytes of payload of them all. More: libpq sends a large message in a time that grows with its square; less: there
    are more commits."""
    planned_items: int = 16
    """Items of an event query up to which each is planned by itself, by what the server knows of its tags; with more,
    all are walked alike. Raised: planning takes longer. Lowered: rare tags of larger queries are not used."""
    planned_tags: int = 12
    """The same of the tags of an item: the planner tries the orders in which to join them, which soon take too long."""
    narrow_condition: int = 1000
    """Events behind an append's condition up to which the append alone looks at them. Raised: the log stays locked for
    longer. Lowered: more appends read twice."""
    long_log: int = 10_000
    """Events from which on the server's plans for reading are sure to use the indexes, and are kept. Raised: more
    planning. Lowered: a plan that reads the whole table may be kept."""
    chunk: int = 1000
    """The most events of a chunk where events are read one by one, if `LogOptions.chunk` is no more. Fewer: more round
    trips; more: other tasks wait longer while one is decoded."""
    copied_at_once: int = 200
    """Rows of a log that is copied which are encoded and sent in one go. More: the server waits for them; fewer: more
    calls."""
    lookups: int = 2
    """Statements at once that look rows of read models up by key for callers. More: each carries fewer look-ups, and
    the process and the server do more work for each of them; fewer: a look-up waits longer for those before it."""
    brief_lookup: int = 16
    """Keys up to which a look-up shares such a statement. More: the others that share it wait longer for their rows."""
    lookup_keys: int = 200
    """Keys of one such statement, at most, with the same effect."""
    inline_idle_timeout: float = 5.0
    """Seconds after which the server ends the transaction of an append whose process freezes while it folds inline read
    models. Less: a slow fold is taken for a frozen process; more: the log stays locked for longer."""
    inline_lock_timeout: float = 10.0
    """Seconds that such an append waits for a segment which another transaction holds. Less: appends fail beside a long
    rebuild; more: they wait longer."""

    @property
    def unsent_timeout(self) -> float:
        """Seconds for an append that was not sent: its failure is certain, and its caller can do something about it."""
        return min(self.append_timeout, self.answer_timeout / 2)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class DuckDbOptions:
    """DuckDB: the file and its Parquet snapshots."""

    readers: int = 4
    """Questions that are answered at the same time, each in a thread. Raised, they take memory and Python from the rest
    of the process; lowered, a slow report delays other questions."""
    step_events: int = 10_000
    """Events that a read model takes in one commit while it catches up. Raised, a step takes more memory; lowered,
    catching up takes more commits, each of which has its price."""
    snapshots_kept: int = 2
    """Snapshots that stay however old they are, at least 1. Raised, they take more of the disk."""
    snapshots_kept_for: float = 10.0
    """Seconds for which a snapshot stays after the next one came. Raised, snapshots that are written often take more of
    the disk; lowered, questions that take longer have to be asked again."""
    snapshot_patience: float = 10.0
    """Seconds for which a question whose snapshot was removed is asked again. Raised, a process that is too slow for
    the owner gives up later; lowered, it gives up although one more try would have answered."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class InspectionOptions:
    """Looking for events: how much a question may cost the database that applications work on."""

    slice: int = 100_000
    """Events through which the engine looks in one question where no index leads. Raised, a question keeps a connection
    for longer; lowered, looking through a long log takes more questions."""
    most_seen: int = 1_000_000
    """Events through which a search looks before it ends with the place where to go on. Raised, a search for what is
    rare takes longer; lowered, it has to be continued more often."""
    page: int = 500
    """Events that are read at once where an index leads. Raised, more is read in vain; lowered, more questions."""
    page_bytes: int = 4_000_000
    """Bytes of payload that are read at once, about. Raised, large events take more memory; lowered, more questions."""
    clock_difference: float = 1.0
    """Seconds by which clocks may differ before it is a finding. Raised, wrong times of events are found later;
    lowered, clocks that are good enough are findings."""
    free_disk: int = 1_000_000_000
    """Bytes that should be free on the disk of a SQLite file. Raised, small disks are findings; lowered, there is less
    time to act."""
    large_wal: int = 1_000_000_000
    """Bytes of a write-ahead log from which on it is a finding. Raised, a reader that never ends is found later."""
    long_transaction: float = 600.0
    """Seconds from which on an open transaction is a finding. Raised, what hinders clean-up is found later; lowered,
    each backup is a finding."""
    used_connections: float = 0.8
    """Share of the server's connections from which on it is a finding. Raised, there is less time to act."""
    traced: int = 1000
    """Events of a trace, at most. Raised, the trace of what caused very much takes longer; lowered, more is cut off."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class MonitoringOptions:
    """Looking at where everything stands, for OpenTelemetry."""

    look_every: float = 10.0
    """Seconds between two looks for the gauges. Raised, they are older; lowered, each process asks the databases more
    often."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class PrivacyOptions:
    """Keys of persons, and how they are forgotten."""

    cached_keys: int = 50_000
    """Keys that a process keeps in memory, at some 500 bytes each. Fewer: keys are read from their store more often;
    more: more memory."""
    recheck: float = 1.0
    """Seconds after which a process asks the key store again, at the latest, whether a person was forgotten; it asks
    after half of them, so that no reader waits for the answer. Fewer: more questions; more: other processes show what
    is forgotten for longer."""
    timeout: float = 5.0
    """Seconds to wait for the database of the keys. Fewer: a busy one fails calls; more: those who read personal fields
    wait longer for one that is away."""
    settling: float = 3.0
    """Seconds, beyond twice `recheck`, that a forgetting waits before it folds read models again: for what other
    processes have read before and are about to write. Fewer: a slow step may write it afterwards; more: forgetting
    takes longer."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of all machines of an application."""

    log: LogOptions = field(default_factory=LogOptions)
    commands: CommandOptions = field(default_factory=CommandOptions)
    queries: QueryOptions = field(default_factory=QueryOptions)
    synchronizer: SynchronizerOptions = field(default_factory=SynchronizerOptions)
    processes: ProcessOptions = field(default_factory=ProcessOptions)
    sqlite: SqliteOptions = field(default_factory=SqliteOptions)
    postgres: PostgresOptions = field(default_factory=PostgresOptions)
    duckdb: DuckDbOptions = field(default_factory=DuckDbOptions)
    inspection: InspectionOptions = field(default_factory=InspectionOptions)
    monitoring: MonitoringOptions = field(default_factory=MonitoringOptions)
    privacy: PrivacyOptions = field(default_factory=PrivacyOptions)

    def __post_init__(self) -> None:
        _check(self)
