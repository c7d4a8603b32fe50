-- What agents remember about a user: written and read by the tools `remember` and `recall`.
CREATE TABLE notes (
    -- Of tenant and user together, which may both be longer than an entry of an index can be.
    owner_sha256 bytea NOT NULL CHECK (length(owner_sha256) = 32),
    number integer NOT NULL CHECK (number > 0),
    tenant text,
    user_id text NOT NULL,
    -- A call that is made again after a crash finds its note here.
    call_id text NOT NULL,
    note text NOT NULL CHECK (length(note) <= 2000),
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_sha256, number)
);
CREATE UNIQUE INDEX notes_by_call ON notes (owner_sha256, call_id);
