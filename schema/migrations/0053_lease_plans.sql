-- What a lease costs must not grow with everybody's queues. Its plans are made once for a session, perhaps while the
-- tables are empty and know nothing of what comes: so each condition leaves the planner no index but one that begins
-- with the agent, or is the key. Asked for `state = 'queued'`, it took the index of all queued commands, once for each
-- agent of a group.

SET LOCAL check_function_bodies = off;

-- What may be delivered to some agents now, agent by agent in the order given, each agent's by priority and position.
-- Each agent costs one short index range, whatever the others' queues hold. It is inlined where it is called.
CREATE OR REPLACE FUNCTION fleetlog.deliverable(agent_ids uuid[], moment timestamptz, room integer, open_hours text[])
RETURNS TABLE (
    command_id uuid, agent_id uuid, client_id uuid, lane text, priority smallint, queued_position bigint, state text,
    attempt integer, not_before timestamptz, expires_at timestamptz, cancel_requested boolean, queued_at timestamptz,
    correlation_id uuid, spec bytea, version bigint, hours text
)
LANGUAGE sql STABLE AS $$
    SELECT found.command_id, found.agent_id, found.client_id, found.lane, found.priority, found.position, found.state,
        found.attempt, found.not_before, found.expires_at, found.cancel_requested, found.queued_at,
        found.correlation_id, found.spec, found.version, found.hours
    FROM unnest(agent_ids) WITH ORDINALITY AS wanted (agent_id, place)
    CROSS JOIN LATERAL (
        SELECT count(*) AS held FROM read.pending AS p
        WHERE p.agent_id = wanted.agent_id AND p.state IN ('delivered', 'running')
    ) AS there
    CROSS JOIN LATERAL (
        SELECT * FROM read.pending AS p
        WHERE p.agent_id = wanted.agent_id AND p.state NOT IN ('delivered', 'running') AND NOT p.cancel_requested
            AND (p.not_before IS NULL OR p.not_before <= moment) AND p.expires_at > moment
            AND (p.hours IS NULL OR p.hours = ANY(open_hours))
        ORDER BY p.priority, p.position
        LIMIT greatest(0, room - there.held)
    ) AS found
    ORDER BY wanted.place, found.priority, found.position
$$;

-- Those of these agents for which there is anything to be sent.
CREATE OR REPLACE FUNCTION fleetlog.wanting(agent_ids uuid[], moment timestamptz, open_hours text[])
RETURNS TABLE (agent_id uuid)
LANGUAGE sql STABLE AS $$
    SELECT asked.agent_id FROM unnest(agent_ids) AS asked (agent_id)
    CROSS JOIN LATERAL (
        SELECT FROM read.pending AS p WHERE p.agent_id = asked.agent_id
            AND (p.cancel_requested OR (p.state NOT IN ('delivered', 'running') AND p.expires_at > moment
                AND (p.not_before IS NULL OR p.not_before <= moment)
                AND (p.hours IS NULL OR p.hours = ANY(open_hours))))
        LIMIT 1
    ) AS found
$$;

-- Returns a row for each order, one with no order for an agent that has none, and, of those that want something and
-- are held by others, one without a fence.
CREATE OR REPLACE FUNCTION fleetlog.take_leases(
    asked uuid[], holder text, lease_s double precision, longest_s double precision, again boolean,
    only_wanted boolean, moment timestamptz, room integer, open_hours text[]
)
RETURNS TABLE (
    leased_agent uuid, lease_fence bigint, took_over boolean, uncertain uuid[], cancels uuid[], there bigint,
    command_id uuid, agent_id uuid, client_id uuid, lane text, priority smallint, queued_position bigint, state text,
    attempt integer, not_before timestamptz, expires_at timestamptz, cancel_requested boolean, queued_at timestamptz,
    correlation_id uuid, spec bytea, version bigint, hours text
)
LANGUAGE plpgsql
-- A plan that was made while a table was empty would read all of it from then on; and none is worth making anew.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    wanted uuid[] := asked;
    mine uuid[];
