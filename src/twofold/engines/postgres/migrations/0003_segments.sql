-- Read models in generations, each divided into segments by the hash of a row's key. stored: version with care.
-- Times are microseconds since 1970-01-01 UTC, by the server's clock.

CREATE FUNCTION twofold_now() RETURNS bigint LANGUAGE sql VOLATILE
    AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint';

ALTER TABLE twofold_projections RENAME TO twofold_projections_0002;
ALTER INDEX twofold_projections_pkey RENAME TO twofold_projections_0002_pkey;

-- One row for each read model that was built: the one that serves, one that is being built, the previous one.
CREATE TABLE twofold_projections (
    name        text    NOT NULL,
    generation  integer NOT NULL,
    version     integer NOT NULL,
    suffix      text    NOT NULL,             -- of the names of its tables
    role        text    NOT NULL,             -- serving, building or previous
    paused      integer NOT NULL DEFAULT 0,
    segments    integer NOT NULL DEFAULT 1,   -- how many it shall have
    fingerprint text    NOT NULL DEFAULT '{}',-- JSON: a digest for each part of the code
    report      text    NOT NULL DEFAULT '',  -- JSON: what came of the last attempt to let it serve
    made_at     bigint  NOT NULL,
    PRIMARY KEY (name, generation)
);

-- How far each segment has come; moved in the transaction that writes its rows, by the holder of the epoch only.
CREATE TABLE twofold_checkpoints (
    name         text    NOT NULL,
    generation   integer NOT NULL,
    first_slot   integer NOT NULL,            -- of 256; the segment ends before the next one
    end_slot     integer NOT NULL,
    position     bigint  NOT NULL,
    event_id     text    NOT NULL DEFAULT '',  -- of the event there, in hexadecimal digits; empty: not known
    epoch        bigint  NOT NULL DEFAULT 0,  -- raised by whoever takes the segment, or changes anything of it
    owner        text    NOT NULL DEFAULT '',
    leased_at    bigint  NOT NULL DEFAULT 0,  -- a lease that begins in the future is from before the clock went back
    leased_until bigint  NOT NULL DEFAULT 0,
    moved_at     bigint  NOT NULL DEFAULT 0,
    error        text    NOT NULL DEFAULT '', -- what holds it up
    PRIMARY KEY (name, generation, first_slot)
);

-- Whoever waits for a read model is told of its steps, wherever they are taken.
CREATE FUNCTION twofold_tell_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('twofold_' || TG_RELID,
        json_build_array(NEW.name, NEW.generation, NEW.first_slot, NEW.end_slot, NEW.epoch, NEW.position)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER twofold_tell_step AFTER UPDATE OF position ON twofold_checkpoints
    FOR EACH ROW WHEN (OLD.position <> NEW.position) EXECUTE FUNCTION twofold_tell_step();

-- Events that failed, and the later ones of the same row, which wait behind them.
CREATE TABLE twofold_parked (
    name       text    NOT NULL,
    generation integer NOT NULL,
    position   bigint  NOT NULL,
    slot       integer NOT NULL,
    key        text    NOT NULL,              -- JSON: the key of the row
    cause      text    NOT NULL,              -- empty: it waits behind an earlier one
    traceback  text    NOT NULL,
    parked_at  bigint  NOT NULL,
    retry      integer NOT NULL DEFAULT 0,    -- somebody asked for it
    PRIMARY KEY (name, generation, position)
);

CREATE INDEX twofold_parked_by_key ON twofold_parked (name, generation, key, retry);

-- Events that somebody decided to pass over, for ever and in every generation, and why.
CREATE TABLE twofold_passed_over (
    name      text    NOT NULL,
    position  bigint  NOT NULL,
    key       text    NOT NULL,
    cause     text    NOT NULL,
    reason    text    NOT NULL,
    passed_at bigint  NOT NULL,
    PRIMARY KEY (name, position)
);

-- Who is there to run projections.
CREATE TABLE twofold_workers (
    worker      text    PRIMARY KEY,
    projections text    NOT NULL,             -- JSON: what it has the code of, as [[name, version], …]
    seen_at     bigint  NOT NULL,
    seen_until  bigint  NOT NULL
);

INSERT INTO twofold_projections (name, generation, version, suffix, role, made_at)
    SELECT name, 1, version, '', 'serving', 0 FROM twofold_projections_0002;
INSERT INTO twofold_checkpoints (name, generation, first_slot, end_slot, position)
    SELECT name, 1, 0, 256, position FROM twofold_projections_0002;
DROP TABLE twofold_projections_0002;
