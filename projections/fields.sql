-- name: tables
CREATE TABLE fields (
    field_id uuid NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL,
    terms jsonb NOT NULL,
    defined_at timestamptz NOT NULL,
    defined_by text NOT NULL,
    removed_at timestamptz,
    version bigint NOT NULL,
    PRIMARY KEY (field_id)
);
CREATE TABLE field_values (
    values_id uuid NOT NULL,
    holder text NOT NULL,
    holder_id uuid NOT NULL,
    filled jsonb NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (values_id)
);

-- name: indexes
CREATE INDEX fields_name_idx ON fields (sort_key, field_id) WHERE removed_at IS NULL;

-- name: select
SELECT field_id, name, terms::text, defined_at, defined_by, version FROM fields

-- name: select_filled
SELECT filled::text, version FROM field_values
