-- What the event log reads and writes. `-- name:` begins a block. `{columns}` are those of `StoredEvent`: see
-- `event_columns.py`, which has the INSERT of events, too. Placeholders have no numbers: of those, Python 3.12 warns.

-- name: read_range
SELECT {columns}
FROM twofold_events WHERE position > ? AND position < ? ORDER BY position LIMIT ?

-- name: read_range_backwards
SELECT {columns}
FROM twofold_events WHERE position > ? AND position < ? ORDER BY position DESC LIMIT ?

-- name: read_positions
SELECT {columns}
FROM twofold_events WHERE position IN (SELECT value FROM json_each(?)) ORDER BY position

-- name: read_stream
SELECT {columns}
FROM twofold_events WHERE stream_id = ? AND stream_id <> '' AND version > ? ORDER BY version LIMIT ?

-- name: read_stream_without
SELECT {columns}
FROM twofold_events WHERE stream_id = ? AND stream_id <> '' AND version > ? AND (
    type NOT IN (SELECT value FROM json_each(?)) OR version = ? + 1
    OR version = (SELECT max(version) FROM twofold_events WHERE stream_id = ? AND stream_id <> ''))
ORDER BY version LIMIT ?

-- name: read_short_stream
-- Of a stream with an event of the version that is the limit, that one alone: it says that the stream is long.
SELECT {columns}
FROM twofold_events WHERE stream_id = ? AND stream_id <> '' AND version <= ? AND version >= ifnull(
    (SELECT e.version FROM twofold_events AS e WHERE e.stream_id = ? AND e.stream_id <> '' AND e.version = ?), 1)
ORDER BY version

-- name: read_event
SELECT {columns}
FROM twofold_events WHERE event_id = ?

-- name: read_mentioning
SELECT {columns}
FROM twofold_events NOT INDEXED
WHERE instr(metadata, ?) > 0 AND position > ? AND position < ? ORDER BY position LIMIT ?

-- name: read_mentioning_backwards
SELECT {columns}
FROM twofold_events NOT INDEXED
WHERE instr(metadata, ?) > 0 AND position > ? AND position < ? ORDER BY position DESC LIMIT ?

-- name: mark
SELECT position, event_id FROM twofold_events WHERE position = ?

-- name: mark_of_log
SELECT 0, log_id FROM twofold_log

-- name: adopt
UPDATE twofold_log SET log_id = ? WHERE NOT EXISTS (SELECT 1 FROM twofold_events)

-- name: fork
SELECT forked_from, forked_at FROM twofold_log WHERE forked_from IS NOT NULL

-- name: mark_fork
UPDATE twofold_log SET forked_from = :log, forked_at = :position
WHERE (forked_from = :log AND forked_at = :position) OR NOT EXISTS (SELECT 1 FROM twofold_events)

-- name: last_mark
SELECT position, event_id FROM twofold_events WHERE position <= ? ORDER BY position DESC LIMIT 1

-- name: head
SELECT ifnull(max(position), 0) FROM twofold_events

-- name: last_time
SELECT ifnull((SELECT recorded_at FROM twofold_events ORDER BY position DESC LIMIT 1), 0)

-- name: version
SELECT ifnull(max(version), 0), ifnull((
    SELECT max(type) FROM twofold_events
    WHERE stream_id = ? AND type IN ('twofold.StreamClosed', 'twofold.StreamTombstoned')), '')
FROM twofold_events WHERE stream_id = ? AND stream_id <> ''

-- name: last_of_stream
SELECT {columns}
FROM twofold_events WHERE stream_id = ? AND stream_id <> '' ORDER BY version DESC LIMIT 1

-- name: find_command
SELECT command_id, content_hash, CAST(result AS BLOB), name, first_position, last_position, record_checksum, {columns}
FROM twofold_commands LEFT JOIN twofold_events ON position BETWEEN first_position AND last_position
WHERE command_id = ? ORDER BY position

-- name: insert_tag
INSERT INTO twofold_event_tags VALUES (?, ?)

