-- A notification also says what was recorded, where that is little: who follows the log for a few kinds of events then
-- need not read it to find that there is nothing for them, or whom it concerns.

CREATE OR REPLACE FUNCTION fleetlog.after_events() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- Whoever says more than we do says it himself.
    IF current_setting('fleetlog.tells', true) = 'more' THEN
        RETURN NULL;
    END IF;
    PERFORM pg_catalog.pg_notify(
        'fleetlog_events', pg_catalog.currval('fleetlog.events_notification_id_seq')::text
    );
    RETURN NULL;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- The rows came with positions of their own, as a restore's do: there is nobody to wake.
    RETURN NULL;
END $$;

-- As before (0001_event_log.sql). Sixteen events are less than 3 kB of the 8 kB that a notification may have.
CREATE OR REPLACE FUNCTION fleetlog.append_events(
    new fleetlog.new_event[], OUT last_position bigint, OUT recorded timestamptz
)
LANGUAGE plpgsql AS $$
DECLARE
    few CONSTANT boolean := cardinality(new) <= 16;
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(7380948517104312167);
    IF few THEN
        PERFORM pg_catalog.set_config('fleetlog.tells', 'more', true);
    END IF;
    recorded := pg_catalog.clock_timestamp();
    INSERT INTO fleetlog.events (
        originator_id, originator_version, agent_id, client_id, topic, state,
        actor, correlation_id, causation_id, recorded_at
    )
    SELECT n.originator_id, n.originator_version, n.agent_id, n.client_id, n.topic, n.state,
           n.actor, n.correlation_id, n.causation_id, recorded
    FROM unnest(new) AS n;
    last_position := pg_catalog.currval('fleetlog.events_notification_id_seq');
    IF few THEN
        PERFORM pg_catalog.set_config('fleetlog.tells', '', true);
        PERFORM pg_catalog.pg_notify('fleetlog_events', last_position || ' ' || (
            SELECT json_agg(json_build_array(n.topic, n.originator_id, n.agent_id, n.client_id)) FROM unnest(new) AS n
        ));
    END IF;
END $$;
