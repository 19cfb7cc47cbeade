-- The tables that every read database has, as in SQLite's and PostgreSQL's schema, which say what each column holds;
-- a test holds them alike. Times are microseconds since 1970-01-01 UTC.

CREATE MACRO twofold_now() AS epoch_us(get_current_timestamp());

CREATE MACRO twofold_reached(held_back, tenant) AS CAST(coalesce(
    json_extract_string(json_extract(nullif(held_back, ''), '$.tenants'), concat('/', tenant, '/0')),
    json_extract_string(nullif(held_back, ''), '$.ahead[0]')
) AS BIGINT);

CREATE TABLE twofold_projections (
    name        VARCHAR NOT NULL,
    generation  INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    suffix      VARCHAR NOT NULL,
    state       VARCHAR NOT NULL,
    segments    INTEGER NOT NULL DEFAULT 1,
    fingerprint VARCHAR NOT NULL DEFAULT '{}',
    report      VARCHAR NOT NULL DEFAULT '',
    made_at     BIGINT  NOT NULL,
    kind        VARCHAR NOT NULL,
    PRIMARY KEY (name, generation)
);

CREATE TABLE twofold_checkpoints (
    name         VARCHAR NOT NULL,
    generation   INTEGER NOT NULL,
    first_slot   INTEGER NOT NULL,
    end_slot     INTEGER NOT NULL,
    position     BIGINT  NOT NULL,
    event_id     VARCHAR NOT NULL DEFAULT '',
    held_back    VARCHAR NOT NULL DEFAULT '',
    epoch        BIGINT  NOT NULL DEFAULT 0,
    owner        VARCHAR NOT NULL DEFAULT '',
    leased_at    BIGINT  NOT NULL DEFAULT 0,
    leased_until BIGINT  NOT NULL DEFAULT 0,
    moved_at     BIGINT  NOT NULL DEFAULT 0,
    error        VARCHAR NOT NULL DEFAULT '',
    PRIMARY KEY (name, generation, first_slot)
);

CREATE TABLE twofold_parked (
    name       VARCHAR NOT NULL,
    generation INTEGER NOT NULL,
    position   BIGINT  NOT NULL,
    event_id   VARCHAR NOT NULL,
    slot       INTEGER NOT NULL,
    key        VARCHAR NOT NULL,
    cause      VARCHAR NOT NULL,
    traceback  VARCHAR NOT NULL,
    parked_at  BIGINT  NOT NULL,
    retry      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, generation, position, key)
);

CREATE TABLE twofold_skipped (
    name      VARCHAR NOT NULL,
    position  BIGINT  NOT NULL,
    event_id  VARCHAR NOT NULL,
    key       VARCHAR NOT NULL,
    cause     VARCHAR NOT NULL,
    reason    VARCHAR NOT NULL,
    skipped_at BIGINT  NOT NULL,
    PRIMARY KEY (name, position, key)
);

CREATE TABLE twofold_marks (
    name     VARCHAR NOT NULL,
    position BIGINT  NOT NULL,
    event_id VARCHAR NOT NULL,
    PRIMARY KEY (name, position)
);

CREATE TABLE twofold_workers (
    worker      VARCHAR PRIMARY KEY,
    projections VARCHAR NOT NULL,
    seen_at     BIGINT  NOT NULL,
    seen_until  BIGINT  NOT NULL
);
