-- Telemetry: what each NATS server last said of itself, for those who look at the platform. None of it is truth.
CREATE TABLE fleetlog.nats_servers (
    server_id text        PRIMARY KEY,
    name      text        NOT NULL,
    state     jsonb       NOT NULL,
    seen_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN fleetlog.nats_servers.state IS 'As gateways.agents.broker_states.State.';

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.nats_servers TO fleetlog_app;
