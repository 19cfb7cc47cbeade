-- name: make
CREATE TABLE IF NOT EXISTS twofold_keys (
    id text PRIMARY KEY,
    wrapped {bytes},          -- NULL: destroyed
    master text NOT NULL,
    created_at bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS twofold_forgotten (
    number bigint PRIMARY KEY,
    id text NOT NULL UNIQUE,
    at bigint NOT NULL,
    reason text NOT NULL,
    by_whom text NOT NULL,
    state text NOT NULL
)

-- name: find
SELECT id, wrapped, master, created_at FROM twofold_keys WHERE id IN ({ids})

-- name: add
INSERT INTO twofold_keys (id, wrapped, master, created_at) VALUES (:id, :wrapped, :master, :created_at)
ON CONFLICT (id) DO NOTHING

-- name: destroy
INSERT INTO twofold_keys (id, wrapped, master, created_at) VALUES (:id, NULL, '', :at)
ON CONFLICT (id) DO UPDATE SET wrapped = NULL, master = ''

-- name: remove
DELETE FROM twofold_keys WHERE substr(id, 1, length(:prefix)) = :prefix

-- name: last_forgotten
SELECT coalesce(max(number), 0) FROM twofold_forgotten

-- name: forget
INSERT INTO twofold_forgotten (number, id, at, reason, by_whom, state)
VALUES (:number, :id, :at, :reason, :by_whom, 'begun')

-- name: settle
UPDATE twofold_forgotten SET state = 'done' WHERE id = :id

-- name: forgotten_of
SELECT number, id, at, reason, by_whom, state FROM twofold_forgotten WHERE id = :id

-- name: forgotten
SELECT number, id, at, reason, by_whom, state FROM twofold_forgotten WHERE number > :after ORDER BY number LIMIT :limit

-- name: keys
SELECT id, wrapped, master, created_at FROM twofold_keys
WHERE id > :after AND wrapped IS NOT NULL ORDER BY id LIMIT :limit

-- name: rewrap
UPDATE twofold_keys SET wrapped = :wrapped, master = :master WHERE id = :id AND wrapped = :old
