-- What all engines say alike about read models, their segments and who works on them. `-- name:` begins a block.
-- `twofold_now()` is the database's clock, in microseconds since 1970-01-01 UTC. A step never shortens a lease: appends
-- take steps, too, beside the holder. A lease from before the clock went back begins in the future, and does not hold. Where the engine locks rows, who changes several segments locks them in their order.
-- `twofold_reached()` is `reached` of `held_back.py`: how far a segment that holds tenants back is complete for one of them.
-- Epochs and positions come again when the database is restored: a step names the events at its positions, too. The id of
-- an event is what `twofold_hex` makes of that in the log.

-- name: take_step
UPDATE twofold_checkpoints SET position = :after, event_id = :event_id, held_back = :held_after,
    moved_at = twofold_now(), error = '',
    leased_at = CASE WHEN leased_until < twofold_now() + :lease OR leased_at > twofold_now()
        THEN twofold_now() ELSE leased_at END,
    leased_until = CASE WHEN leased_until < twofold_now() + :lease OR leased_at > twofold_now()
        THEN twofold_now() + :lease ELSE leased_until END
WHERE name = :name AND generation = :generation AND first_slot = :first AND epoch = :epoch AND position = :before
AND (event_id = :before_id OR event_id = '' OR :before_id = '') AND held_back = :held_before
RETURNING 1

-- name: event_stands
SELECT 1 FROM twofold_events WHERE position = :stands AND twofold_hex(event_id) = :stands_id

-- name: park
INSERT INTO twofold_parked (name, generation, position, event_id, slot, key, cause, traceback, parked_at)
VALUES (:name, :generation, :position, :event_id, :slot, :key, :cause, :traceback, twofold_now())
ON CONFLICT (name, generation, position, key) DO UPDATE
SET event_id = excluded.event_id, cause = excluded.cause, traceback = excluded.traceback, retry = 0

-- name: release
DELETE FROM twofold_parked WHERE name = :name AND generation = :generation AND position = :position AND key = :key

-- name: generations
SELECT name, generation, version, suffix, state, segments, fingerprint, report, made_at, kind
FROM twofold_projections ORDER BY name, generation

-- name: generations_of
SELECT name, generation, version, suffix, state, segments, fingerprint, report, made_at, kind
FROM twofold_projections WHERE name = :name ORDER BY generation

-- name: make_generation
INSERT INTO twofold_projections (name, generation, version, suffix, state, segments, fingerprint, made_at, kind)
VALUES (:name, :generation, :version, :suffix, :state, :segments, :fingerprint, twofold_now(), :kind)

-- name: make_segment
INSERT INTO twofold_checkpoints (name, generation, first_slot, end_slot, position, event_id, epoch, moved_at)
VALUES (:name, :generation, :first, :end, :position, :event_id, :epoch, :epoch)

-- name: put_segment
INSERT INTO twofold_checkpoints (name, generation, first_slot, end_slot, position, event_id, held_back, epoch, moved_at)
VALUES (:name, :generation, :first, :end, :position, :event_id, :held_back, :epoch, twofold_now())

-- name: forget_generation
DELETE FROM twofold_projections WHERE name = :name AND generation = :generation

-- name: forget_segments
DELETE FROM twofold_checkpoints WHERE name = :name AND generation = :generation

-- name: forget_parked
DELETE FROM twofold_parked WHERE name = :name AND generation = :generation

-- name: forget_parked_behind
DELETE FROM twofold_parked WHERE name = :name AND generation = :generation AND position > :position

-- name: forget_skipped_behind
DELETE FROM twofold_skipped WHERE name = :name AND position > :position

-- name: remember_marks
INSERT INTO twofold_marks (name, position, event_id)
SELECT c.name, c.position, max(c.event_id) FROM twofold_checkpoints AS c
JOIN twofold_projections AS p ON p.name = c.name AND p.generation = c.generation
WHERE p.state IN ({answering}) AND c.event_id <> '' GROUP BY c.name, c.position
ON CONFLICT (name, position) DO UPDATE SET event_id = excluded.event_id
    WHERE twofold_marks.event_id <> excluded.event_id

-- name: marks
SELECT position, event_id FROM twofold_marks WHERE name = :name ORDER BY position DESC LIMIT :limit

-- name: forget_marks
DELETE FROM twofold_marks WHERE name = :name AND position > :position

