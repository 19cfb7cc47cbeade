-- Read models in generations, each divided into segments by the hash of a row's key. stored: version with care.
-- Times are microseconds since 1970-01-01 UTC.

ALTER TABLE twofold_projections RENAME TO twofold_projections_0002;

-- One row for each read model that was built: the one that serves, one that is being built, the previous one.
CREATE TABLE twofold_projections (
    name        TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    suffix      TEXT    NOT NULL,             -- of the names of its tables
    role        TEXT    NOT NULL,             -- serving, building or previous
    paused      INTEGER NOT NULL DEFAULT 0,
    segments    INTEGER NOT NULL DEFAULT 1,   -- how many it shall have
    fingerprint TEXT    NOT NULL DEFAULT '{}',-- JSON: a digest for each part of the code
    report      TEXT    NOT NULL DEFAULT '',  -- JSON: what came of the last attempt to let it serve
    made_at     INTEGER NOT NULL,
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
    epoch        INTEGER NOT NULL DEFAULT 0,  -- raised by whoever takes the segment, or changes anything of it
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
    slot       INTEGER NOT NULL,
    key        TEXT    NOT NULL,              -- JSON: the key of the row
    cause      TEXT    NOT NULL,              -- empty: it waits behind an earlier one
    traceback  TEXT    NOT NULL,
    parked_at  INTEGER NOT NULL,
    retry      INTEGER NOT NULL DEFAULT 0,    -- somebody asked for it
    PRIMARY KEY (name, generation, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX twofold_parked_by_key ON twofold_parked (name, generation, key, retry);

-- Events that somebody decided to pass over, for ever and in every generation, and why.
CREATE TABLE twofold_passed_over (
    name      TEXT    NOT NULL,
    position  INTEGER NOT NULL,
    key       TEXT    NOT NULL,
    cause     TEXT    NOT NULL,
    reason    TEXT    NOT NULL,
    passed_at INTEGER NOT NULL,
    PRIMARY KEY (name, position)
) STRICT, WITHOUT ROWID;

-- Who is there to run projections.
CREATE TABLE twofold_workers (
    worker      TEXT    PRIMARY KEY,
    projections TEXT    NOT NULL,             -- JSON: what it has the code of, as [[name, version], …]
    seen_at     INTEGER NOT NULL,
    seen_until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO twofold_projections (name, generation, version, suffix, role, made_at)
    SELECT name, 1, version, '', 'serving', 0 FROM twofold_projections_0002;
INSERT INTO twofold_checkpoints (name, generation, first_slot, end_slot, position)
    SELECT name, 1, 0, 256, position FROM twofold_projections_0002;
DROP TABLE twofold_projections_0002;
