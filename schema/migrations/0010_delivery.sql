-- What gateways need to remember between them. None of it is truth: all of it could be lost and the log would stand.

-- The fleet's own keys, made once by whoever starts first: docs/decisions/0004-keys.md.
CREATE TABLE fleetlog.server_keys (
    purpose    text        PRIMARY KEY CHECK (purpose IN ('delivery', 'issuer', 'gateway', 'system')),
    seed       bytea       NOT NULL CHECK (octet_length(seed) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE fleetlog.server_keys IS 'Ed25519 seeds. Whoever reads them can give orders to every agent.';

-- One row for each agent that was ever delivered to. Rows stay, so that a fence only grows.
CREATE TABLE fleetlog.leases (
    agent_id    uuid        PRIMARY KEY,
    gateway     text        NOT NULL,
    expires_at  timestamptz NOT NULL,
    fence       bigint      NOT NULL,
    command_ids uuid[]      NOT NULL
) WITH (fillfactor = 70);
COMMENT ON COLUMN fleetlog.leases.command_ids IS
    'Commands that are, or may be, on their way: handed over, and no answer heard. They outlast the lease.';
COMMENT ON COLUMN fleetlog.leases.fence IS 'Grows with each lease; a gateway that was overtaken settles nothing.';

-- Finds what a gateway left behind that died.
CREATE INDEX leases_unsettled_idx ON fleetlog.leases (expires_at) WHERE command_ids <> '{}';

-- Telemetry: when an agent was last heard of.
CREATE TABLE fleetlog.presence (
    agent_id     uuid        PRIMARY KEY,
    last_seen_at timestamptz NOT NULL,
    gateway      text        NOT NULL
) WITH (fillfactor = 70);

GRANT SELECT, INSERT ON fleetlog.server_keys TO fleetlog_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.leases, fleetlog.presence TO fleetlog_app;
