-- name: tables
CREATE TABLE rollouts (
    rollout_id uuid NOT NULL,
    position bigint NOT NULL, -- of RolloutStarted
    name text NOT NULL,
    state text NOT NULL,
    client_ids jsonb NOT NULL, -- of all who are targeted: only who sees all of them sees the rollout
    target jsonb NOT NULL,
    command bytea NOT NULL, -- JSON of domain.rollouts.Order, as it was recorded
    script_id uuid, -- that it runs, where it is one
    targeted integer NOT NULL,
    excluded jsonb NOT NULL,
    waves jsonb NOT NULL,
    wave_sizes jsonb NOT NULL,
    limits jsonb NOT NULL,
    guard jsonb,
    wave integer NOT NULL, -- the last one released, from 0
    wave_finished boolean NOT NULL,
    continues_at timestamptz, -- when the next wave begins by itself
    open_until timestamptz, -- agents may join
    reason text NOT NULL,
    detail text NOT NULL, -- why it is in its state, where that was said
    requester text NOT NULL,
    correlation_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    version bigint NOT NULL,
    PRIMARY KEY (rollout_id)
);
CREATE TABLE rollout_commands (
    command_id uuid NOT NULL,
    rollout_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    client_id uuid NOT NULL,
    site_id uuid NOT NULL,
    wave integer NOT NULL,
    round integer NOT NULL,
    latest boolean NOT NULL, -- false once its agent was given another: each agent has one row that is
    state text NOT NULL, -- waiting, skipped, or the command's
    ended_as text NOT NULL, -- its state once that is final, before that nothing
    cancel_requested boolean NOT NULL,
    exit_code bigint,
    stdout_sha256 text,
    detail text NOT NULL, -- why it was skipped
    ended_at timestamptz,
    PRIMARY KEY (command_id)
);
-- Until it ends, what changes of a row is in no index, and a bulk changes all rows of a page at once: half of each page is
-- left for the next versions of its rows, and such a change writes no index.
ALTER TABLE rollout_commands SET (fillfactor = 50);

-- name: indexes
CREATE INDEX rollouts_position_idx ON rollouts (position);
CREATE INDEX rollouts_state_idx ON rollouts (state, position);
CREATE INDEX rollouts_script_idx ON rollouts (script_id, position) WHERE script_id IS NOT NULL;
CREATE INDEX rollout_commands_agents_idx ON rollout_commands (rollout_id, agent_id);
CREATE INDEX rollout_commands_ended_idx ON rollout_commands (rollout_id, ended_as, agent_id) INCLUDE (wave, latest);

-- name: select
SELECT rollout_id, position, name, state, client_ids, target, command, targeted, excluded, waves, wave_sizes, limits,
    guard, wave, wave_finished, continues_at, open_until, reason, detail, requester, correlation_id, started_at, ended_at, version
FROM rollouts

-- name: counts
-- Of those that have ended only the index is read.
SELECT wave, state, count(*) FROM (
    SELECT wave, ended_as AS state FROM rollout_commands
    WHERE rollout_id = %(rollout_id)s AND latest AND ended_as > ''
    UNION ALL
    SELECT wave, state FROM rollout_commands WHERE rollout_id = %(rollout_id)s AND latest AND ended_as = ''
) AS parts GROUP BY wave, state

-- name: counts_of
SELECT rollout_id, state, count(*) FROM rollout_commands
WHERE rollout_id = ANY(%(rollout_ids)s) AND latest GROUP BY rollout_id, state

-- name: recent
SELECT count(*) FROM rollout_commands
WHERE rollout_id = %(rollout_id)s AND latest AND ended_at > %(since)s AND ended_at <= %(until)s

-- name: sites
SELECT site_id, client_id, (SELECT name FROM clients WHERE clients.client_id = per_site.client_id),
    (SELECT name FROM sites WHERE sites.site_id = per_site.site_id), counts
FROM (
    SELECT rollout_id, client_id, site_id, jsonb_object_agg(state, total) AS counts FROM (
        SELECT rollout_id, client_id, site_id, state, count(*) AS total
        FROM rollout_commands WHERE latest GROUP BY rollout_id, client_id, site_id, state
    ) AS counted GROUP BY rollout_id, client_id, site_id
) AS per_site

