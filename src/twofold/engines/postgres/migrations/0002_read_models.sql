-- How far each projection has come; moved in the transaction that writes its read model.

CREATE TABLE twofold_projections (
    name     text    PRIMARY KEY,
    version  integer NOT NULL,
    position bigint  NOT NULL
);
