-- Secrets' values, sealed, under the ids that events name. The master key is not in the database: docs/decisions/0016.
CREATE TABLE fleetlog.secret_values (
    value_id    uuid        PRIMARY KEY,
    secret_id   uuid        NOT NULL,
    key_id      text        NOT NULL, -- which master key
    wrapped_key bytea       NOT NULL,
    sealed      bytea       NOT NULL,
    kept_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE fleetlog.secret_values IS 'Useless without the master key. Rows go when their secret gets another value, or none.';

GRANT SELECT, INSERT, DELETE ON fleetlog.secret_values TO fleetlog_app;
GRANT UPDATE (key_id, wrapped_key) ON fleetlog.secret_values TO fleetlog_app;