-- name: members
SELECT agent_id, (SELECT name FROM agents WHERE agents.agent_id = rollout_commands.agent_id), client_id, site_id,
    command_id, wave, round, state, cancel_requested, exit_code, stdout_sha256, detail, ended_at
FROM rollout_commands

-- name: outcomes
SELECT grouped.state, grouped.exit_code, grouped.stdout_sha256, total, example, result #>> '{stdout,tail}',
    result #>> '{stderr,tail}'
FROM (
    SELECT state, exit_code, stdout_sha256, count(*) AS total, min(command_id::text)::uuid AS example
    FROM (
        SELECT command_id, CASE WHEN %(by_ending)s THEN state END AS state,
            CASE WHEN %(by_ending)s THEN exit_code END AS exit_code,
            CASE WHEN %(by_output)s THEN stdout_sha256 END AS stdout_sha256
        FROM rollout_commands
        WHERE rollout_id = %(rollout_id)s AND latest AND ended_at IS NOT NULL
    ) AS ended
    GROUP BY state, exit_code, stdout_sha256
    ORDER BY total DESC, state, exit_code NULLS LAST, stdout_sha256 NULLS LAST
    LIMIT %(limit)s
) AS grouped
LEFT JOIN commands ON %(by_output)s AND commands.command_id = grouped.example
ORDER BY total DESC, grouped.state, grouped.exit_code NULLS LAST, grouped.stdout_sha256 NULLS LAST

-- name: running
SELECT rollout_id FROM rollouts
WHERE state = 'running' OR (state = 'paused' AND open_until IS NOT NULL) ORDER BY position

-- name: tally
SELECT coalesce(sum(total) FILTER (WHERE state = ANY(%(terminal)s)), 0)::bigint,
    coalesce(sum(total) FILTER (WHERE state = ANY(%(failed)s)), 0)::bigint,
    coalesce(sum(total) FILTER (WHERE state = 'timed_out'), 0)::bigint
FROM (
    SELECT ended_as AS state, count(*) AS total FROM rollout_commands
    WHERE rollout_id = %(rollout_id)s AND ended_as > '' GROUP BY ended_as
) AS counted

-- name: unanswered
-- Nobody is accused while the read models are behind: the answer may be among what they have not read.
SELECT count(*) FROM rollout_commands AS part
JOIN commands USING (command_id)
JOIN agents ON agents.agent_id = part.agent_id
WHERE part.rollout_id = %(rollout_id)s AND part.latest AND part.ended_as = '' AND part.state <> 'waiting'
    AND CASE WHEN part.state = 'queued'
        THEN agents.online AND greatest(commands.queued_at, commands.not_before, agents.connected_at) <= %(since)s
            -- Whoever waits for its hours owes no answer.
            AND NOT EXISTS (SELECT FROM pending WHERE pending.command_id = part.command_id AND hours IS NOT NULL)
        ELSE commands.delivered_at <= %(since)s END
    AND (SELECT min(position) FROM tracking WHERE projection IN ('rollouts', 'commands', 'agents'))
        >= (SELECT fleetlog.position_before(clock_timestamp() - interval '10 seconds'))

-- name: failed
SELECT agent_id, round FROM rollout_commands
WHERE rollout_id = %(rollout_id)s AND latest AND ended_as = ANY(%(failed)s)

-- name: others_run
SELECT EXISTS (
    SELECT FROM rollouts WHERE script_id = %(script_id)s
        AND (state IN ('running', 'paused') OR position > (SELECT fleetlog.position_before(%(since)s)))
) OR EXISTS (
    SELECT FROM commands WHERE script_id = %(script_id)s AND requester <> %(actor)s
        AND position > (SELECT fleetlog.position_before(%(since)s))
)

