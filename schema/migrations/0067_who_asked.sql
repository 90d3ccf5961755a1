-- Who queued a command is told with its lease: what waited is handed over only while whoever asked for it still may. It
-- stands in the event that queued it, which is found by its position, so that a lease costs no round trip more.

SET LOCAL check_function_bodies = off;

-- A function of its own, and a volatile one: it looks when it is called. What a lease finds may have been committed after
-- the statement began that asks for it, and to that statement the event would not be there yet.
CREATE FUNCTION fleetlog.asker_of(queued bigint) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (SELECT e.actor FROM fleetlog.events AS e WHERE e.notification_id = queued);
END $$;

-- As fleetlog.take_leases, which programs from before go on to call, and of each order who asked for it.
CREATE FUNCTION fleetlog.take_leases_and_askers(
    asked uuid[], holder text, lease_s double precision, longest_s double precision, again boolean,
    only_wanted boolean, moment timestamptz, room integer, open_hours text[]
)
RETURNS TABLE (
    leased_agent uuid, lease_fence bigint, took_over boolean, uncertain uuid[], cancels uuid[], there bigint,
    command_id uuid, agent_id uuid, client_id uuid, lane text, priority smallint, queued_position bigint, state text,
    attempt integer, not_before timestamptz, expires_at timestamptz, cancel_requested boolean, queued_at timestamptz,
    correlation_id uuid, spec bytea, version bigint, hours text, actor text
)
LANGUAGE plpgsql
-- See 0053_lease_plans.sql.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
BEGIN
    RETURN QUERY
    SELECT taken.*, CASE WHEN taken.queued_position IS NOT NULL THEN fleetlog.asker_of(taken.queued_position) END
    FROM fleetlog.take_leases(
        asked, holder, lease_s, longest_s, again, only_wanted, moment, room, open_hours
    ) AS taken;
END $$;