-- name: insert_command
INSERT INTO twofold_commands VALUES (?, ?, CAST(? AS TEXT), ?, ?, ?, ?)

-- name: read_commands
SELECT command_id, content_hash, CAST(result AS BLOB), name, first_position, last_position, record_checksum
FROM twofold_commands WHERE command_id > ? ORDER BY command_id LIMIT ?

-- name: end_of_commands
SELECT max(command_id) FROM (
    SELECT command_id FROM twofold_commands WHERE command_id > :after ORDER BY command_id LIMIT :limit)

-- name: count_old_commands
SELECT count(*) FROM twofold_commands WHERE command_id > :after AND command_id <= :end
AND EXISTS (SELECT 1 FROM twofold_events WHERE position = last_position AND recorded_at < :before)
AND (:tag = '' OR EXISTS (SELECT 1 FROM twofold_event_tags WHERE tag = :tag AND position = last_position))

-- name: let_commands_be_pruned
UPDATE twofold_log SET prunes_commands = ?

-- name: prune_commands
DELETE FROM twofold_commands WHERE command_id > :after AND command_id <= :end
AND EXISTS (SELECT 1 FROM twofold_events WHERE position = last_position AND recorded_at < :before)
AND (:tag = '' OR EXISTS (SELECT 1 FROM twofold_event_tags WHERE tag = :tag AND position = last_position))

-- name: tagged_types
SELECT type, tags FROM twofold_tagged_types

-- name: record_tagged_type
INSERT INTO twofold_tagged_types VALUES (?, ?) ON CONFLICT (type) DO UPDATE SET tags = excluded.tags

-- name: last_of_type
SELECT ifnull(max(position), 0) FROM twofold_events WHERE type = ?

-- name: let_tags_be_added
UPDATE twofold_log SET adds_tags = ?

-- name: replace_tags
UPDATE twofold_events SET tags = ?, checksum = ? WHERE position = ? AND checksum = ?

-- name: index_tags
INSERT OR IGNORE INTO twofold_event_tags
SELECT tag.value, e.position FROM twofold_events e, json_each(e.tags) tag WHERE e.position = ?

-- name: read_stream_ends
WITH RECURSIVE next (name, number) AS (
    SELECT (SELECT min(stream_id) FROM twofold_events WHERE stream_id > :after AND stream_id <> ''), 1
    UNION ALL
    SELECT (SELECT min(stream_id) FROM twofold_events WHERE stream_id > next.name AND stream_id <> ''), number + 1
    FROM next WHERE next.name IS NOT NULL AND number < :limit)
SELECT {columns}
FROM next JOIN twofold_events ON stream_id = next.name AND stream_id <> '' AND version = (
    SELECT max(e.version) FROM twofold_events AS e WHERE e.stream_id = next.name AND e.stream_id <> '')
ORDER BY stream_id

-- name: measure_stream
SELECT count(*), ifnull(sum(length(CAST(payload AS BLOB)) + length(CAST(metadata AS BLOB)) + length(CAST(tags AS BLOB))), 0)
FROM twofold_events WHERE stream_id = ? AND stream_id <> '' AND type <> 'twofold.EventRemoved'

-- name: let_events_be_removed
UPDATE twofold_log SET removes_events = ?

-- name: remove_event
UPDATE twofold_events
SET type = 'twofold.EventRemoved', schema_version = 1, payload = ?, metadata = '{}', tags = ?, checksum = ?
WHERE position = ? AND checksum = ?

-- name: remove_tag
DELETE FROM twofold_event_tags WHERE tag = ? AND position = ?

-- name: count_tag_change
UPDATE twofold_tag_changes SET times = times + 1

-- name: tag_changes
SELECT times FROM twofold_tag_changes

-- name: find_snapshot
SELECT fold, subject, version, position, event_id, event_checksum, tag_changes, fingerprint, CAST(state AS BLOB),
    saved_at, checksum
