-- Which run of an agent's program checks in over HTTP, so that two machines with one identity are told apart there, too.
-- Telemetry: losing it costs a clone a few seconds more.
CREATE UNLOGGED TABLE fleetlog.http_runs (
    agent_id uuid        PRIMARY KEY,
    present  jsonb       NOT NULL,
    seen_at  timestamptz NOT NULL,
    newcomer jsonb,
    asked_at timestamptz,
    CHECK ((newcomer IS NULL) = (asked_at IS NULL))
) WITH (fillfactor = 70);
COMMENT ON COLUMN fleetlog.http_runs.newcomer IS 'Another run, kept waiting until the present one has shown itself, or has not.';
CREATE INDEX http_runs_asked_idx ON fleetlog.http_runs (asked_at) WHERE asked_at IS NOT NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.http_runs TO fleetlog_app;
