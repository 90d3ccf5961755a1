-- name: tables
CREATE TABLE views (
    view_id uuid NOT NULL,
    owner text NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL,
    query text NOT NULL,
    client_id uuid,
    site_id uuid,
    sort text NOT NULL,
    columns jsonb NOT NULL,
    shared boolean NOT NULL,
    saved_at timestamptz NOT NULL,
    saved_by text NOT NULL,
    removed_at timestamptz,
    version bigint NOT NULL,
    PRIMARY KEY (view_id)
);

-- name: indexes
CREATE INDEX views_name_idx ON views (sort_key, view_id) WHERE removed_at IS NULL;

-- name: select
SELECT view_id, owner, name, query, client_id, site_id, sort, columns, shared, saved_at, saved_by, version FROM views
