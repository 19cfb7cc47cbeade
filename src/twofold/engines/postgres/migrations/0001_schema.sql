-- The event log and the read models. stored: version with care.

-- An append locks this row first and holds it until the commit: positions are allotted in the order of commits.
-- It is locked, and updated only while a log is made, so that a foreign transaction that stays open for hours leaves no dead versions of it.
CREATE TABLE twofold_head (
    id integer PRIMARY KEY CHECK (id = 1),
    log_id uuid NOT NULL DEFAULT gen_random_uuid(),
    forked_from uuid,                           -- the id of the log that this one is a fork of; NULL: it is none
    forked_at bigint                            -- the last position that both have in common
);
INSERT INTO twofold_head (id) VALUES (1);

-- The columns are those of `StoredEvent`. `json`, unlike `jsonb`, keeps the text that the checksum was taken over.
-- Collation "C": names are compared as bytes, so that no upgrade of the system's locales can damage an index.
CREATE TABLE twofold_events (
    position bigint PRIMARY KEY,
    event_id uuid NOT NULL,
    stream_id text COLLATE "C" NOT NULL,        -- empty: the event belongs to no stream
    stream_type text COLLATE "C" NOT NULL,
    version integer NOT NULL,                   -- 1, 2, 3, … within the stream; 0 without one
    type text COLLATE "C" NOT NULL,
    schema_version integer NOT NULL,
    payload json NOT NULL,
    metadata json NOT NULL,
    tags json NOT NULL,
    recorded_at bigint NOT NULL,                -- microseconds since 1970-01-01 UTC
    checksum bigint NOT NULL,
    CONSTRAINT twofold_events_event_id_key UNIQUE (event_id)
);
CREATE UNIQUE INDEX twofold_events_by_stream ON twofold_events (stream_id, version) WHERE stream_id <> '';
CREATE INDEX twofold_events_by_type ON twofold_events (type, position);
-- Streams that take no more events, so that appends find them without reading the last event of each stream.
CREATE INDEX twofold_ended_streams ON twofold_events (stream_id, type)
    WHERE type IN ('twofold.StreamClosed', 'twofold.StreamTombstoned');

CREATE TABLE twofold_event_tags (
    tag text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag, position)
);

-- Which tags all stored events of a type carry, so that a class with more of them is told from one that always had them.
CREATE TABLE twofold_tagged_types (
    type text COLLATE "C" PRIMARY KEY,
    tags text NOT NULL                          -- JSON: the name of each tag with the field that it is made of
);

-- How often tags were added to stored events: what was folded from an event query before may lack some of them.
CREATE TABLE twofold_tag_changes (
    id integer PRIMARY KEY CHECK (id = 1),
    times bigint NOT NULL
);
INSERT INTO twofold_tag_changes (id, times) VALUES (1, 0);

-- States that were folded; the columns are those of `Snapshot`. A cache: rows may be deleted at any time.
CREATE TABLE twofold_snapshots (
    fold text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    position bigint NOT NULL,
    event_id uuid NOT NULL,
    event_checksum bigint NOT NULL,
    tag_changes bigint NOT NULL,
    fingerprint bytea NOT NULL,
    state text NOT NULL,                        -- JSON
    saved_at bigint NOT NULL,                   -- microseconds since 1970-01-01 UTC
    checksum bigint NOT NULL,
    PRIMARY KEY (fold, subject)
);

-- Files with the payloads of closed streams; the columns are those of `Archived`.
CREATE TABLE twofold_archives (
    number  bigint PRIMARY KEY,
    events  bigint NOT NULL,
    size    bigint NOT NULL,                    -- bytes
    sha256  text   NOT NULL,                    -- empty: it is being written
    changes bigint NOT NULL                     -- how often the file came to hold more than is archived in it
);

CREATE TABLE twofold_commands (
    command_id uuid PRIMARY KEY,
    content_hash bytea NOT NULL,
    result text NOT NULL,                       -- JSON
    name text NOT NULL,                         -- of its class
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    record_checksum bigint NOT NULL
);

