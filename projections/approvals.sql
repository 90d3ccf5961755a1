-- name: tables
CREATE TABLE approvals (
    approval_id uuid NOT NULL,
    state text NOT NULL,
    intent text NOT NULL,
    request jsonb NOT NULL,
    why text NOT NULL,
    agents integer,
    requester text NOT NULL,
    user_id uuid, -- who asked
    client_ids jsonb, -- that it may reach; null is all
    decided_by uuid,
    reason text NOT NULL,
    requested_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    decided_at timestamptz,
    correlation_id uuid NOT NULL,
    position bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (approval_id)
);

-- name: indexes
CREATE INDEX approvals_position_idx ON approvals (position);
CREATE INDEX approvals_state_idx ON approvals (state, position);
CREATE INDEX approvals_due_idx ON approvals (expires_at) WHERE state = 'waiting';

-- name: select
SELECT approval_id, state, intent, request, why, agents, requester, user_id,
    (SELECT name FROM users WHERE users.user_id = approvals.user_id), decided_by,
    (SELECT name FROM users WHERE users.user_id = approvals.decided_by), reason, requested_at, expires_at, decided_at,
    correlation_id, position, version
FROM approvals

-- name: due
SELECT approval_id FROM approvals
