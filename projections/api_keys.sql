-- name: tables
CREATE TABLE api_keys (
    api_key_id uuid NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    secret_sha256 text NOT NULL,
    client_ids jsonb, -- the tenants that it sees; null sees all
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    position bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (api_key_id)
);

-- name: indexes
CREATE INDEX api_keys_position_idx ON api_keys (position);

-- name: select
SELECT api_key_id, name, role, secret_sha256, client_ids, expires_at, revoked_at, created_at, created_by, position,
    version
FROM api_keys
