-- name: tables
CREATE TABLE roles (
    role_id uuid NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL,
    permissions jsonb NOT NULL,
    limits jsonb NOT NULL,
    retired boolean NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (role_id)
);

-- name: indexes
CREATE INDEX roles_name_idx ON roles (sort_key, role_id);

-- name: select
SELECT role_id, name, permissions, limits, retired, created_at, created_by, version FROM roles

-- name: names
SELECT role_id, name FROM roles
