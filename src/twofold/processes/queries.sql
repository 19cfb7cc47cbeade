-- What is asked about the instances of one process. `{table}` stands for their table.

-- name: due
SELECT id, version, failures, next_at - (SELECT twofold_now()) FROM {table}
WHERE next_at <= (SELECT twofold_now()) + :soon AND slot >= :first AND slot < :end ORDER BY next_at LIMIT :limit

-- name: fail
UPDATE {table} SET status = 'stuck', failures = :failures, next_at = NULL WHERE id = :id

-- name: counts
SELECT status, count(*), sum(ignored) FROM {table} GROUP BY status

-- name: pressing
-- The time is given, so that PostgreSQL knows how few rows are before it.
SELECT count(CASE WHEN status = 'stuck' THEN 1 END), min(timer_at), min(sent_at) FROM {table}
WHERE next_at <= :until OR status = 'stuck'

-- name: instances
SELECT {columns} FROM {table} WHERE (:status = '' OR status = :status) AND id > :after ORDER BY id LIMIT :limit

-- name: retry
UPDATE {table} SET status = 'running', failures = '', next_at = twofold_now()
WHERE (:id = '' OR id = :id) AND failures <> '' RETURNING id

-- name: end_of_slice
SELECT max(id) FROM (SELECT id FROM {table} WHERE id > :after ORDER BY id LIMIT :limit) AS slice

-- name: ended
SELECT id FROM {table} WHERE id > :after AND id <= :last
AND status IN ('completed', 'cancelled') AND waiting = 0 AND changed_at < (SELECT twofold_now()) - :age

-- name: prune
DELETE FROM {table} WHERE id > :after AND id <= :last
AND status IN ('completed', 'cancelled') AND waiting = 0 AND changed_at < (SELECT twofold_now()) - :age RETURNING id
