-- What is asked about the instances of one process. `{table}` stands for their table.

-- name: due
SELECT id, version, failures FROM {table}
WHERE next_at <= (SELECT twofold_now()) AND slot >= :first AND slot < :end ORDER BY next_at LIMIT :limit

-- name: next_due
SELECT next_at - (SELECT twofold_now()) FROM {table}
WHERE next_at > (SELECT twofold_now()) AND slot >= :first AND slot < :end ORDER BY next_at LIMIT 1

-- name: fail
UPDATE {table} SET status = 'stuck', failures = :failures, next_at = NULL WHERE id = :id

-- name: counts
SELECT status, count(*), sum(ignored), min(timer_at), min(sent_at), twofold_now() FROM {table} GROUP BY status

-- name: instances
SELECT {columns} FROM {table} WHERE (:status = '' OR status = :status) AND id > :after ORDER BY id LIMIT :limit

-- name: retry
UPDATE {table} SET status = 'running', failures = '', next_at = twofold_now()
WHERE (:id = '' OR id = :id) AND failures <> '' RETURNING id
