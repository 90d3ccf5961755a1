-- name: tables
CREATE TABLE checks (
    check_id uuid NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL,
    terms jsonb NOT NULL,
    everywhere boolean NOT NULL, -- whoever defined it may do so on all agents; else on those of
    clients jsonb NOT NULL, -- these clients
    sites jsonb NOT NULL, -- and these sites
    site_clients jsonb NOT NULL, -- which belong to these
    disabled boolean NOT NULL,
    defined_at timestamptz NOT NULL,
    defined_by text NOT NULL,
    removed_at timestamptz,
    revision bigint NOT NULL, -- of its definition: the version by which that came
    version bigint NOT NULL,
    PRIMARY KEY (check_id)
);
-- What checks find on agents. One that was never anything but passing there has no row.
CREATE TABLE agent_checks (
    finding_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    check_id uuid NOT NULL,
    name text NOT NULL, -- of the check, when it last changed
    check_key text COLLATE "C" NOT NULL, -- the same, casefolded
    state text NOT NULL,
    found boolean NOT NULL, -- it is there, and not passing
    was text,
    since timestamptz NOT NULL,
    reading jsonb, -- value and unit, where it has one
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (finding_id)
);

-- name: indexes
CREATE INDEX checks_name_idx ON checks (sort_key, check_id) WHERE removed_at IS NULL;
CREATE INDEX agent_checks_agent_idx ON agent_checks (agent_id, check_id);
CREATE INDEX agent_checks_found_idx ON agent_checks (state, agent_id) WHERE found;
CREATE INDEX agent_checks_name_idx ON agent_checks (check_key, agent_id) WHERE found;
CREATE INDEX agent_checks_check_idx ON agent_checks (check_id, state, agent_id) WHERE found;

-- name: select
SELECT check_id, name, terms::text, disabled, defined_at, defined_by, revision, version FROM checks

-- name: findings
SELECT check_id, name, state, was, since, reading, changed_at FROM agent_checks

-- name: counts
SELECT c.check_id, c.state, count(*) FROM agent_checks AS c JOIN agents USING (agent_id)

-- name: machines
SELECT c.agent_id, agents.name, agents.client_id, agents.site_id, c.state, c.was, c.since, c.reading, c.changed_at, agents.sort_key
FROM agent_checks AS c JOIN agents USING (agent_id)

-- name: given
SELECT check_id, revision, terms::text, everywhere, clients, sites, site_clients, defined_by FROM checks
WHERE removed_at IS NULL AND NOT disabled ORDER BY check_id

-- name: defined
SELECT check_id, revision, terms::text FROM checks WHERE removed_at IS NULL AND NOT disabled ORDER BY check_id

-- name: stamp
SELECT count(*), coalesce(sum(version), 0)::bigint FROM checks

-- name: changed_agents
SELECT agent_id, position FROM agents WHERE position > %(after)s AND position <= %(upto)s ORDER BY position LIMIT %(limit)s

-- name: orphans
-- What is found where it is not measured any more.
SELECT c.finding_id, c.agent_id, c.check_id, c.name, c.state FROM agent_checks AS c
LEFT JOIN fleetlog.check_lists AS l ON l.agent_id = c.agent_id AND c.check_id = ANY(l.checks)
WHERE c.found AND l.agent_id IS NULL LIMIT %(limit)s
