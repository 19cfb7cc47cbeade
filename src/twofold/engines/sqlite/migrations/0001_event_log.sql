-- The event log. Columns stand in the order of `twofold.ports.event_log.StoredEvent`.

-- Identifies the log, so that what was read of another one is told from it also while it is empty.
CREATE TABLE twofold_log (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    log_id BLOB    NOT NULL
) STRICT;

INSERT INTO twofold_log VALUES (1, randomblob(16));

CREATE TABLE twofold_events (
    position       INTEGER PRIMARY KEY,
    event_id       BLOB    NOT NULL UNIQUE,
    stream_id      TEXT,                     -- NULL, as the next two, for an event of no stream
    stream_type    TEXT,
    version        INTEGER,
    type           TEXT    NOT NULL,
    schema_version INTEGER NOT NULL,
    payload        TEXT    NOT NULL,         -- JSON
    metadata       TEXT    NOT NULL,         -- JSON
    tags           TEXT    NOT NULL,         -- JSON array; twofold_event_tags is its index
    recorded_at    INTEGER NOT NULL,         -- microseconds since 1970-01-01 UTC
    checksum       INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX twofold_events_by_stream ON twofold_events (stream_id, version) WHERE stream_id IS NOT NULL;

CREATE INDEX twofold_events_by_type ON twofold_events (type, position);

CREATE TABLE twofold_event_tags (
    tag      TEXT    NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (tag, position)
) STRICT, WITHOUT ROWID;

-- One row per command that took effect: a repeat of the id gets the first receipt.
CREATE TABLE twofold_commands (
    command_id     BLOB    PRIMARY KEY,
    content_hash   BLOB    NOT NULL,
    result         TEXT    NOT NULL,         -- JSON
    first_position INTEGER NOT NULL,
    last_position  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER twofold_events_refuse_update BEFORE UPDATE ON twofold_events
BEGIN SELECT raise(ABORT, 'twofold_events is append-only: events are facts and are never updated'); END;

CREATE TRIGGER twofold_events_refuse_delete BEFORE DELETE ON twofold_events
BEGIN SELECT raise(ABORT, 'twofold_events is append-only: events are facts and are never deleted'); END;
