-- name: tables
CREATE TABLE agents (
    agent_id uuid NOT NULL,
    client_id uuid NOT NULL,
    site_id uuid NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL, -- the name, casefolded
    hostname text NOT NULL,
    host_key text COLLATE "C" NOT NULL, -- casefolded, as sort_key is
    platform text NOT NULL,
    arch text NOT NULL,
    agent_version text NOT NULL,
    public_key text NOT NULL,
    tags jsonb NOT NULL,
    state text NOT NULL,
    erased boolean NOT NULL,
    online boolean NOT NULL,
    connected_at timestamptz,
    disconnected_at timestamptz,
    address text NOT NULL,
    transport text NOT NULL,
    gateway text NOT NULL,
    os text NOT NULL,
    logged_in_user text NOT NULL,
    facts jsonb NOT NULL,
    facts_at timestamptz,
    software text COLLATE "C" NOT NULL, -- the hash of the list of what is installed, empty without one
    packages integer NOT NULL,
    updates integer, -- of these, how many could be updated; null where the machine cannot say
    security_updates integer,
    software_at timestamptz,
    reboot_needed boolean, -- null where the machine cannot say
    duplicate jsonb, -- two machines with its identity, until somebody says which stays
    server_key integer NOT NULL, -- the newest of the server's delivery keys that it said it knows
    enrolled_at timestamptz NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL, -- of the last event about it, presence and facts included
    PRIMARY KEY (agent_id)
);

-- name: indexes
CREATE INDEX agents_name_idx ON agents (sort_key, agent_id) INCLUDE (host_key);
CREATE INDEX agents_text_idx ON agents USING gin (sort_key public.gin_trgm_ops, host_key public.gin_trgm_ops);
CREATE INDEX agents_os_idx ON agents USING gin (lower(os) public.gin_trgm_ops);
CREATE INDEX agents_client_idx ON agents (client_id, sort_key, agent_id);
CREATE INDEX agents_site_idx ON agents (site_id, sort_key, agent_id);
CREATE INDEX agents_tags_idx ON agents USING gin (tags jsonb_path_ops);
CREATE INDEX agents_platform_idx ON agents (platform, sort_key, agent_id);
CREATE INDEX agents_online_idx ON agents (online, sort_key, agent_id);
CREATE INDEX agents_unusual_idx ON agents (state, sort_key, agent_id) WHERE state <> 'active';
CREATE INDEX agents_duplicate_idx ON agents (sort_key, agent_id) WHERE duplicate IS NOT NULL;
CREATE INDEX agents_software_idx ON agents (software, sort_key, agent_id) WHERE software <> '';
CREATE INDEX agents_updates_idx ON agents (updates, sort_key, agent_id) WHERE updates > 0;
CREATE INDEX agents_reboot_idx ON agents (sort_key, agent_id) WHERE reboot_needed;
CREATE INDEX agents_position_idx ON agents (position);
CREATE INDEX agents_key_idx ON agents (public_key);

-- name: columns
SELECT agent_id, client_id, site_id, name, hostname, platform, arch, agent_version, public_key, tags, state, erased,
    online, connected_at, disconnected_at, address, transport, gateway, os, logged_in_user, facts_at,
    software, packages, updates, security_updates, software_at, reboot_needed, duplicate,
    (SELECT count(*) FROM agent_checks AS c WHERE c.agent_id = agents.agent_id AND c.found AND c.state = 'failing') AS failing,
    (SELECT count(*) FROM agent_checks AS c WHERE c.agent_id = agents.agent_id AND c.found AND c.state = 'warning') AS warning,
    enrolled_at,
    version, sort_key,
    (SELECT name FROM clients WHERE clients.client_id = agents.client_id) AS client,
    (SELECT name FROM sites WHERE sites.site_id = agents.site_id) AS site

-- name: at_sites
SELECT agent_id FROM agents

-- name: counts
SELECT count(*), count(*) FILTER (WHERE online), count(*) FILTER (WHERE state = 'suspended'),
    count(*) FILTER (WHERE state = 'retired'), count(*) FILTER (WHERE duplicate IS NOT NULL)
FROM agents

-- name: counts_of_all
-- The same of the whole fleet: each by an index, which is a small part of the table.
SELECT (SELECT count(*) FROM agents), (SELECT count(*) FROM agents WHERE online),
    (SELECT count(*) FROM agents WHERE state <> 'active' AND state = 'suspended'),
    (SELECT count(*) FROM agents WHERE state <> 'active' AND state = 'retired'),
    (SELECT count(*) FROM agents WHERE duplicate IS NOT NULL)

-- name: counts_of_kept
SELECT (SELECT count(*) FROM agents) - retired.agents, (SELECT count(*) FROM agents WHERE online) - retired.online,
    (SELECT count(*) FROM agents WHERE state <> 'active' AND state = 'suspended'), 0::bigint,
    (SELECT count(*) FROM agents WHERE duplicate IS NOT NULL) - retired.duplicates
FROM (
    SELECT count(*) AS agents, count(*) FILTER (WHERE online) AS online,
        count(*) FILTER (WHERE duplicate IS NOT NULL) AS duplicates
    FROM agents WHERE state <> 'active' AND state = 'retired'
) AS retired

-- name: unaware
SELECT count(*), count(*) FILTER (WHERE server_key < %(number)s), ARRAY(
    SELECT name FROM agents WHERE state <> 'retired' AND server_key < %(number)s
    ORDER BY sort_key, agent_id LIMIT %(shown)s
) FROM agents WHERE state <> 'retired'

-- name: counts_by_site
SELECT site_id, count(*), count(*) FILTER (WHERE online) FROM agents

-- name: counts_by_client
SELECT client_id, count(*), count(*) FILTER (WHERE online) FROM agents
