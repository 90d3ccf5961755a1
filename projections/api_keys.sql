-- name: tables
CREATE TABLE api_keys (
    api_key_id uuid NOT NULL,
    name text NOT NULL,
    owner_id uuid, -- the user or service account that it speaks for; null of keys of before
    secret_sha256 text NOT NULL,
    grants jsonb, -- what it may do; null is all that its owner may
    client_ids jsonb, -- all that it can reach by itself; null where that is everything, or its owner's
    expires_at timestamptz,
    unattended boolean NOT NULL, -- nobody is asked for a fresh proof of it
    revoked_at timestamptz,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    position bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (api_key_id)
);

-- name: indexes
CREATE INDEX api_keys_position_idx ON api_keys (position);
CREATE INDEX api_keys_owner_idx ON api_keys (owner_id, position) WHERE owner_id IS NOT NULL;

-- name: select
SELECT api_key_id, name, owner_id, (SELECT name FROM users WHERE users.user_id = api_keys.owner_id), secret_sha256,
    grants, expires_at, unattended, revoked_at, created_at, created_by, position, version,
    (SELECT last_used_at FROM fleetlog.key_uses WHERE key_uses.api_key_id = api_keys.api_key_id)
FROM api_keys
