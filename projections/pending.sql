-- name: tables
CREATE TABLE pending (
    command_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    client_id uuid NOT NULL,
    lane text NOT NULL,
    priority smallint NOT NULL,
    position bigint NOT NULL, -- of CommandQueued
    state text NOT NULL, -- queued, delivered or running
    attempt integer NOT NULL,
    not_before timestamptz,
    expires_at timestamptz NOT NULL,
    cancel_requested boolean NOT NULL,
    cancel_position bigint, -- of CommandCancelRequested
    queued_at timestamptz NOT NULL,
    correlation_id uuid NOT NULL,
    spec bytea NOT NULL, -- JSON of domain.commands.Spec
    version bigint NOT NULL, -- of the command's stream
    hours text, -- JSON of domain.hours.Hours, with the machine's time zone: it begins only within these
    PRIMARY KEY (command_id)
);
-- What changes as a command is delivered and begun is in no index, and half of each page is left for the rows' next
-- versions: such a change writes no index.
ALTER TABLE pending SET (fillfactor = 50);

-- name: indexes
CREATE INDEX pending_agent_idx ON pending (agent_id, priority, position);
CREATE INDEX pending_position_idx ON pending (position);
CREATE INDEX pending_not_before_idx ON pending (not_before) WHERE not_before IS NOT NULL;
CREATE INDEX pending_expiry_idx ON pending (expires_at);
CREATE INDEX pending_cancel_idx ON pending (cancel_position) WHERE cancel_requested;
CREATE INDEX pending_agent_cancel_idx ON pending (agent_id, cancel_position) WHERE cancel_requested;
CREATE INDEX pending_hours_idx ON pending (hours, agent_id) WHERE hours IS NOT NULL;
CREATE INDEX pending_correlation_idx ON pending (correlation_id);

-- name: select
SELECT command_id, agent_id, client_id, lane, priority, position, state, attempt, not_before, expires_at,
    cancel_requested, queued_at, correlation_id, spec, version, hours
FROM pending

-- name: agents_with_new
SELECT agent_id, max(position) FROM (
    SELECT agent_id, position FROM pending
    WHERE position > %(after)s ORDER BY position LIMIT %(limit)s
) AS page
GROUP BY agent_id ORDER BY 2

-- name: agents_due
SELECT DISTINCT agent_id FROM pending
WHERE not_before > %(since)s AND not_before <= %(now)s AND state = 'queued'

-- name: hours_waited_for
-- From one value to the next by the index, however many commands share it.
WITH RECURSIVE found (hours) AS (
    (SELECT hours FROM pending WHERE hours IS NOT NULL ORDER BY hours LIMIT 1)
    UNION ALL
    SELECT (SELECT p.hours FROM pending AS p WHERE p.hours > found.hours ORDER BY p.hours LIMIT 1)
    FROM found WHERE found.hours IS NOT NULL
)
SELECT hours FROM found WHERE hours IS NOT NULL

-- name: agents_in_hours
SELECT DISTINCT agent_id FROM pending WHERE hours = ANY(%(hours)s::text[])

-- name: agents_with_pending
SELECT DISTINCT agent_id FROM pending WHERE agent_id > %(after)s ORDER BY agent_id LIMIT %(limit)s

-- name: cancels
SELECT agent_id, command_id, cancel_position FROM pending
WHERE cancel_requested AND cancel_position > %(after)s ORDER BY cancel_position LIMIT %(limit)s

-- name: counts
SELECT agent_id, count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state = 'delivered'),
    count(*) FILTER (WHERE state = 'running')
FROM pending WHERE agent_id = ANY(%(agent_ids)s::uuid[]) GROUP BY agent_id

-- name: held
SELECT agent_id, command_id, attempt FROM pending
WHERE state IN ('delivered', 'running') AND agent_id = ANY(%(agent_ids)s::uuid[]) AND NOT cancel_requested

-- name: naming_secrets
-- What waits may be on its agent already, whose word of that was lost: so whatever has not ended counts. A page is read
-- on from its last row by the key.
SELECT command_id FROM pending
WHERE command_id > %(after)s AND position('"secrets":'::bytea IN spec) > 0 ORDER BY command_id LIMIT %(limit)s

-- name: expired
-- What an agent has when it expires is passed over each time: that is little, unless many never came back.
SELECT command_id, agent_id FROM pending
WHERE state = 'queued' AND expires_at <= %(now)s ORDER BY expires_at LIMIT %(limit)s

-- name: open_of
SELECT command_id, agent_id FROM pending WHERE agent_id = ANY(%(agent_ids)s::uuid[]) LIMIT %(limit)s

-- name: waiting
SELECT count(*) FROM (SELECT FROM pending WHERE agent_id = %(agent_id)s LIMIT %(limit)s) AS counted

-- name: depths
-- The whole of the queue is read, which is as large as what waits, not as history.
SELECT count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state = 'delivered'),
    count(*) FILTER (WHERE state = 'running'), count(DISTINCT agent_id),
    (SELECT queued_at FROM pending ORDER BY position LIMIT 1)
FROM pending
