-- What the event log reads. `-- name:` begins a block. `{columns}` are those of `StoredEvent`: see `event_columns.py`.

-- name: read_all
SELECT {columns}
FROM twofold_events WHERE position > %(after)s AND position < %(before)s ORDER BY position LIMIT %(limit)s

-- name: read_all_backwards
SELECT {columns}
FROM twofold_events WHERE position > %(after)s AND position < %(before)s ORDER BY position DESC LIMIT %(limit)s

-- name: read_stream
SELECT {columns}
FROM twofold_events
WHERE stream_id = %(stream)s AND stream_id <> '' AND version > %(after)s ORDER BY version LIMIT %(limit)s

-- name: read_stream_without
SELECT {columns}
FROM twofold_events
WHERE stream_id = %(stream)s AND stream_id <> '' AND version > %(after)s AND (
    type <> ALL (%(without)s::text[]) OR version = %(after)s + 1
    OR version = (
        SELECT e.version FROM twofold_events AS e WHERE e.stream_id = %(stream)s AND e.stream_id <> ''
        ORDER BY e.version DESC LIMIT 1))
ORDER BY version LIMIT %(limit)s

-- name: read_short_stream
-- Of a stream with an event of version `limit`, that one alone: it says that the stream is long.
SELECT {columns}
FROM twofold_events
WHERE stream_id = %(stream)s AND stream_id <> '' AND version <= %(limit)s AND version >= coalesce((
    SELECT e.version FROM twofold_events AS e
    WHERE e.stream_id = %(stream)s AND e.stream_id <> '' AND e.version = %(limit)s), 1)
ORDER BY version

-- name: read_events
SELECT {columns}
FROM twofold_events WHERE event_id = ANY (%(ids)s)

-- name: read_mentioning
SELECT {columns}
FROM twofold_events WHERE position > %(after)s AND position < %(before)s AND strpos(metadata::text, %(text)s) > 0
ORDER BY position LIMIT %(limit)s

-- name: read_mentioning_backwards
SELECT {columns}
FROM twofold_events WHERE position > %(after)s AND position < %(before)s AND strpos(metadata::text, %(text)s) > 0
ORDER BY position DESC LIMIT %(limit)s

-- name: read_positions
-- `walks` and `order` are replaced by what selection.py composes.
SELECT {columns}
FROM twofold_events JOIN (
    SELECT DISTINCT position FROM ({walks}) AS walk ORDER BY position {order} LIMIT %(limit)s
) AS found USING (position) ORDER BY position {order}

-- name: covered
-- Rows of version -1, before those that are read: what stands where they begin, and where they end if they are fewer than
-- the limit. One statement is one snapshot, and the function keeps its plan.
SELECT {covered}
FROM twofold_covered(%(after)s, %(before)s)

-- name: adopt
UPDATE twofold_head SET log_id = %(log_id)s WHERE NOT EXISTS (SELECT FROM twofold_events)

-- name: fork
SELECT uuid_send(forked_from), forked_at FROM twofold_head WHERE forked_from IS NOT NULL

-- name: mark_fork
UPDATE twofold_head SET forked_from = %(log)s, forked_at = %(position)s
WHERE (forked_from = %(log)s AND forked_at = %(position)s) OR NOT EXISTS (SELECT FROM twofold_events)

-- name: mark
SELECT position, uuid_send(event_id) FROM twofold_events WHERE position = %(position)s
UNION ALL SELECT 0, uuid_send(log_id) FROM twofold_head WHERE %(position)s = 0

-- name: walk_types
-- Each type's own index walk ends at the limit, whatever else the log holds. Compared and sorted as pairs, so that the
-- planner cannot walk the whole log by position instead, in the hope of finding enough events of a rare type soon.
SELECT p.position FROM unnest(%(types)s::text[]) AS i (type), LATERAL (
    SELECT e.position FROM twofold_events AS e
    WHERE (e.type, e.position) > (i.type, %(after)s) AND (e.type, e.position) < (i.type, %(before)s)
    ORDER BY e.type {order}, e.position {order} LIMIT %(limit)s) AS p

-- name: walk_tags
-- Many items at once: walk along the first tag of each, and look up the rest.
SELECT p.position FROM unnest(%(tags)s::text[], %(more)s::text[], %(tag_types)s::text[]) AS i (tag, more, types), LATERAL (
    SELECT t.position FROM twofold_event_tags AS t
    WHERE t.tag = i.tag AND t.position > %(after)s AND t.position < %(before)s
    AND (i.types IS NULL OR EXISTS (
        SELECT FROM twofold_events AS e WHERE e.position = t.position AND e.type = ANY (i.types::text[])))
    AND (i.more IS NULL OR NOT EXISTS (
        SELECT FROM unnest(i.more::text[]) AS m (tag) WHERE NOT EXISTS (
            SELECT FROM twofold_event_tags AS o WHERE o.tag = m.tag AND o.position = t.position)))
    ORDER BY t.position {order} LIMIT %(limit)s) AS p

