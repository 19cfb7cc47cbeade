-- What the event log reads and writes. `-- name:` begins a block; the columns stand in the order of StoredEvent.

-- name: read_range
SELECT position, event_id, ifnull(stream_id, ''), ifnull(stream_type, ''), ifnull(version, 0), type, schema_version,
    CAST(payload AS BLOB), CAST(metadata AS BLOB), CAST(tags AS BLOB), recorded_at, checksum
FROM twofold_events WHERE position > ? AND position < ? ORDER BY position LIMIT ?

-- name: read_range_backwards
SELECT position, event_id, ifnull(stream_id, ''), ifnull(stream_type, ''), ifnull(version, 0), type, schema_version,
    CAST(payload AS BLOB), CAST(metadata AS BLOB), CAST(tags AS BLOB), recorded_at, checksum
FROM twofold_events WHERE position > ? AND position < ? ORDER BY position DESC LIMIT ?

-- name: read_positions
SELECT position, event_id, ifnull(stream_id, ''), ifnull(stream_type, ''), ifnull(version, 0), type, schema_version,
    CAST(payload AS BLOB), CAST(metadata AS BLOB), CAST(tags AS BLOB), recorded_at, checksum
FROM twofold_events WHERE position IN (SELECT value FROM json_each(?)) ORDER BY position

-- name: read_stream
SELECT position, event_id, ifnull(stream_id, ''), ifnull(stream_type, ''), ifnull(version, 0), type, schema_version,
    CAST(payload AS BLOB), CAST(metadata AS BLOB), CAST(tags AS BLOB), recorded_at, checksum
FROM twofold_events WHERE stream_id = ? AND version > ? ORDER BY version LIMIT ?

-- name: read_event
SELECT position, event_id, ifnull(stream_id, ''), ifnull(stream_type, ''), ifnull(version, 0), type, schema_version,
    CAST(payload AS BLOB), CAST(metadata AS BLOB), CAST(tags AS BLOB), recorded_at, checksum
FROM twofold_events WHERE event_id = ?

-- name: head
SELECT ifnull(max(position), 0) FROM twofold_events

-- name: version
SELECT ifnull(max(version), 0) FROM twofold_events WHERE stream_id = ?

-- name: find_command
SELECT command_id, content_hash, CAST(result AS BLOB), first_position, last_position, ifnull(version, 0)
FROM twofold_commands JOIN twofold_events ON position = last_position WHERE command_id = ?

-- name: insert_event
INSERT INTO twofold_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_tag
INSERT INTO twofold_event_tags VALUES (?, ?)

-- name: insert_command
INSERT INTO twofold_commands VALUES (?, ?, CAST(? AS TEXT), ?, ?)
