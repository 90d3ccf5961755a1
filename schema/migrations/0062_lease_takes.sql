-- What changes with each lease is in no index any more: a lease is written when it is taken and when it is settled, and
-- each time had its entries in both. So those that their holders did not live to settle are found another way: who takes
-- leases notes whose, and until when, in one row for all of them; once that time has come the row is looked into, and
-- goes when nothing of it is left. It is never changed, and few of them live at a time.
CREATE TABLE fleetlog.lease_takes (
    expires_at timestamptz NOT NULL,
    agent_ids  uuid[]      NOT NULL
);
COMMENT ON TABLE fleetlog.lease_takes IS 'Whose leases were taken together, and until when: where to look for those left behind.';
CREATE INDEX lease_takes_expiry_idx ON fleetlog.lease_takes (expires_at);
GRANT SELECT, INSERT, DELETE ON fleetlog.lease_takes TO fleetlog_app;

-- Those there are: of gateways that live, which settle them, and of those that do not.
CREATE FUNCTION fleetlog.note_leases() RETURNS void
LANGUAGE sql AS $$
    INSERT INTO fleetlog.lease_takes (expires_at, agent_ids)
    SELECT l.expires_at, array_agg(l.agent_id) FROM fleetlog.leases AS l
    WHERE l.command_ids <> '{}' AND l.expires_at > '-infinity' GROUP BY l.expires_at
$$;
SELECT fleetlog.note_leases();

DROP INDEX fleetlog.leases_unsettled_idx;
-- Room for the versions of a row that come with a lease, also where a whole page is leased at once.
ALTER TABLE fleetlog.leases SET (fillfactor = 50);

-- What gateways left behind that did not live to settle it. An agent is named until its lease is taken over.
CREATE FUNCTION fleetlog.left_behind(longest_s double precision, most integer) RETURNS TABLE (agent_id uuid)
LANGUAGE sql
SET enable_seqscan = off
AS $$
    WITH due AS MATERIALIZED (
        -- One that ends later than any can was noted before the server's clock was put back.
        SELECT t.ctid AS place, t.agent_ids FROM fleetlog.lease_takes AS t
        WHERE t.expires_at <= now() OR t.expires_at > now() + make_interval(secs => longest_s)
        ORDER BY t.expires_at LIMIT most
    ), unsettled AS MATERIALIZED (
        SELECT due.place, l.agent_id FROM due
        CROSS JOIN LATERAL unnest(due.agent_ids) AS one (agent_id)
        JOIN fleetlog.leases AS l ON l.agent_id = one.agent_id
        WHERE l.command_ids <> '{}' AND l.expires_at > '-infinity'
            AND (l.expires_at <= now() OR l.expires_at > now() + make_interval(secs => longest_s))
    ), gone AS (
        DELETE FROM fleetlog.lease_takes AS t WHERE t.ctid = ANY(ARRAY(
            SELECT due.place FROM due WHERE due.place NOT IN (SELECT u.place FROM unsettled AS u)
        ))
    )
    SELECT DISTINCT u.agent_id FROM unsettled AS u LIMIT most
$$;

SET LOCAL check_function_bodies = off;

-- As in 0053_lease_plans.sql, but that it notes what it takes.
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
    until timestamptz := clock_timestamp() + make_interval(secs => lease_s);
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
        -- Written but once for a lease, when it is known what it is for.
        UPDATE fleetlog.leases AS l SET
            gateway = holder,
            fence = h.fence,
            command_ids = h.uncertain || ARRAY(
                SELECT c FROM unnest(g.command_ids) AS c WHERE c <> ALL(h.uncertain)
            ),
            expires_at = CASE WHEN g.command_ids IS NULL AND h.cancels = '{}' THEN '-infinity'
                ELSE until END
        FROM held AS h LEFT JOIN given AS g ON g.agent_id = h.agent_id
        WHERE l.agent_id = h.agent_id
        RETURNING l.agent_id, l.expires_at
    ), noted AS (
        INSERT INTO fleetlog.lease_takes (expires_at, agent_ids)
        SELECT until, array_agg(t.agent_id) FROM taken AS t WHERE t.expires_at = until HAVING count(*) > 0
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
