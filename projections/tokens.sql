-- name: tables
CREATE TABLE tokens (
    token_id uuid NOT NULL,
    client_id uuid NOT NULL,
    site_id uuid NOT NULL,
    max_uses integer NOT NULL,
    uses integer NOT NULL,
    expires_at timestamptz NOT NULL,
    note text NOT NULL,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    position bigint NOT NULL,
    version bigint NOT NULL,
    wait_s integer, -- how long a machine waits for approval; null where it needs none
    PRIMARY KEY (token_id)
);

-- name: indexes
CREATE INDEX tokens_position_idx ON tokens (position);
CREATE INDEX tokens_client_idx ON tokens (client_id, position);
CREATE INDEX tokens_site_idx ON tokens (site_id, position);
CREATE INDEX tokens_voided_idx ON tokens (token_id) WHERE revoked_at IS NOT NULL AND wait_s IS NOT NULL;

-- name: select
SELECT token_id, client_id, site_id, max_uses, uses, expires_at, note, revoked_at, created_at, created_by, position,
    version, wait_s,
    CASE WHEN wait_s IS NULL THEN 0 ELSE (SELECT count(*) FROM enrollments
        WHERE enrollments.token_id = tokens.token_id AND enrollments.state = 'waiting') END
FROM tokens
