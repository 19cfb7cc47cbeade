-- The event log. The columns are those of `StoredEvent`. stored: version with care.

-- Identifies the log, so that what was read of another one is told from it also while it is empty.
CREATE TABLE twofold_log (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    log_id BLOB    NOT NULL,
    forked_from BLOB,                        -- the id of the log that this one is a fork of; NULL: it is none
    forked_at INTEGER,                       -- the last position that both have in common
    removes_events INTEGER NOT NULL DEFAULT 0, -- 1 within a transaction that removes those of tombstoned streams
    archives_events INTEGER NOT NULL DEFAULT 0, -- 1 within a transaction that puts archives in the place of payloads
    adds_tags INTEGER NOT NULL DEFAULT 0,    -- 1 within a transaction that adds tags to stored events, never committed
    prunes_commands INTEGER NOT NULL DEFAULT 0  -- 1 within a transaction that removes old records of commands, too
) STRICT;

INSERT INTO twofold_log (id, log_id) VALUES (1, randomblob(16));

CREATE TABLE twofold_events (
    position       INTEGER PRIMARY KEY,
    event_id       BLOB    NOT NULL UNIQUE,
    stream_id      TEXT    NOT NULL,         -- empty: the event belongs to no stream
    stream_type    TEXT    NOT NULL,
    version        INTEGER NOT NULL,         -- 1, 2, 3, … within the stream; 0 without one
    type           TEXT    NOT NULL,
    schema_version INTEGER NOT NULL,
    payload        TEXT    NOT NULL,         -- JSON
    metadata       TEXT    NOT NULL,         -- JSON
    tags           TEXT    NOT NULL,         -- JSON array; twofold_event_tags is its index
    recorded_at    INTEGER NOT NULL,         -- microseconds since 1970-01-01 UTC
    checksum       INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX twofold_events_by_stream ON twofold_events (stream_id, version) WHERE stream_id <> '';

CREATE INDEX twofold_events_by_type ON twofold_events (type, position);

-- Streams that take no more events, so that appends find them without reading the last event of each stream.
CREATE INDEX twofold_ended_streams ON twofold_events (stream_id, type)
WHERE type IN ('twofold.StreamClosed', 'twofold.StreamTombstoned');

CREATE TABLE twofold_event_tags (
    tag      TEXT    NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (tag, position)
) STRICT, WITHOUT ROWID;

-- Which tags all stored events of a type carry, so that a class with more of them is told from one that always had them.
CREATE TABLE twofold_tagged_types (
    type TEXT NOT NULL PRIMARY KEY,
    tags TEXT NOT NULL                       -- JSON: the name of each tag with the field that it is made of
) STRICT, WITHOUT ROWID;

-- How often tags were added to stored events: what was folded from an event query before may lack some of them.
CREATE TABLE twofold_tag_changes (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    times INTEGER NOT NULL
) STRICT;

INSERT INTO twofold_tag_changes (id, times) VALUES (1, 0);

-- States that were folded; the columns are those of `Snapshot`. A cache: rows may be deleted at any time.
CREATE TABLE twofold_snapshots (
    fold           TEXT    NOT NULL,
    subject        TEXT    NOT NULL,
    version        INTEGER NOT NULL,
    position       INTEGER NOT NULL,
    event_id       BLOB    NOT NULL,
    event_checksum INTEGER NOT NULL,
    tag_changes    INTEGER NOT NULL,
    fingerprint    BLOB    NOT NULL,
    state          TEXT    NOT NULL,         -- JSON
    saved_at       INTEGER NOT NULL,         -- microseconds since 1970-01-01 UTC
    checksum       INTEGER NOT NULL,
    PRIMARY KEY (fold, subject)
) STRICT;

-- Files with the payloads of closed streams; the columns are those of `Archived`.
CREATE TABLE twofold_archives (
    number  INTEGER PRIMARY KEY,
    events  INTEGER NOT NULL,
    size    INTEGER NOT NULL,                    -- bytes
    sha256  TEXT    NOT NULL,                    -- empty: it is being written
    changes INTEGER NOT NULL                     -- how often the file came to hold more than is archived in it
) STRICT;

-- One row per command that took effect: a repeat of the id gets the first receipt.
CREATE TABLE twofold_commands (
    command_id     BLOB    PRIMARY KEY,
    content_hash   BLOB    NOT NULL,
    result         TEXT    NOT NULL,         -- JSON
    name           TEXT    NOT NULL,         -- of its class
    first_position INTEGER NOT NULL,
    last_position  INTEGER NOT NULL,
    record_checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Tags follow from the payload by the class of the events, and only they may be added to, with the checksum over them.
-- Of a stream that is tombstoned, events are removed, and their places stay; payloads of closed ones can be archived.
CREATE TRIGGER twofold_events_refuse_update BEFORE UPDATE ON twofold_events
WHEN (NOT (SELECT removes_events FROM twofold_log) OR NEW.type <> 'twofold.EventRemoved'
    OR (NEW.position, NEW.event_id, NEW.stream_id, NEW.stream_type, NEW.version, NEW.recorded_at)
    IS NOT (OLD.position, OLD.event_id, OLD.stream_id, OLD.stream_type, OLD.version, OLD.recorded_at)
) AND (NOT (SELECT adds_tags FROM twofold_log)
    OR (NEW.position, NEW.event_id, NEW.stream_id, NEW.stream_type, NEW.version, NEW.type, NEW.schema_version,
        NEW.payload, NEW.metadata, NEW.recorded_at)
    IS NOT (OLD.position, OLD.event_id, OLD.stream_id, OLD.stream_type, OLD.version, OLD.type, OLD.schema_version,
        OLD.payload, OLD.metadata, OLD.recorded_at))
AND (NOT (SELECT archives_events FROM twofold_log) OR NEW.payload NOT GLOB '{"~archived":*'
    OR (NEW.position, NEW.event_id, NEW.stream_id, NEW.stream_type, NEW.version, NEW.type, NEW.schema_version,
        NEW.metadata, NEW.tags, NEW.recorded_at, NEW.checksum)
    IS NOT (OLD.position, OLD.event_id, OLD.stream_id, OLD.stream_type, OLD.version, OLD.type, OLD.schema_version,
        OLD.metadata, OLD.tags, OLD.recorded_at, OLD.checksum))
BEGIN SELECT raise(ABORT, 'twofold_events is append-only: events are facts and are never updated'); END;

CREATE TRIGGER twofold_commands_refuse_update BEFORE UPDATE ON twofold_commands
BEGIN SELECT raise(ABORT, 'twofold_commands is append-only: what a command was answered is never changed'); END;

CREATE TRIGGER twofold_commands_refuse_delete BEFORE DELETE ON twofold_commands
WHEN NOT (SELECT prunes_commands FROM twofold_log)
BEGIN SELECT raise(ABORT, 'records of commands are removed by `twofold commands prune` only'); END;

CREATE TRIGGER twofold_events_refuse_delete BEFORE DELETE ON twofold_events
BEGIN SELECT raise(ABORT, 'twofold_events is append-only: events are facts and are never deleted'); END;

-- Read models in generations, each divided into segments by the hash of a row's key. stored: version with care.
-- Times are microseconds since 1970-01-01 UTC.

-- One row for each read model that was built: the one that serves, one that is being built, the previous one.
CREATE TABLE twofold_projections (
    name        TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    suffix      TEXT    NOT NULL,             -- of the names of its tables
    state       TEXT    NOT NULL,             -- see `GenerationState`
    segments    INTEGER NOT NULL DEFAULT 1,   -- how many it shall have
    fingerprint TEXT    NOT NULL DEFAULT '{}',-- JSON: a digest for each part of the code
    report      TEXT    NOT NULL DEFAULT '',  -- JSON: what came of the last attempt to let it serve
    made_at     INTEGER NOT NULL,
    kind        TEXT    NOT NULL,             -- who drives it: see `ProjectionKind`
    PRIMARY KEY (name, generation)
) STRICT, WITHOUT ROWID;

-- How far each segment has come; moved in the transaction that writes its rows, by the holder of the epoch only.
CREATE TABLE twofold_checkpoints (
    name         TEXT    NOT NULL,
    generation   INTEGER NOT NULL,
    first_slot   INTEGER NOT NULL,            -- of 256; the segment ends before the next one
    end_slot     INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    event_id     TEXT    NOT NULL DEFAULT '',  -- of the event there, in hexadecimal digits; empty: not known
    held_back    TEXT    NOT NULL DEFAULT '',  -- JSON: the tenants that are held back, see `HeldBack`; empty: none
    epoch        INTEGER NOT NULL DEFAULT 0,  -- raised when a worker takes the segment, or anything of it changes
    owner        TEXT    NOT NULL DEFAULT '',
    leased_at    INTEGER NOT NULL DEFAULT 0,  -- a lease that begins in the future is from before the clock went back
    leased_until INTEGER NOT NULL DEFAULT 0,
    moved_at     INTEGER NOT NULL DEFAULT 0,
    error        TEXT    NOT NULL DEFAULT '', -- what holds it up
    PRIMARY KEY (name, generation, first_slot)
) STRICT, WITHOUT ROWID;

-- Events that failed, and the later ones of the same row, which wait behind them.
CREATE TABLE twofold_parked (
    name       TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    event_id   TEXT    NOT NULL,              -- of the event there, in hexadecimal digits, as in the checkpoints
    slot       INTEGER NOT NULL,
    key        TEXT    NOT NULL,              -- JSON: the key of the row
    cause      TEXT    NOT NULL,              -- empty: it waits behind an earlier one
    traceback  TEXT    NOT NULL,
    parked_at  INTEGER NOT NULL,
    retry      INTEGER NOT NULL DEFAULT 0,    -- 1: to be tried again
    PRIMARY KEY (name, generation, position, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX twofold_parked_by_key ON twofold_parked (name, generation, key, retry);

-- Events that were skipped by decision, for ever and in every generation, and why.
CREATE TABLE twofold_skipped (
    name      TEXT    NOT NULL,
    position  INTEGER NOT NULL,
    event_id  TEXT    NOT NULL,               -- another event that comes to stand there is not skipped
    key       TEXT    NOT NULL,               -- of the row that skips it; empty: all rows do
    cause     TEXT    NOT NULL,
    reason    TEXT    NOT NULL,
    skipped_at INTEGER NOT NULL,
    PRIMARY KEY (name, position, key)
) STRICT, WITHOUT ROWID;

-- The trail of each consumer through the history of the log, a few seconds apart: what stood where it had come to.
CREATE TABLE twofold_marks (
    name     TEXT    NOT NULL,
    position INTEGER NOT NULL,
    event_id TEXT    NOT NULL,
    PRIMARY KEY (name, position)
) STRICT, WITHOUT ROWID;

-- The workers that run projections.
CREATE TABLE twofold_workers (
    worker      TEXT    PRIMARY KEY,
    projections TEXT    NOT NULL,             -- JSON: what it has the code of, as [[name, version], …]
    seen_at     INTEGER NOT NULL,
    seen_until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
