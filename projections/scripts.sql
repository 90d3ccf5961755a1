-- name: tables
CREATE TABLE scripts (
    script_id uuid NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL,
    description text NOT NULL,
    folder text NOT NULL, -- empty where it lies in none
    archived boolean NOT NULL,
    latest_revision integer NOT NULL,
    shell text,
    platforms jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (script_id)
);
CREATE TABLE revisions (
    script_id uuid NOT NULL,
    revision integer NOT NULL,
    content bytea NOT NULL, -- JSON of domain.scripts.Revision; not jsonb, which would order env anew
    sha256 text NOT NULL,
    author text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (script_id, revision)
);
CREATE TABLE favourites (
    favourite_id uuid NOT NULL, -- derived from the others
    owner text NOT NULL,
    script_id uuid NOT NULL,
    PRIMARY KEY (favourite_id)
);

-- name: indexes
CREATE INDEX favourites_owner_idx ON favourites (owner, script_id);
CREATE INDEX scripts_name_idx ON scripts (sort_key, script_id);

-- name: select
SELECT script_id, name, description, folder, archived, latest_revision, shell, platforms, created_at, changed_at, version
FROM scripts

-- name: select_revisions
SELECT script_id, revision, content, sha256, author, created_at FROM revisions

-- name: favourites
SELECT script_id FROM favourites WHERE owner = %s ORDER BY script_id