FROM twofold_snapshots WHERE fold = ? AND subject = ?

-- name: read_snapshots
SELECT fold, subject, version, position, event_id, event_checksum, tag_changes, fingerprint, CAST(state AS BLOB),
    saved_at, checksum
FROM twofold_snapshots WHERE (fold, subject) > (?, ?) ORDER BY fold, subject LIMIT ?

-- name: save_snapshot
-- The state of the highest position stays, unless it is the one that was found to be useless.
INSERT INTO twofold_snapshots AS s VALUES (?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?)
ON CONFLICT (fold, subject) DO UPDATE SET
    version = excluded.version, position = excluded.position, event_id = excluded.event_id,
    event_checksum = excluded.event_checksum, tag_changes = excluded.tag_changes, fingerprint = excluded.fingerprint,
    state = excluded.state, saved_at = excluded.saved_at, checksum = excluded.checksum
WHERE excluded.position > s.position OR s.checksum = ?

-- name: delete_snapshots
DELETE FROM twofold_snapshots WHERE fold = ifnull(?, fold) AND subject = ifnull(?, subject)

-- name: untagged
SELECT e.position FROM twofold_events e, json_each(e.tags) tag
WHERE NOT EXISTS (SELECT 1 FROM twofold_event_tags t WHERE t.tag = tag.value AND t.position = e.position) LIMIT 1

-- name: count_tags
SELECT (SELECT ifnull(sum((SELECT count(DISTINCT value) FROM json_each(e.tags))), 0) FROM twofold_events e),
    (SELECT count(*) FROM twofold_event_tags)

-- name: lost_command
SELECT last_position FROM twofold_commands
WHERE last_position > (SELECT ifnull(max(position), 0) FROM twofold_events) LIMIT 1

-- name: count_types
SELECT type, count(*) FROM twofold_events INDEXED BY twofold_events_by_type GROUP BY type ORDER BY type

-- name: count_commands
SELECT count(*) FROM twofold_commands

-- name: applied
SELECT ifnull(max(number), 0) FROM twofold_migrations

-- name: archives
SELECT number, events, size, sha256, changes FROM twofold_archives ORDER BY number

-- name: begin_archive
INSERT INTO twofold_archives SELECT ifnull(max(number), 0) + 1, 0, 0, '', 1 FROM twofold_archives RETURNING number

-- name: record_archive
UPDATE twofold_archives SET events = :events, size = :size, sha256 = :sha256,
    changes = CASE WHEN :changes = 0 AND changes = :seen THEN 0 ELSE max(changes, 1) END
WHERE number = :number AND sha256 = :found

-- name: unsettle_archive
UPDATE twofold_archives SET changes = changes + 1 WHERE number = ?

-- name: archives_of_stream
SELECT DISTINCT payload FROM twofold_events
WHERE stream_id = ? AND stream_id <> '' AND payload GLOB '{"~archived":*'

-- name: read_unarchived
SELECT {columns}
FROM twofold_events WHERE stream_id = ? AND stream_id <> '' AND version > ? AND payload NOT GLOB '{"~archived":*'
AND type NOT IN ('twofold.StreamClosed', 'twofold.StreamTombstoned', 'twofold.EventRemoved') ORDER BY version LIMIT ?

-- name: measure_unarchived
SELECT :stream, count(*), ifnull(sum(length(CAST(payload AS BLOB))), 0)
FROM twofold_events WHERE stream_id = :stream AND stream_id <> '' AND payload NOT GLOB '{"~archived":*'
AND type NOT IN ('twofold.StreamClosed', 'twofold.StreamTombstoned', 'twofold.EventRemoved')

-- name: let_events_be_archived
UPDATE twofold_log SET archives_events = ?

-- name: archive_payload
UPDATE twofold_events SET payload = ?
WHERE position = ? AND checksum = ? AND payload NOT GLOB '{"~archived":*' AND type NOT IN ('twofold.StreamClosed', 'twofold.StreamTombstoned', 'twofold.EventRemoved')
