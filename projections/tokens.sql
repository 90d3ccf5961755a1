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
    PRIMARY KEY (token_id)
);

-- name: indexes
CREATE INDEX tokens_position_idx ON tokens (position);
CREATE INDEX tokens_client_idx ON tokens (client_id, position);
CREATE INDEX tokens_site_idx ON tokens (site_id, position);

-- name: select
SELECT token_id, client_id, site_id, max_uses, uses, expires_at, note, revoked_at, created_at, created_by, position,
    version
FROM tokens