-- name: to_take_back
-- By the queues: what an old rollout has left there is little, however many agents it was for. Mostly no rollout is one
-- that was aborted, and this is asked all the time: so in this order and no other, whatever the tables' sizes were when it
-- was planned.
WITH aborted AS MATERIALIZED (SELECT rollout_id, correlation_id FROM rollouts WHERE state = 'aborted')
SELECT left_over.command_id, left_over.agent_id FROM aborted CROSS JOIN LATERAL (
    SELECT command_id, agent_id FROM pending
    WHERE pending.correlation_id = aborted.correlation_id AND pending.state = 'queued' AND NOT pending.cancel_requested
        AND aborted.rollout_id =
            (SELECT part.rollout_id FROM rollout_commands AS part WHERE part.command_id = pending.command_id)
    LIMIT %(limit)s
) AS left_over
LIMIT %(limit)s

-- name: unknown
SELECT wanted.id FROM unnest(%(clients)s::uuid[]) AS wanted (id)
WHERE NOT EXISTS (SELECT FROM clients WHERE client_id = wanted.id AND (%(all)s OR client_id = ANY(%(known)s::uuid[])))
UNION ALL
SELECT wanted.id FROM unnest(%(sites)s::uuid[]) AS wanted (id)
WHERE NOT EXISTS (SELECT FROM sites WHERE site_id = wanted.id AND
    (%(all)s OR client_id = ANY(%(tenants)s::uuid[]) OR site_id = ANY(%(places)s::uuid[])))
UNION ALL
SELECT wanted.id FROM unnest(%(agents)s::uuid[]) AS wanted (id)
WHERE NOT EXISTS (SELECT FROM agents WHERE agent_id = wanted.id AND
    (%(all)s OR client_id = ANY(%(tenants)s::uuid[]) OR site_id = ANY(%(places)s::uuid[])))

-- name: candidates
SELECT agent_id, client_id, site_id, platform, state, online,
    client_id = ANY(%(without_clients)s::uuid[]) OR site_id = ANY(%(without_sites)s::uuid[])
    OR agent_id = ANY(%(without_agents)s::uuid[]) OR tags ?| %(without_tags)s::text[]
    OR platform = ANY(%(without_platforms)s::text[]) OR coalesce(online = %(without_online)s::boolean, false),
    (SELECT jsonb_object_agg(name, facts -> name) FROM unnest(%(facts)s::text[]) AS wanted (name) WHERE facts ? name)
FROM agents
WHERE (%(all)s OR client_id = ANY(%(tenants)s::uuid[]) OR site_id = ANY(%(places)s::uuid[]))
    AND (
        %(everything)s OR client_id = ANY(%(clients)s::uuid[]) OR site_id = ANY(%(sites)s::uuid[])
        OR agent_id = ANY(%(agents)s::uuid[]) OR tags ?| %(tags)s::text[]
    )
ORDER BY agent_id

-- name: joined
-- As the candidates, of those alone to whom something happened in a part of the log.
SELECT agent_id, client_id, site_id, platform, state, online,
    client_id = ANY(%(without_clients)s::uuid[]) OR site_id = ANY(%(without_sites)s::uuid[])
    OR agent_id = ANY(%(without_agents)s::uuid[]) OR tags ?| %(without_tags)s::text[]
    OR platform = ANY(%(without_platforms)s::text[]) OR coalesce(online = %(without_online)s::boolean, false),
    (SELECT jsonb_object_agg(name, facts -> name) FROM unnest(%(facts)s::text[]) AS wanted (name) WHERE facts ? name), position
FROM agents
WHERE (%(all)s OR client_id = ANY(%(tenants)s::uuid[]) OR site_id = ANY(%(places)s::uuid[]))
    AND (
        %(everything)s OR client_id = ANY(%(clients)s::uuid[]) OR site_id = ANY(%(sites)s::uuid[])
        OR agent_id = ANY(%(agents)s::uuid[]) OR tags ?| %(tags)s::text[]
    )
    AND position > %(after)s AND position <= %(upto)s
ORDER BY position
LIMIT %(limit)s

-- name: agents_position
SELECT position FROM tracking WHERE projection = 'agents'

-- name: position_before
SELECT fleetlog.position_before(%(until)s)