-- name: thin_marks
DELETE FROM twofold_marks WHERE EXISTS (
    SELECT 1 FROM twofold_marks AS later
    WHERE later.name = twofold_marks.name AND later.position > twofold_marks.position
    AND later.position - later.position % :coarse = twofold_marks.position - twofold_marks.position % :coarse)
AND position < (SELECT max(last.position) FROM twofold_marks AS last WHERE last.name = twofold_marks.name) - :recent

-- name: change_state
UPDATE twofold_projections SET state = :after WHERE name = :name AND generation = :generation AND state = :before
RETURNING 1

-- name: set_kind
UPDATE twofold_projections SET kind = :kind WHERE name = :name AND generation = :generation

-- name: set_fingerprint
UPDATE twofold_projections SET fingerprint = :fingerprint WHERE name = :name AND generation = :generation

-- name: set_report
UPDATE twofold_projections SET report = :report WHERE name = :name AND generation = :generation

-- name: set_segments
UPDATE twofold_projections SET segments = :segments WHERE name = :name AND generation = :generation

-- name: checkpoints
SELECT name, generation, first_slot, end_slot, position, event_id, epoch, owner, leased_until, moved_at, error,
    leased_at, twofold_now(), held_back
FROM twofold_checkpoints ORDER BY name, generation, first_slot

-- name: checkpoints_of
SELECT name, generation, first_slot, end_slot, position, event_id, epoch, owner, leased_until, moved_at, error,
    leased_at, twofold_now(), held_back
FROM twofold_checkpoints WHERE name = :name AND generation = :generation ORDER BY first_slot

-- name: answering
SELECT p.name, p.version, min(c.position) FROM twofold_projections AS p
JOIN twofold_checkpoints AS c ON c.name = p.name AND c.generation = p.generation
WHERE p.state IN ({answering}) GROUP BY p.name, p.version ORDER BY p.name

-- name: segments_to_write
SELECT p.generation, p.suffix, p.version, CASE WHEN p.state IN ({paused}) THEN 1 ELSE 0 END, c.first_slot, c.end_slot, c.epoch, c.position, c.error, c.held_back
FROM twofold_projections AS p JOIN twofold_checkpoints AS c ON c.name = p.name AND c.generation = p.generation
WHERE p.name = :name AND (p.generation = :generation OR (:generation = 0 AND p.state IN ({answering})))
ORDER BY c.first_slot /* FOR UPDATE */

-- name: parked_and_skipped
SELECT 0, '', key, max(retry) FROM twofold_parked WHERE name = :name AND generation = :generation GROUP BY key
UNION ALL SELECT position, event_id, key, 0 FROM twofold_skipped WHERE name = :name AND position > :after

-- name: position_of
SELECT min(position) FROM twofold_checkpoints WHERE name = :name AND generation = :generation

-- name: serving
SELECT name, generation, version, suffix, state, segments, fingerprint, report, made_at, kind,
    (SELECT min(c.position) FROM twofold_checkpoints AS c WHERE c.name = p.name AND c.generation = p.generation),
    EXISTS (SELECT 1 FROM twofold_parked AS q WHERE q.name = p.name AND q.generation = p.generation),
    EXISTS (SELECT 1 FROM twofold_checkpoints AS c
        WHERE c.name = p.name AND c.generation = p.generation AND c.held_back <> '')
FROM twofold_projections AS p WHERE name = :name ORDER BY generation

-- name: source
SELECT coalesce(min(CASE WHEN held_back = '' OR :tenant = '' THEN position ELSE twofold_reached(held_back, :tenant) END), 0),
    coalesce(max(CASE WHEN held_back = '' THEN position ELSE twofold_reached(held_back, :tenant) END), 0), EXISTS (
    SELECT 1 FROM twofold_parked AS q
    WHERE q.name = :name AND q.generation = :generation AND (:key = '' OR q.key = :key))
FROM twofold_checkpoints WHERE name = :name AND generation = :generation
AND (:slot < 0 OR (first_slot <= :slot AND end_slot > :slot))

-- name: serving_source
WITH asked AS (SELECT generation FROM twofold_projections WHERE name = :name AND state IN ({answering}))
SELECT coalesce(min(CASE WHEN c.held_back = '' OR :tenant = '' THEN c.position
        ELSE twofold_reached(c.held_back, :tenant) END), 0),
    coalesce(max(CASE WHEN c.held_back = '' THEN c.position ELSE twofold_reached(c.held_back, :tenant) END), 0), EXISTS (
    SELECT 1 FROM twofold_parked AS q WHERE q.name = :name AND q.generation IN (SELECT generation FROM asked)
    AND (:key = '' OR q.key = :key))
