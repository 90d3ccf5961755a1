-- name: tables
CREATE TABLE secrets (
    secret_id uuid NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL,
    scope text NOT NULL,
    client_id uuid,
    site_id uuid,
    agent_id uuid,
    number bigint NOT NULL,
    note text NOT NULL,
    created_at timestamptz NOT NULL,
    set_at timestamptz NOT NULL,
    set_by text NOT NULL,
    removed_at timestamptz,
    version bigint NOT NULL,
    PRIMARY KEY (secret_id)
);

-- name: indexes
CREATE INDEX secrets_name_idx ON secrets (sort_key, secret_id) WHERE removed_at IS NULL;
CREATE INDEX secrets_client_idx ON secrets (client_id, sort_key, secret_id) WHERE removed_at IS NULL;

-- name: select
SELECT secret_id, name, scope, client_id, site_id, agent_id, number, note, created_at, set_at, set_by, version
FROM secrets
