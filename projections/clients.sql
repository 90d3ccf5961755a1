-- name: tables
CREATE TABLE clients (
    client_id uuid NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL, -- casefolded by us: no order of the system's library, which upgrades change
    created_at timestamptz NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (client_id)
);
CREATE TABLE sites (
    site_id uuid NOT NULL,
    client_id uuid NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (site_id)
);

-- name: indexes
CREATE INDEX clients_name_idx ON clients (sort_key, client_id);
CREATE INDEX sites_name_idx ON sites (sort_key, site_id);
CREATE INDEX sites_client_idx ON sites (client_id, sort_key, site_id);

-- name: select_clients
SELECT client_id, name, created_at, version FROM clients

-- name: select_sites
SELECT site_id, client_id, name, created_at, version FROM sites