CREATE FUNCTION twofold_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: the event log is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'TF001', HINT = 'Append an event that corrects the earlier one.';
END $$;
CREATE TRIGGER twofold_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    position, event_id, stream_id, stream_type, version, recorded_at
    ON twofold_events FOR EACH STATEMENT EXECUTE FUNCTION twofold_refuse_change();
-- Of a stream that is tombstoned, events are removed, and their places stay; payloads of closed ones can be archived.
CREATE TRIGGER twofold_append_only_unless_archived BEFORE UPDATE OF payload
    ON twofold_events FOR EACH STATEMENT WHEN (current_setting('twofold.archives_events', true) IS DISTINCT FROM 'on'
        AND current_setting('twofold.removes_events', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION twofold_refuse_change();
CREATE TRIGGER twofold_append_only_unless_removed BEFORE UPDATE OF type, schema_version, metadata
    ON twofold_events FOR EACH STATEMENT WHEN (current_setting('twofold.removes_events', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION twofold_refuse_change();
CREATE TRIGGER twofold_removed_only BEFORE UPDATE OF type, schema_version, payload, metadata
    ON twofold_events FOR EACH ROW WHEN (NEW.type <> 'twofold.EventRemoved'
        AND (current_setting('twofold.archives_events', true) IS DISTINCT FROM 'on'
            OR NOT starts_with(NEW.payload::text, '{"~archived":')
            OR (NEW.type, NEW.schema_version, NEW.metadata::text, NEW.tags::text, NEW.checksum)
            IS DISTINCT FROM (OLD.type, OLD.schema_version, OLD.metadata::text, OLD.tags::text, OLD.checksum)))
    EXECUTE FUNCTION twofold_refuse_change();
-- Tags follow from the payload by the class of the events, and only they may be added to, with the checksum over them.
CREATE TRIGGER twofold_append_only_unless_tags BEFORE UPDATE ON twofold_events
    FOR EACH STATEMENT WHEN (current_setting('twofold.adds_tags', true) IS DISTINCT FROM 'on'
        AND current_setting('twofold.archives_events', true) IS DISTINCT FROM 'on'
        AND current_setting('twofold.removes_events', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION twofold_refuse_change();
CREATE TRIGGER twofold_append_only BEFORE UPDATE OR TRUNCATE ON twofold_event_tags
    FOR EACH STATEMENT EXECUTE FUNCTION twofold_refuse_change();
CREATE TRIGGER twofold_append_only_unless_removed BEFORE DELETE ON twofold_event_tags
    FOR EACH STATEMENT WHEN (current_setting('twofold.removes_events', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION twofold_refuse_change();
CREATE TRIGGER twofold_append_only BEFORE UPDATE OR TRUNCATE ON twofold_commands
    FOR EACH STATEMENT EXECUTE FUNCTION twofold_refuse_change();
-- Old records of commands are removed by `twofold commands prune` only, which says so for its own transaction.
CREATE TRIGGER twofold_append_only_unless_pruned BEFORE DELETE ON twofold_commands
    FOR EACH STATEMENT WHEN (current_setting('twofold.prunes_commands', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION twofold_refuse_change();

-- What stands at a position (at 0, the id of the log) and, if that is another event, what stands last before another one.
CREATE FUNCTION twofold_covered(behind bigint, ahead bigint) RETURNS TABLE ("position" bigint, event_id uuid)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF behind = 0 THEN
        RETURN QUERY SELECT 0::bigint, h.log_id FROM twofold_head AS h;
    ELSE
        RETURN QUERY SELECT e.position, e.event_id FROM twofold_events AS e WHERE e.position = behind;
    END IF;
    RETURN QUERY SELECT e.position, e.event_id FROM twofold_events AS e
        WHERE e.position > behind AND e.position < ahead ORDER BY e.position DESC LIMIT 1;
END $$;

-- The path of one event without condition or command: the same steps as `twofold_append`, without its set logic.
-- An expected version that does not hold gives NULL, nothing else, and so does a stream that takes no more events; the
-- caller then asks `twofold_append`, which knows repeats.
CREATE FUNCTION twofold_append_one(
    new_stream text, new_stream_type text, new_type text, new_schema integer, new_id uuid,  -- columns, as `NewEvent` has them
    new_payload json, new_metadata json, new_tags json, new_content bigint,
    tag_list text[],
    expected integer,       -- the least integer: the stream exists, NULL: any version
    OUT new_position bigint, OUT new_version integer
)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    now_us bigint;
    is_ended boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'appends need the isolation level read committed' USING ERRCODE = 'TF002';
    END IF;
    PERFORM 1 FROM twofold_head WHERE id = 1 FOR UPDATE;
    SELECT
        coalesce((SELECT position FROM twofold_events ORDER BY position DESC LIMIT 1), 0) + 1,
        CASE WHEN new_stream = '' THEN 0 ELSE coalesce((
            SELECT version FROM twofold_events
            WHERE stream_id = new_stream AND stream_id <> ''
            AND version >= greatest(expected, 0)
            AND version <= CASE WHEN expected >= 0 THEN expected + 1 ELSE 2147483647 END
            ORDER BY version DESC LIMIT 1), 0) + 1 END,
        EXISTS (
            SELECT FROM twofold_events
            WHERE stream_id = new_stream AND stream_id <> '' AND type IN ('twofold.StreamClosed', 'twofold.StreamTombstoned'))
        INTO new_position, new_version, is_ended;
    IF is_ended OR (new_version - 1 <> expected AND NOT (expected = -2147483648 AND new_version > 1)) THEN
        new_position := NULL;
        RETURN;
    END IF;
    now_us := extract(epoch FROM clock_timestamp()) * 1000000;
    INSERT INTO twofold_events (
        position, version, recorded_at, checksum,
        stream_id, stream_type, type, schema_version, event_id, payload, metadata, tags)
    VALUES (
        new_position, new_version, now_us, new_content # ((new_position * 31 + new_version * 17 + now_us) % 4294967291),
        new_stream, new_stream_type, new_type, new_schema, new_id, new_payload, new_metadata, new_tags);
    IF cardinality(tag_list) > 0 THEN
        INSERT INTO twofold_event_tags (tag, position) SELECT tag, new_position FROM unnest(tag_list) AS t (tag);
    END IF;
    PERFORM pg_notify('twofold_' || 'twofold_events'::regclass::oid, '');
END $$;

-- Judge and store a batch of appends, each as if it were alone, in their order, in one transaction.
--
-- Events, expectations and so on of all appends lie one after the other in arrays; `…_append` tells whose they are.
-- `base` is the head before the batch. `verdicts` is NULL if all were stored, and `versions` are those of the streams
-- before the batch. Else, per append: 0 stored, 1 an id is known already, 2 another version (`stale` tells which
-- expectation), 3 the condition fails, 4 a stream takes no more events (`stale` tells which event of the append); and
-- `versions` has that of its last event or, for 2 and 4, the one that was found.
-- The least integer as an expected version says that the stream must exist.
CREATE FUNCTION twofold_append(
    a_events integer[],                                                     -- appends: their number of events
    e_stream text[], e_stream_type text[], e_type text[], e_schema integer[], e_id uuid[],  -- events: as `NewEvent` has them
    e_payload json[], e_metadata json[], e_tags json[], e_content bigint[],
    e_slot integer[], e_nth integer[],                                      -- place in s_stream (0: none), n-th of it
    t_tag text[], t_event integer[],                                        -- tags, and the event that has them
    s_stream text[], s_expected integer[],                                  -- streams that matter, NULL: any version
    x_append integer[], x_slot integer[], x_expected integer[],             -- expected versions
    c_append integer[], c_after bigint[], c_tag text[], c_more text[], c_types text[],  -- items of the conditions
    b_append integer[], b_event integer[], b_after bigint[],                -- events of the batch that would break them
    k_append integer[], k_id uuid[], k_hash bytea[], k_result text[], k_name text[], k_first integer[], k_last integer[], k_content bigint[],  -- commands
    careful boolean,                                                        -- appends of the batch touch each other
    OUT base bigint, OUT verdicts integer[], OUT stale integer[], OUT versions integer[],
    OUT earlier bytea[]     -- of commands that are known: each one's columns with those of each of its events, row by row
)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    found_versions integer[];
    stream_moved boolean;
    endings text[];         -- by the place of the stream: the type of the event behind which it takes no more, or NULL
    last_tombstone bigint;
    conflicting integer[];
    known_ids uuid[];
    known_commands uuid[];
    places bigint[];
    place_versions integer[];
    firsts bigint[];
    lasts bigint[];
    verdict integer;
    now_us bigint;
    last bigint;
    slot integer;
    e integer := 0;
    x integer := 1;
    b integer := 1;
    k integer := 1;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'appends need the isolation level read committed' USING ERRCODE = 'TF002';
    END IF;

    -- 1. The lock, in a statement of its own: every statement below takes a snapshot that is newer than the lock, and
    --    so sees all that its former holders committed.
    PERFORM 1 FROM twofold_head WHERE id = 1 FOR UPDATE;

    -- 2. What the log says.
    base := coalesce((SELECT position FROM twofold_events ORDER BY position DESC LIMIT 1), 0);
    --    An expected version that holds is found by looking at it and the next one only, however long the stream is.
    SELECT array_agg(s.version), array_agg(s.ending), bool_or(
        s.ending IS NOT NULL OR s.version <> s.expected AND NOT (s.expected = -2147483648 AND s.version > 0))
    INTO found_versions, endings, stream_moved
    FROM (
        SELECT w.expected, coalesce((
            SELECT version FROM twofold_events
            WHERE stream_id = w.stream_id AND stream_id <> ''
            AND version >= greatest(w.expected, 0)
            AND version <= CASE WHEN w.expected >= 0 THEN w.expected + 1 ELSE 2147483647 END
            ORDER BY version DESC LIMIT 1), 0) AS version, (
            SELECT type FROM twofold_events
            WHERE stream_id = w.stream_id AND stream_id <> '' AND type IN ('twofold.StreamClosed', 'twofold.StreamTombstoned')
            ORDER BY type DESC LIMIT 1) AS ending
        FROM unnest(s_stream, s_expected) AS w (stream_id, expected)) AS s;
    careful := careful OR coalesce(stream_moved, false);
    IF cardinality(k_append) > 0 AND NOT careful THEN
        careful := EXISTS (SELECT FROM twofold_commands WHERE command_id = ANY (k_id));
    END IF;
    IF cardinality(c_append) > 0 THEN
        --    What matched before a stream was tombstoned may be removed: no condition from before that can be judged.
        last_tombstone := coalesce((
            SELECT position FROM twofold_events WHERE type = 'twofold.StreamTombstoned'
            ORDER BY position DESC LIMIT 1), 0);
        conflicting := ARRAY(
            SELECT DISTINCT c.append FROM unnest(c_append, c_after, c_tag, c_more, c_types)
                AS c (append, after, tag, more, types)
            WHERE CASE
                WHEN c.after >= base THEN false
                WHEN c.after < last_tombstone THEN true
                WHEN c.tag IS NULL AND c.types IS NULL THEN true
                WHEN c.tag IS NULL THEN EXISTS (
                    SELECT FROM twofold_events AS v
                    WHERE v.position > c.after AND v.type = ANY (c.types::text[]))
                ELSE EXISTS (
                    SELECT FROM twofold_event_tags AS t
                    WHERE t.tag = c.tag AND t.position > c.after
                    AND (c.types IS NULL OR EXISTS (
                        SELECT FROM twofold_events AS v
                        WHERE v.position = t.position AND v.type = ANY (c.types::text[])))
                    AND (c.more IS NULL OR NOT EXISTS (
                        SELECT FROM unnest(c.more::text[]) AS m (tag) WHERE NOT EXISTS (
                            SELECT FROM twofold_event_tags AS o WHERE o.tag = m.tag AND o.position = t.position))))
            END);
        careful := careful OR cardinality(conflicting) > 0;
    END IF;

    -- 3. Unless it is plain that all hold: judge append by append.
    IF careful THEN
        found_versions := ARRAY(
            SELECT coalesce((
                SELECT version FROM twofold_events
                WHERE stream_id = w.stream_id AND stream_id <> '' ORDER BY version DESC LIMIT 1), 0)
            FROM unnest(s_stream) AS w (stream_id));
        known_ids := ARRAY(SELECT event_id FROM twofold_events WHERE event_id = ANY (e_id));
        known_commands := ARRAY(SELECT command_id FROM twofold_commands WHERE command_id = ANY (k_id));
        IF cardinality(known_commands) > 0 THEN
            earlier := ARRAY(
                SELECT v.value FROM twofold_commands AS c
                JOIN twofold_events AS e ON e.position BETWEEN c.first_position AND c.last_position,
                LATERAL (VALUES
                    (1, uuid_send(c.command_id)), (2, c.content_hash), (3, convert_to(c.result, 'UTF8')),
                    (4, convert_to(c.name, 'UTF8')),
                    (5, int8send(c.first_position)), (6, int8send(c.last_position)), (7, int8send(c.record_checksum)),
                    (8, int8send(e.position)), (9, int4send(e.version)), (10, int8send(e.recorded_at)),
                    (11, int8send(e.checksum)), (12, convert_to(e.stream_id, 'UTF8')),
                    (13, convert_to(e.stream_type, 'UTF8')), (14, convert_to(e.type, 'UTF8')),
                    (15, int4send(e.schema_version)), (16, uuid_send(e.event_id)),
                    (17, convert_to(e.payload::text, 'UTF8')), (18, convert_to(e.metadata::text, 'UTF8')),
                    (19, convert_to(e.tags::text, 'UTF8'))) AS v (place, value)
                WHERE c.command_id = ANY (known_commands) ORDER BY c.command_id, e.position, v.place);
        END IF;
        verdicts := array_fill(0, ARRAY[cardinality(a_events)]);
        stale := verdicts;
        versions := verdicts;
        firsts := verdicts;
        lasts := verdicts;
        places := array_fill(NULL::bigint, ARRAY[cardinality(e_id)]);
        place_versions := array_fill(0, ARRAY[cardinality(e_id)]);
        last := base;
        FOR a IN 1 .. cardinality(a_events) LOOP
            verdict := 0;
            IF e_id[e + 1 : e + a_events[a]] && known_ids THEN
                verdict := 1;
            END IF;
            IF k_append[k] = a THEN
                IF k_id[k] = ANY (known_commands) THEN
                    verdict := 1;
                END IF;
                k := k + 1;
            END IF;
            IF verdict = 0 THEN
                FOR i IN e + 1 .. e + a_events[a] LOOP
                    IF endings[e_slot[i]] IS NOT NULL AND (
                        e_type[i] <> 'twofold.StreamTombstoned' OR endings[e_slot[i]] = 'twofold.StreamTombstoned') THEN
                        verdict := 4;
                        stale[a] := i - e;
                        versions[a] := found_versions[e_slot[i]];
                        EXIT;
                    END IF;
                END LOOP;
            END IF;
            WHILE x_append[x] = a LOOP
                slot := x_slot[x];
                IF verdict = 0 AND x_expected[x] <> found_versions[slot]
                   AND NOT (x_expected[x] = -2147483648 AND found_versions[slot] > 0) THEN
                    verdict := 2;
                    stale[a] := x;
                    versions[a] := found_versions[slot];
                END IF;
                x := x + 1;
            END LOOP;
            IF verdict = 0 AND a = ANY (conflicting) THEN
                verdict := 3;
            END IF;
            WHILE b_append[b] = a LOOP
                IF verdict = 0 AND places[b_event[b]] > b_after[b] THEN
                    verdict := 3;
                END IF;
                b := b + 1;
            END LOOP;
            verdicts[a] := verdict;
            IF verdict = 0 THEN
                firsts[a] := last + 1;
                FOR i IN e + 1 .. e + a_events[a] LOOP
                    last := last + 1;
                    places[i] := last;
                    slot := e_slot[i];
                    IF slot > 0 THEN
                        found_versions[slot] := found_versions[slot] + 1;
                        place_versions[i] := found_versions[slot];
                        IF e_type[i] IN ('twofold.StreamClosed', 'twofold.StreamTombstoned') THEN
                            endings[slot] := e_type[i];
                        END IF;
                    END IF;
                END LOOP;
                lasts[a] := last;
                versions[a] := place_versions[e + a_events[a]];
            END IF;
            e := e + a_events[a];
        END LOOP;
    ELSE
        last := base + cardinality(e_id);
        versions := found_versions;
    END IF;

    -- 4. Store. An id that is known although nothing hinted at it breaks a unique index, and the batch comes again.
    now_us := extract(epoch FROM clock_timestamp()) * 1000000;
    IF last > base THEN
        INSERT INTO twofold_events (
            position, version, recorded_at, checksum,
            stream_id, stream_type, type, schema_version, event_id, payload, metadata, tags)
        SELECT p.place, p.version, now_us, e_content[p.i] # ((p.place * 31 + p.version * 17 + now_us) % 4294967291),
            e_stream[p.i], e_stream_type[p.i], e_type[p.i], e_schema[p.i], e_id[p.i], e_payload[p.i], e_metadata[p.i],
            e_tags[p.i]
        FROM (
            SELECT g.i,
                CASE WHEN careful THEN places[g.i] ELSE base + g.i END AS place,
                CASE WHEN careful THEN place_versions[g.i]
                     WHEN e_slot[g.i] = 0 THEN 0
                     ELSE found_versions[e_slot[g.i]] + e_nth[g.i] END AS version
            FROM generate_series(1, cardinality(e_id)) AS g (i)) AS p
        WHERE p.place IS NOT NULL;
        IF cardinality(t_tag) > 0 THEN
            INSERT INTO twofold_event_tags (tag, position)
            SELECT p.tag, p.place FROM (
                SELECT t.tag, CASE WHEN careful THEN places[t.event] ELSE base + t.event END AS place
                FROM unnest(t_tag, t_event) AS t (tag, event)) AS p
            WHERE p.place IS NOT NULL;
        END IF;
    END IF;
    IF cardinality(k_append) > 0 THEN
        INSERT INTO twofold_commands (
            command_id, content_hash, result, name, first_position, last_position, record_checksum)
        SELECT p.id, p.hash, p.result, p.name, p.first, p.last, p.content # ((p.first * 31 + p.last * 17) % 4294967291)
        FROM (
            SELECT c.id, c.hash, c.result, c.name, c.content,
                CASE WHEN careful THEN firsts[c.append] ELSE base + c.first END AS first,
                CASE WHEN careful THEN lasts[c.append] ELSE base + c.last END AS last
            FROM unnest(k_append, k_id, k_hash, k_result, k_name, k_first, k_last, k_content)
                AS c (append, id, hash, result, name, first, last, content)
            WHERE NOT careful OR verdicts[c.append] = 0) AS p;
    END IF;
    IF last > base THEN
        PERFORM pg_notify('twofold_' || 'twofold_events'::regclass::oid, '');
    END IF;
END $$;

-- Read models in generations, each divided into segments by the hash of a row's key. stored: version with care.
-- Times are microseconds since 1970-01-01 UTC, by the server's clock.

CREATE FUNCTION twofold_now() RETURNS bigint LANGUAGE sql VOLATILE
    AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint';

-- The id of an event as checkpoints store it.
CREATE FUNCTION twofold_hex(uuid) RETURNS text LANGUAGE sql IMMUTABLE
    AS 'SELECT replace($1::text, ''-'', '''')';

-- How far a segment that holds tenants back is complete for one of them; without a name, for those not held back.
CREATE FUNCTION twofold_reached(held_back text, tenant text) RETURNS bigint LANGUAGE sql IMMUTABLE
    AS 'SELECT coalesce($1::jsonb -> ''tenants'' -> $2 ->> 0, $1::jsonb -> ''ahead'' ->> 0)::bigint';

-- One row for each read model that was built: the one that serves, one that is being built, the previous one.
CREATE TABLE twofold_projections (
    name        text    NOT NULL,
    generation  integer NOT NULL,
    version     integer NOT NULL,
    suffix      text    NOT NULL,             -- of the names of its tables
    state       text    NOT NULL,             -- see `GenerationState`
    segments    integer NOT NULL DEFAULT 1,   -- how many it shall have
    fingerprint text    NOT NULL DEFAULT '{}',-- JSON: a digest for each part of the code
    report      text    NOT NULL DEFAULT '',  -- JSON: what came of the last attempt to let it serve
    made_at     bigint  NOT NULL,
    kind        text    NOT NULL,             -- who drives it: see `ProjectionKind`
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
    held_back    text    NOT NULL DEFAULT '',  -- JSON: the tenants that are held back, see `HeldBack`; empty: none
    epoch        bigint  NOT NULL DEFAULT 0,  -- raised when a worker takes the segment, or anything of it changes
    owner        text    NOT NULL DEFAULT '',
    leased_at    bigint  NOT NULL DEFAULT 0,  -- a lease that begins in the future is from before the clock went back
    leased_until bigint  NOT NULL DEFAULT 0,
    moved_at     bigint  NOT NULL DEFAULT 0,
    error        text    NOT NULL DEFAULT '', -- what holds it up
    PRIMARY KEY (name, generation, first_slot)
);

-- Processes that wait for a read model are woken by its steps. They read the table then: a notification proves nothing,
-- as any role can send one.
CREATE FUNCTION twofold_tell_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('twofold_' || TG_RELID, '');
    RETURN NULL;
END $$;
CREATE TRIGGER twofold_tell_step AFTER UPDATE OF position, held_back ON twofold_checkpoints
    FOR EACH ROW WHEN (OLD.position <> NEW.position OR OLD.held_back <> NEW.held_back) EXECUTE FUNCTION twofold_tell_step();

-- Events that failed, and the later ones of the same row, which wait behind them.
CREATE TABLE twofold_parked (
    name       text    NOT NULL,
    generation integer NOT NULL,
    position   bigint  NOT NULL,
    event_id   text    NOT NULL,              -- of the event there, in hexadecimal digits, as in the checkpoints
    slot       integer NOT NULL,
    key        text    NOT NULL,              -- JSON: the key of the row
    cause      text    NOT NULL,              -- empty: it waits behind an earlier one
    traceback  text    NOT NULL,
    parked_at  bigint  NOT NULL,
    retry      integer NOT NULL DEFAULT 0,    -- 1: to be tried again
    PRIMARY KEY (name, generation, position, key)
);

CREATE INDEX twofold_parked_by_key ON twofold_parked (name, generation, key, retry);

-- Events that were skipped by decision, for ever and in every generation, and why.
CREATE TABLE twofold_skipped (
    name      text    NOT NULL,
    position  bigint  NOT NULL,
    event_id  text    NOT NULL,               -- another event that comes to stand there is not skipped
    key       text    NOT NULL,               -- of the row that skips it; empty: all rows do
    cause     text    NOT NULL,
    reason    text    NOT NULL,
    skipped_at bigint  NOT NULL,
    PRIMARY KEY (name, position, key)
);

-- The trail of each consumer through the history of the log, a few seconds apart: what stood where it had come to.
CREATE TABLE twofold_marks (
    name     text   NOT NULL,
    position bigint NOT NULL,
    event_id text   NOT NULL,
    PRIMARY KEY (name, position)
);

-- The workers that run projections.
CREATE TABLE twofold_workers (
    worker      text    PRIMARY KEY,
    projections text    NOT NULL,             -- JSON: what it has the code of, as [[name, version], …]
    seen_at     bigint  NOT NULL,
    seen_until  bigint  NOT NULL
);