-- name: head
SELECT coalesce((SELECT position FROM twofold_events ORDER BY position DESC LIMIT 1), 0)

-- name: examine
SELECT current_setting('server_version'), current_setting('server_version_num')::integer,
    extract(epoch FROM clock_timestamp())::float8,
    coalesce((SELECT recorded_at FROM twofold_events ORDER BY position DESC LIMIT 1), 0),
    current_user::text, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer,
    coalesce((SELECT extract(epoch FROM max(clock_timestamp() - xact_start)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()), 0)::float8,
    current_setting('autovacuum')

-- name: missing_privileges
SELECT p.privilege || ' on ' || t.name FROM (VALUES
    ('twofold_head', 'SELECT, UPDATE'), ('twofold_events', 'SELECT, INSERT'), ('twofold_event_tags', 'SELECT, INSERT'),
    ('twofold_commands', 'SELECT, INSERT'), ('twofold_projections', 'SELECT, INSERT, UPDATE, DELETE'),
    ('twofold_checkpoints', 'SELECT, INSERT, UPDATE, DELETE'), ('twofold_parked', 'SELECT, INSERT, UPDATE, DELETE'),
    ('twofold_workers', 'SELECT, INSERT, UPDATE, DELETE')) AS t (name, privileges),
    LATERAL unnest(string_to_array(t.privileges, ', ')) AS p (privilege)
WHERE NOT has_table_privilege(t.name, p.privilege)

-- name: find_command
SELECT uuid_send(command_id), content_hash, convert_to(result, 'UTF8'), name, first_position, last_position,
    record_checksum,
    {columns}
FROM twofold_commands LEFT JOIN twofold_events ON position BETWEEN first_position AND last_position
WHERE command_id = %(id)s ORDER BY position

-- name: end_of_commands
SELECT command_id FROM (
    SELECT command_id FROM twofold_commands WHERE %(after)s::uuid IS NULL OR command_id > %(after)s::uuid
    ORDER BY command_id LIMIT %(limit)s) AS s
ORDER BY command_id DESC LIMIT 1

-- name: count_old_commands
SELECT count(*) FROM twofold_commands AS c
WHERE (%(after)s::uuid IS NULL OR c.command_id > %(after)s::uuid) AND c.command_id <= %(end)s::uuid
AND EXISTS (SELECT FROM twofold_events AS e WHERE e.position = c.last_position AND e.recorded_at < %(before)s)
AND (%(tag)s::text = '' OR EXISTS (
    SELECT FROM twofold_event_tags AS t WHERE t.tag = %(tag)s::text AND t.position = c.last_position))

-- name: let_commands_be_pruned
SET LOCAL twofold.prunes_commands = 'on'

-- name: prune_commands
DELETE FROM twofold_commands AS c
WHERE (%(after)s::uuid IS NULL OR c.command_id > %(after)s::uuid) AND c.command_id <= %(end)s::uuid
AND EXISTS (SELECT FROM twofold_events AS e WHERE e.position = c.last_position AND e.recorded_at < %(before)s)
AND (%(tag)s::text = '' OR EXISTS (
    SELECT FROM twofold_event_tags AS t WHERE t.tag = %(tag)s::text AND t.position = c.last_position))

-- name: lock_head
SELECT 1 FROM twofold_head WHERE id = 1 FOR UPDATE

-- name: notify
SELECT pg_notify('twofold_' || 'twofold_events'::regclass::oid, '')

-- name: read_commands
SELECT uuid_send(command_id), content_hash, convert_to(result, 'UTF8'), name, first_position, last_position,
    record_checksum
FROM twofold_commands WHERE %(after)s::uuid IS NULL OR command_id > %(after)s::uuid ORDER BY command_id LIMIT %(limit)s

-- name: invalid
SELECT indexrelid::regclass::text FROM pg_index
WHERE indrelid IN ('twofold_events'::regclass, 'twofold_event_tags'::regclass, 'twofold_commands'::regclass)
AND NOT (indisvalid AND indisready)

-- name: tagged_types
SELECT type, tags FROM twofold_tagged_types

-- name: record_tagged_types
INSERT INTO twofold_tagged_types SELECT * FROM unnest(%(types)s::text[], %(tags)s::text[])
ON CONFLICT (type) DO UPDATE SET tags = excluded.tags

-- name: last_of_types
SELECT coalesce(max(e.position), 0) FROM unnest(%(types)s::text[]) AS t (type), LATERAL (
    SELECT position FROM twofold_events WHERE type = t.type ORDER BY position DESC LIMIT 1) AS e

-- name: let_tags_be_added
SET LOCAL twofold.adds_tags = 'on'

-- name: replace_tags
UPDATE twofold_events AS e SET tags = n.tags::json, checksum = n.checksum
FROM unnest(%(positions)s::bigint[], %(found)s::bigint[], %(tags)s::text[], %(checksums)s::bigint[])
    AS n (position, found, tags, checksum)
WHERE e.position = n.position AND e.checksum = n.found

-- name: index_tags
INSERT INTO twofold_event_tags (tag, position)
SELECT tag, e.position FROM twofold_events AS e, LATERAL json_array_elements_text(e.tags) AS t (tag)
WHERE e.position = ANY (%(positions)s::bigint[]) ON CONFLICT DO NOTHING

-- name: read_stream_ends
WITH RECURSIVE next (name, number) AS (
    SELECT (SELECT e.stream_id FROM twofold_events AS e WHERE e.stream_id > %(after)s AND e.stream_id <> ''
        ORDER BY e.stream_id LIMIT 1), 1
    UNION ALL
    SELECT (SELECT e.stream_id FROM twofold_events AS e WHERE e.stream_id > next.name AND e.stream_id <> ''
        ORDER BY e.stream_id LIMIT 1), number + 1
    FROM next WHERE next.name IS NOT NULL AND number < %(limit)s)
SELECT {columns}
FROM next, LATERAL (
    SELECT * FROM twofold_events AS e WHERE e.stream_id = next.name AND e.stream_id <> ''
    ORDER BY e.version DESC LIMIT 1) AS last
ORDER BY stream_id

-- name: find_stream_ends
SELECT {columns}
FROM (SELECT DISTINCT unnest(%(streams)s::text[]) COLLATE "C") AS s (name), LATERAL (
    SELECT * FROM twofold_events AS e WHERE e.stream_id = s.name AND e.stream_id <> ''
    ORDER BY e.version DESC LIMIT 1) AS last

-- name: measure_streams
SELECT stream_id, count(*), sum(octet_length(payload::text) + octet_length(metadata::text) + octet_length(tags::text))
FROM twofold_events
WHERE stream_id = ANY (%(streams)s::text[]) AND stream_id <> '' AND type <> 'twofold.EventRemoved' GROUP BY stream_id

-- name: let_events_be_removed
SET LOCAL twofold.removes_events = 'on'

-- name: remove_events
WITH removed AS (
    UPDATE twofold_events AS e SET type = 'twofold.EventRemoved', schema_version = 1, payload = n.payload::json,
        metadata = '{}', tags = n.tags::json, checksum = n.checksum
    FROM unnest(%(positions)s::bigint[], %(found)s::bigint[], %(payloads)s::text[], %(tags)s::text[], %(checksums)s::bigint[])
        AS n (position, found, payload, tags, checksum)
    WHERE e.position = n.position AND e.checksum = n.found
    RETURNING e.position)
DELETE FROM twofold_event_tags AS t USING removed,
    unnest(%(gone_tags)s::text[], %(gone_positions)s::bigint[]) AS g (tag, position)
WHERE g.position = removed.position AND t.tag = g.tag AND t.position = g.position

-- name: count_tag_change
UPDATE twofold_tag_changes SET times = times + 1

-- name: tag_changes
SELECT times FROM twofold_tag_changes

-- name: find_snapshot
-- One statement is one snapshot of both; without a snapshot, its columns are NULL.
SELECT c.times, s.fold, s.subject, s.version, s.position, uuid_send(s.event_id), s.event_checksum, s.tag_changes,
    s.fingerprint, convert_to(s.state, 'UTF8'), s.saved_at, s.checksum
FROM twofold_tag_changes AS c LEFT JOIN twofold_snapshots AS s ON s.fold = %(fold)s AND s.subject = %(subject)s

-- name: read_snapshots
SELECT s.fold, s.subject, s.version, s.position, uuid_send(s.event_id), s.event_checksum, s.tag_changes,
    s.fingerprint, convert_to(s.state, 'UTF8'), s.saved_at, s.checksum
FROM twofold_snapshots AS s
WHERE (s.fold, s.subject) > (%(fold)s, %(subject)s) ORDER BY s.fold, s.subject LIMIT %(limit)s

-- name: save_snapshot
-- The state of the highest position stays, unless it is the one that was found to be useless.
INSERT INTO twofold_snapshots AS s VALUES (
    %(fold)s, %(subject)s, %(version)s, %(position)s, %(event_id)s, %(event_checksum)s, %(tag_changes)s,
    %(fingerprint)s, %(state)s, %(saved_at)s, %(checksum)s)
ON CONFLICT (fold, subject) DO UPDATE SET
    version = excluded.version, position = excluded.position, event_id = excluded.event_id,
    event_checksum = excluded.event_checksum, tag_changes = excluded.tag_changes, fingerprint = excluded.fingerprint,
    state = excluded.state, saved_at = excluded.saved_at, checksum = excluded.checksum
WHERE excluded.position > s.position OR s.checksum = %(instead_of)s::bigint
RETURNING 1

-- name: delete_snapshots
WITH deleted AS (
    DELETE FROM twofold_snapshots WHERE fold = coalesce(%(fold)s::text, fold) AND subject = coalesce(%(subject)s::text, subject)
    RETURNING 1)
SELECT count(*) FROM deleted

-- name: untagged
SELECT e.position FROM twofold_events AS e, LATERAL json_array_elements_text(e.tags) AS t (tag)
WHERE NOT EXISTS (SELECT FROM twofold_event_tags AS o WHERE o.tag = t.tag AND o.position = e.position)
ORDER BY e.position LIMIT 1

-- name: count_tags
SELECT (SELECT count(*) FROM twofold_events AS e, LATERAL (
        SELECT DISTINCT t.tag FROM json_array_elements_text(e.tags) AS t (tag)) AS each),
    (SELECT count(*) FROM twofold_event_tags)

-- name: lost_command
SELECT last_position FROM twofold_commands
WHERE last_position > coalesce((SELECT position FROM twofold_events ORDER BY position DESC LIMIT 1), 0) LIMIT 1

-- name: has_amcheck
SELECT FROM pg_extension WHERE extname = 'amcheck'
AND has_function_privilege(to_regprocedure('bt_index_check(regclass, boolean)'), 'EXECUTE')

-- name: check_indexes
SELECT bt_index_check(indexrelid, true) FROM pg_index
WHERE indrelid IN ('twofold_events'::regclass, 'twofold_event_tags'::regclass, 'twofold_commands'::regclass)

-- name: inspect
SELECT coalesce((SELECT position FROM twofold_events ORDER BY position DESC LIMIT 1), 0),
    (SELECT count(*) FROM twofold_commands),
    pg_database_size(current_database()),
    (SELECT coalesce(max(number), 0) FROM twofold_migrations)

-- name: count_types
SELECT type, count(*) FROM twofold_events GROUP BY type ORDER BY type

-- name: archives
SELECT number, events, size, sha256, changes FROM twofold_archives ORDER BY number

-- name: begin_archive
INSERT INTO twofold_archives SELECT coalesce(max(number), 0) + 1, 0, 0, '', 1 FROM twofold_archives RETURNING number

-- name: record_archive
UPDATE twofold_archives SET events = %(events)s, size = %(size)s, sha256 = %(sha256)s,
    changes = CASE WHEN %(changes)s = 0 AND changes = %(seen)s THEN 0 ELSE greatest(changes, 1) END
WHERE number = %(number)s AND sha256 = %(found)s

-- name: unsettle_archives
UPDATE twofold_archives SET changes = changes + 1 WHERE number = ANY (%(numbers)s::bigint[])

-- name: archives_of_streams
SELECT DISTINCT payload::text FROM twofold_events
WHERE stream_id = ANY (%(streams)s::text[]) AND stream_id <> '' AND starts_with(payload::text, '{"~archived":')

-- name: read_unarchived
SELECT {columns}
FROM twofold_events WHERE stream_id = %(stream)s AND stream_id <> '' AND version > %(after)s
AND NOT starts_with(payload::text, '{"~archived":') AND type NOT IN ('twofold.StreamClosed', 'twofold.StreamTombstoned', 'twofold.EventRemoved')
ORDER BY version LIMIT %(limit)s

-- name: measure_unarchived
SELECT stream_id, count(*), sum(octet_length(payload::text))
FROM twofold_events WHERE stream_id = ANY (%(streams)s::text[]) AND stream_id <> ''
AND NOT starts_with(payload::text, '{"~archived":') AND type NOT IN ('twofold.StreamClosed', 'twofold.StreamTombstoned', 'twofold.EventRemoved')
GROUP BY stream_id

-- name: lock_archive
SELECT sha256 FROM twofold_archives WHERE number = %(number)s FOR UPDATE

-- name: let_events_be_archived
SET LOCAL twofold.archives_events = 'on'

-- name: archive_payloads
UPDATE twofold_events AS e SET payload = %(payload)s::json
FROM unnest(%(positions)s::bigint[], %(found)s::bigint[]) AS n (position, found)
WHERE e.position = n.position AND e.checksum = n.found AND NOT starts_with(e.payload::text, '{"~archived":')
AND e.type NOT IN ('twofold.StreamClosed', 'twofold.StreamTombstoned', 'twofold.EventRemoved')

-- name: read_at_positions
SELECT {columns}
FROM twofold_events WHERE position = ANY (%(positions)s::bigint[]) ORDER BY position
