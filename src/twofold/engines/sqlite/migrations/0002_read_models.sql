-- How far each projection has come; moved in the transaction that writes its read model.

CREATE TABLE twofold_projections (
    name     TEXT    PRIMARY KEY,
    version  INTEGER NOT NULL,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
