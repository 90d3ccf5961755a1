-- What a device is asked to sign, until it has: each once. None of it is an event, and none of it outlives two minutes.
CREATE TABLE fleetlog.passkey_challenges (
    challenge  bytea       PRIMARY KEY,
    user_id    uuid,       -- who adds a passkey; null where somebody logs in
    expires_at timestamptz NOT NULL
);
CREATE INDEX passkey_challenges_expires_idx ON fleetlog.passkey_challenges (expires_at);

GRANT SELECT, INSERT, DELETE ON fleetlog.passkey_challenges TO fleetlog_app;