FROM twofold_checkpoints AS c WHERE c.name = :name AND c.generation IN (SELECT generation FROM asked)
AND (:slot < 0 OR (c.first_slot <= :slot AND c.end_slot > :slot))

-- name: lease
UPDATE twofold_checkpoints SET owner = :owner, epoch = epoch + 1, leased_at = twofold_now(), leased_until = twofold_now() + :lease
WHERE name = :name AND generation = :generation AND first_slot = :first AND epoch = :epoch
RETURNING epoch

-- name: renew
UPDATE twofold_checkpoints SET leased_at = twofold_now(), leased_until = twofold_now() + :lease
WHERE name = :name AND generation = :generation AND first_slot = :first AND epoch = :epoch
RETURNING 1

-- name: renew_at
UPDATE twofold_checkpoints SET leased_at = twofold_now(), leased_until = twofold_now() + :lease
WHERE name = :name AND generation = :generation AND first_slot = :first AND epoch = :epoch AND position = :position
AND (event_id = :event_id OR event_id = '' OR :event_id = '')
RETURNING 1

-- name: lease_left
SELECT leased_until - twofold_now() FROM twofold_checkpoints
WHERE name = :name AND generation = :generation AND first_slot = :first AND epoch = :epoch AND position = :position
AND (event_id = :event_id OR event_id = '' OR :event_id = '') AND leased_at <= twofold_now()

-- name: give_back
UPDATE twofold_checkpoints SET owner = '', leased_at = 0, leased_until = 0
WHERE name = :name AND generation = :generation AND first_slot = :first AND epoch = :epoch

-- name: seize
UPDATE twofold_checkpoints SET owner = :owner, epoch = epoch + 1, leased_at = twofold_now(), leased_until = twofold_now() + :lease
WHERE (name, generation, first_slot) IN (
    SELECT name, generation, first_slot FROM twofold_checkpoints
    WHERE name = :name AND generation = :generation ORDER BY name, generation, first_slot /* FOR UPDATE */)
RETURNING first_slot

-- name: renew_all
UPDATE twofold_checkpoints SET leased_at = twofold_now(), leased_until = twofold_now() + :lease
WHERE (name, generation, first_slot) IN (
    SELECT name, generation, first_slot FROM twofold_checkpoints
    WHERE owner = :owner ORDER BY name, generation, first_slot /* FOR UPDATE */)

-- name: give_back_all
UPDATE twofold_checkpoints SET owner = '', leased_at = 0, leased_until = 0
WHERE (name, generation, first_slot) IN (
    SELECT name, generation, first_slot FROM twofold_checkpoints
    WHERE owner = :owner ORDER BY name, generation, first_slot /* FOR UPDATE */)

-- name: set_error
UPDATE twofold_checkpoints SET error = :error
WHERE name = :name AND generation = :generation AND first_slot = :first AND epoch = :epoch

-- name: fence
UPDATE twofold_checkpoints SET epoch = epoch + 1, moved_at = twofold_now()
WHERE (name, generation, first_slot) IN (
    SELECT name, generation, first_slot FROM twofold_checkpoints
    WHERE name = :name AND generation = :generation ORDER BY name, generation, first_slot /* FOR UPDATE */)

-- name: set_position
UPDATE twofold_checkpoints SET position = :position, event_id = :event_id, held_back = '', epoch = epoch + 1,
    moved_at = twofold_now(), error = ''
WHERE (name, generation, first_slot) IN (
    SELECT name, generation, first_slot FROM twofold_checkpoints
    WHERE name = :name AND generation = :generation ORDER BY name, generation, first_slot /* FOR UPDATE */)

-- name: end_segment
UPDATE twofold_checkpoints SET end_slot = :end, epoch = epoch + 1
WHERE name = :name AND generation = :generation AND first_slot = :first AND epoch = :epoch
RETURNING epoch

-- name: annex
UPDATE twofold_checkpoints SET end_slot = :end, epoch = :raised
WHERE name = :name AND generation = :generation AND first_slot = :first AND epoch = :epoch AND held_back = ''
RETURNING 1

