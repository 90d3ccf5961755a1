-- name: tables
CREATE TABLE users (
    user_id uuid NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL,
    email text NOT NULL,
    disabled boolean NOT NULL,
    erased boolean NOT NULL,
    grants jsonb NOT NULL,
    group_grants jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (user_id)
);

-- name: indexes
CREATE INDEX users_name_idx ON users (sort_key, user_id);
CREATE INDEX users_kind_idx ON users (kind, sort_key, user_id);

-- name: select
SELECT user_id, kind, name, email, disabled, erased, grants, group_grants, created_at, created_by, version FROM users
