-- The event log. stored: version with care. What is here has been run on users' databases; changes are new files.

-- Whoever appends locks this row first and holds it until the commit: positions are allotted in the order of commits.
-- It is locked, never updated, so that a foreign transaction that stays open for hours leaves no dead versions of it.
CREATE TABLE twofold_head (
    id integer PRIMARY KEY CHECK (id = 1),
    log_id uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO twofold_head (id) VALUES (1);

-- The columns of StoredEvent in its order. `json`, unlike `jsonb`, keeps the text that the checksum was taken over.
CREATE TABLE twofold_events (
    position bigint PRIMARY KEY,
    event_id uuid NOT NULL,
    stream_id text NOT NULL,            -- empty: the event belongs to no stream
    stream_type text NOT NULL,
    version integer NOT NULL,           -- 1, 2, 3, … within the stream; 0 without one
    type text NOT NULL,
    schema_version integer NOT NULL,
    payload json NOT NULL,
    metadata json NOT NULL,
    tags json NOT NULL,
    recorded_at bigint NOT NULL,        -- microseconds since 1970-01-01 UTC
    checksum bigint NOT NULL,
    CONSTRAINT twofold_events_event_id_key UNIQUE (event_id)
);
CREATE UNIQUE INDEX twofold_events_stream_key ON twofold_events (stream_id, version) WHERE stream_id <> '';
CREATE INDEX twofold_events_type_key ON twofold_events (type, position);

CREATE TABLE twofold_event_tags (
    tag text NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag, position)
);

CREATE TABLE twofold_commands (
    command_id uuid PRIMARY KEY,
    content_hash bytea NOT NULL,
    result bytea NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL
);

CREATE FUNCTION twofold_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: the event log is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'TF001', HINT = 'Append an event that corrects the earlier one.';
END $$;
CREATE TRIGGER twofold_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON twofold_events
    FOR EACH STATEMENT EXECUTE FUNCTION twofold_refuse_change();
CREATE TRIGGER twofold_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON twofold_event_tags
    FOR EACH STATEMENT EXECUTE FUNCTION twofold_refuse_change();
CREATE TRIGGER twofold_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON twofold_commands
    FOR EACH STATEMENT EXECUTE FUNCTION twofold_refuse_change();