-- name: split_off
INSERT INTO twofold_checkpoints (
    name, generation, first_slot, end_slot, position, event_id, held_back, epoch, owner, leased_at, leased_until, moved_at)
SELECT name, generation, :first, :end, position, event_id, held_back, epoch, owner, leased_at, leased_until, moved_at
FROM twofold_checkpoints WHERE name = :name AND generation = :generation AND first_slot = :parent

-- name: remove_segment
DELETE FROM twofold_checkpoints
WHERE name = :name AND generation = :generation AND first_slot = :first AND epoch = :epoch AND position = :position AND held_back = ''
RETURNING 1

-- name: parked
SELECT position, event_id, slot, key, cause, traceback, parked_at, retry
FROM twofold_parked WHERE name = :name AND generation = :generation ORDER BY position, key LIMIT :limit

-- name: retrying
SELECT count(*) FROM twofold_parked WHERE name = :name AND generation = :generation AND retry = 1

-- name: mask_parked
UPDATE twofold_parked SET cause = '(forgotten)', traceback = ''
WHERE position = :position AND cause <> '' AND cause <> '(forgotten)' RETURNING position

-- name: mask_skipped
UPDATE twofold_skipped SET cause = '(forgotten)'
WHERE position = :position AND cause <> '' AND cause <> '(forgotten)' RETURNING position

-- name: parked_positions
SELECT DISTINCT name, position FROM twofold_parked ORDER BY position

-- name: parked_counts
SELECT name, generation, count(*), min(position) FROM twofold_parked GROUP BY name, generation

-- name: parked_keys
SELECT DISTINCT key, slot FROM twofold_parked
WHERE name = :name AND generation = :generation AND slot >= :first AND slot < :end

-- name: parked_to_retry
SELECT position, key, event_id, cause, traceback FROM twofold_parked AS p
WHERE name = :name AND generation = :generation AND slot >= :first AND slot < :end
AND EXISTS (SELECT 1 FROM twofold_parked AS r
    WHERE r.name = :name AND r.generation = :generation AND r.key = p.key AND r.retry = 1)
ORDER BY position LIMIT :limit

-- name: ask_retry_of_rows
UPDATE twofold_parked SET retry = 1
WHERE name = :name AND generation = :generation AND retry = 0 AND slot >= :first AND slot < :end
AND key IN (SELECT r.key FROM twofold_parked AS r WHERE r.name = :name AND r.generation = :generation AND r.retry = 1)

-- name: ask_retry
UPDATE twofold_parked SET retry = 1
WHERE name = :name AND generation = :generation AND (:key = '' OR key = :key) RETURNING position

-- name: retried
UPDATE twofold_parked SET retry = 0 WHERE name = :name AND generation = :generation AND key = :key

-- name: parked_at
SELECT key, cause, event_id FROM twofold_parked WHERE name = :name AND generation = :generation AND position = :position

-- name: parked_of
SELECT position, cause, event_id FROM twofold_parked WHERE name = :name AND generation = :generation AND key = :key
ORDER BY position

-- name: skip
INSERT INTO twofold_skipped (name, position, event_id, key, cause, reason, skipped_at)
VALUES (:name, :position, :event_id, :key, :cause, :reason, twofold_now())
ON CONFLICT (name, position, key) DO UPDATE
SET event_id = excluded.event_id, cause = excluded.cause, reason = excluded.reason,
    skipped_at = excluded.skipped_at
WHERE twofold_skipped.event_id <> excluded.event_id

-- name: skipped
SELECT position, event_id, key FROM twofold_skipped WHERE name = :name AND position > :after ORDER BY position

-- name: decisions
SELECT position, event_id, key, cause, reason, skipped_at FROM twofold_skipped WHERE name = :name ORDER BY position, key

-- name: see_worker
INSERT INTO twofold_workers (worker, projections, seen_at, seen_until)
VALUES (:worker, :projections, twofold_now(), twofold_now() + :lease)
ON CONFLICT (worker) DO UPDATE
SET projections = excluded.projections, seen_at = excluded.seen_at, seen_until = excluded.seen_until

-- name: forget_workers
DELETE FROM twofold_workers WHERE seen_until < twofold_now() OR seen_at > twofold_now() OR worker = :worker

-- name: workers
SELECT worker, projections FROM twofold_workers WHERE seen_until >= twofold_now() AND seen_at <= twofold_now() ORDER BY worker

-- name: now
SELECT twofold_now()
