-- When each API key was last used. Telemetry: none of it is an event.

CREATE TABLE fleetlog.key_uses (
    api_key_id   uuid        PRIMARY KEY,
    last_used_at timestamptz NOT NULL
) WITH (fillfactor = 70);

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.key_uses TO fleetlog_app;
