-- name: tables
CREATE TABLE enrollments (
    agent_id uuid NOT NULL, -- what the machine is called once it is an agent
    enrollment_id uuid NOT NULL,
    token_id uuid NOT NULL,
    client_id uuid NOT NULL,
    site_id uuid NOT NULL,
    hostname text NOT NULL,
    platform text NOT NULL,
    arch text NOT NULL,
    agent_version text NOT NULL,
    public_key text NOT NULL,
    address text NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    decided_by text NOT NULL, -- the actor
    expires_at timestamptz NOT NULL,
    requested_at timestamptz NOT NULL,
    decided_at timestamptz,
    position bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (agent_id)
);

-- name: indexes
CREATE UNIQUE INDEX enrollments_id_idx ON enrollments (enrollment_id);
CREATE INDEX enrollments_position_idx ON enrollments (position);
CREATE INDEX enrollments_state_idx ON enrollments (state, position);
CREATE INDEX enrollments_client_idx ON enrollments (client_id, position);
CREATE INDEX enrollments_site_idx ON enrollments (site_id, position);
CREATE INDEX enrollments_token_idx ON enrollments (token_id, position);
CREATE INDEX enrollments_waiting_idx ON enrollments (token_id) WHERE state = 'waiting';
CREATE INDEX enrollments_due_idx ON enrollments (expires_at) WHERE state = 'waiting';

-- name: select
SELECT agent_id, enrollment_id, token_id, client_id, site_id, hostname, platform, arch, agent_version, public_key,
    address, state, reason, decided_by, expires_at, requested_at, decided_at, position, version,
    (SELECT note FROM tokens WHERE tokens.token_id = enrollments.token_id)
FROM enrollments

-- name: count_waiting
SELECT count(*) FILTER (WHERE token_id = %(token_id)s), count(*) FILTER (WHERE client_id = %(client_id)s), count(*)
FROM enrollments
WHERE state = 'waiting'

-- name: due
SELECT enrollment_id
FROM enrollments
WHERE state = 'waiting' AND expires_at <= %(now)s
UNION ALL
SELECT enrollment_id
FROM enrollments
WHERE state = 'waiting'
    AND token_id IN (SELECT token_id FROM tokens WHERE revoked_at IS NOT NULL AND wait_s IS NOT NULL)
LIMIT %(limit)s
