-- How people log in: docs/decisions/0017.

-- Hashes of passwords and recovery codes, and secrets of second factors, sealed, under the ids that events name.
CREATE TABLE fleetlog.credential_values (
    value_id    uuid        PRIMARY KEY,
    secret_id   uuid        NOT NULL, -- the stream of the user's login
    key_id      text        NOT NULL, -- which master key
    wrapped_key bytea       NOT NULL,
    sealed      bytea       NOT NULL,
    kept_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE fleetlog.credential_values IS 'Useless without the master key. Rows go when what they hold is replaced.';

GRANT SELECT, INSERT, DELETE ON fleetlog.credential_values TO fleetlog_app;
GRANT UPDATE (key_id, wrapped_key) ON fleetlog.credential_values TO fleetlog_app;

-- Who is logged in. That a session began and ended, and why, is in the log; here is what opens it, and when it was used.
CREATE TABLE fleetlog.sessions (
    session_id    uuid        PRIMARY KEY,
    user_id       uuid        NOT NULL,
    secret_sha256 bytea       NOT NULL CHECK (octet_length(secret_sha256) = 32),
    generation    integer     NOT NULL,
    address       text        NOT NULL,
    agent         text        NOT NULL,
    opened_at     timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    proved_at     timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX sessions_user_idx ON fleetlog.sessions (user_id, opened_at);
CREATE INDEX sessions_expires_idx ON fleetlog.sessions (expires_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.sessions TO fleetlog_app;