BEGIN
    IF only_wanted THEN
        wanted := ARRAY(SELECT w.agent_id FROM fleetlog.wanting(asked, moment, open_hours) AS w);
        IF wanted = '{}' THEN
            RETURN;
        END IF;
    END IF;
    -- Those that were never delivered to. By itself and first, so that a row is there to be locked like any other.
    INSERT INTO fleetlog.leases (agent_id, gateway, fence, expires_at, command_ids)
    SELECT w.agent_id, '', 0, '-infinity', '{}' FROM unnest(wanted) AS w (agent_id)
    WHERE NOT EXISTS (SELECT 1 FROM fleetlog.leases AS l WHERE l.agent_id = w.agent_id)
    ON CONFLICT DO NOTHING;
    -- SKIP LOCKED: a row is locked for a moment by another gateway, or by a handler that cancels; the agent is looked
    -- at again soon. A lease that lasts longer than one can was taken before the server's clock was put back: nobody
    -- may wait for it.
    mine := ARRAY(
        SELECT l.agent_id FROM fleetlog.leases AS l
        WHERE l.agent_id = ANY(wanted)
            AND (l.expires_at <= clock_timestamp()
                OR l.expires_at > clock_timestamp() + make_interval(secs => longest_s)
                OR (again AND l.gateway = holder))
        FOR UPDATE SKIP LOCKED
    );
    -- A statement of its own, after the rows are locked: it sees what whoever held them before has committed, so that
    -- a command cancelled under a hold is not read here as still queued.
    RETURN QUERY
    WITH held AS MATERIALIZED (
        SELECT l.agent_id, l.fence + 1 AS fence, l.command_ids <> '{}' AND l.expires_at > '-infinity' AS took_over,
            CASE WHEN l.command_ids = '{}' THEN '{}' ELSE ARRAY(
                SELECT p.command_id FROM read.pending AS p
                WHERE p.command_id = ANY(l.command_ids) AND p.state NOT IN ('delivered', 'running')
            ) END AS uncertain,
            ARRAY(
                SELECT p.command_id FROM read.pending AS p
                WHERE p.agent_id = l.agent_id AND p.cancel_requested ORDER BY p.cancel_position
            ) AS cancels,
            (
                SELECT count(*) FROM read.pending AS p
                WHERE p.agent_id = l.agent_id AND p.state IN ('delivered', 'running')
            ) AS there
        FROM fleetlog.leases AS l WHERE l.agent_id = ANY(mine)
    ), orders AS MATERIALIZED (
        SELECT * FROM fleetlog.deliverable(mine, moment, room, open_hours)
    ), given AS (
        SELECT o.agent_id, array_agg(o.command_id) AS command_ids FROM orders AS o GROUP BY o.agent_id
    ), taken AS (
        -- Written but once for a lease, when it is known what it is for: each version has its entries in both indexes.
        UPDATE fleetlog.leases AS l SET
            gateway = holder,
            fence = h.fence,
            command_ids = h.uncertain || ARRAY(
                SELECT c FROM unnest(g.command_ids) AS c WHERE c <> ALL(h.uncertain)
            ),
            expires_at = CASE WHEN g.command_ids IS NULL AND h.cancels = '{}' THEN '-infinity'
                ELSE clock_timestamp() + make_interval(secs => lease_s) END
        FROM held AS h LEFT JOIN given AS g ON g.agent_id = h.agent_id
        WHERE l.agent_id = h.agent_id
    )
    SELECT h.agent_id, h.fence, h.took_over, h.uncertain, h.cancels, h.there, o.*
    FROM held AS h LEFT JOIN orders AS o ON o.agent_id = h.agent_id
    ORDER BY h.agent_id, o.priority, o.queued_position;
    IF only_wanted THEN
        RETURN QUERY
        SELECT w.agent_id, NULL::bigint, false, NULL::uuid[], NULL::uuid[], NULL::bigint,
            NULL::uuid, NULL::uuid, NULL::uuid, NULL::text, NULL::smallint, NULL::bigint, NULL::text, NULL::integer, NULL::timestamptz, NULL::timestamptz,
            NULL::boolean, NULL::timestamptz, NULL::uuid, NULL::bytea, NULL::bigint, NULL::text
        FROM unnest(wanted) AS w (agent_id) WHERE w.agent_id <> ALL(mine);
    END IF;
END $$;
