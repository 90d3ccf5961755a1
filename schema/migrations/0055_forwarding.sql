-- Forwarding: how far each destination is, and what it is told in confidence. docs/decisions/0022-forwarding.md

-- The cursor of each destination. Written by whoever sends to it, read by status; the destinations themselves are events.
CREATE TABLE fleetlog.forwarding (
    destination_id uuid        PRIMARY KEY,
    position       bigint      NOT NULL CHECK (position >= 0), -- whatever is to go there up to here has arrived
    sent           bigint      NOT NULL DEFAULT 0,             -- events
    sent_at        timestamptz,
    failures       integer     NOT NULL DEFAULT 0,             -- in a row; 0 where the last try went well
    failing_since  timestamptz,
    error          text        NOT NULL DEFAULT '',            -- of the last try that failed
    tries_at       timestamptz,                                -- the next one
    updated_at     timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.forwarding TO fleetlog_app;

-- As fleetlog.secret_values (0042_secrets.sql), of destinations.
CREATE TABLE fleetlog.destination_values (
    value_id    uuid        PRIMARY KEY,
    secret_id   uuid        NOT NULL, -- the destination
    key_id      text        NOT NULL, -- which master key
    wrapped_key bytea       NOT NULL,
    sealed      bytea       NOT NULL,
    kept_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE fleetlog.destination_values IS 'Useless without the master key. Rows go when their destination gets other secrets, or is removed.';

GRANT SELECT, INSERT, DELETE ON fleetlog.destination_values TO fleetlog_app;
GRANT UPDATE (key_id, wrapped_key) ON fleetlog.destination_values TO fleetlog_app;
