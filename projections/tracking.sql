-- name: tables
CREATE TABLE IF NOT EXISTS tracking (
    projection text PRIMARY KEY,
    position bigint NOT NULL, -- the last event folded or passed over; the inline ones stand at the log's head
    status text NOT NULL CHECK (status IN ('running', 'stopped')),
    error text,
    error_topic text,
    error_position bigint, -- the event that it could not fold
    digest text NOT NULL, -- of the tables and the fold that made the rows
    updated_at timestamptz NOT NULL
)

-- name: add
INSERT INTO tracking (projection, position, status, digest, updated_at)
VALUES (%(name)s, 0, 'running', %(digest)s, statement_timestamp())
ON CONFLICT DO NOTHING

-- name: read
SELECT projection, position, status, error, error_topic, error_position, digest, updated_at
FROM tracking ORDER BY projection

-- name: lock
-- One order of locking for all.
SELECT projection, position, status, error, error_topic, error_position, digest, updated_at
FROM tracking WHERE projection = ANY(%(names)s) ORDER BY projection FOR UPDATE

-- name: advance
UPDATE tracking SET position = %(position)s, updated_at = statement_timestamp()
WHERE projection = ANY(%(names)s)

-- name: advance_and_tell
-- One round trip for the page that every projector writes all day.
WITH advanced AS (
    UPDATE tracking SET position = %(position)s, updated_at = statement_timestamp()
    WHERE projection = ANY(%(names)s)
)
SELECT pg_notify('fleetlog_projected', %(payload)s)

-- name: advance_with
-- The beginning of a statement that goes on with the rows' parts: each joins went, so that no row is touched before the
-- tracking rows are locked.
WITH advanced AS (
    UPDATE tracking AS t SET position = %s, updated_at = statement_timestamp()
    FROM unnest(%s::text[], %s::text[]) AS known (projection, digest)
    WHERE t.projection = known.projection AND t.digest = known.digest AND t.position = %s AND t.status = 'running'
    RETURNING 1
), went AS MATERIALIZED (SELECT count(*) AS rows FROM advanced)

-- name: told_if
-- Its end: what did not find all that it must find is undone by a division by zero.
SELECT pg_notify('fleetlog_projected', %s), 1 / ((SELECT rows FROM went) = %s

-- name: stop
UPDATE tracking SET position = %(position)s, status = 'stopped', error = %(error)s, error_topic = %(topic)s,
    error_position = %(error_position)s, updated_at = statement_timestamp()
WHERE projection = %(name)s

-- name: resume
UPDATE tracking SET status = 'running', error = NULL, error_topic = NULL, error_position = NULL,
    updated_at = statement_timestamp()
WHERE projection = %(name)s

-- name: replaced
UPDATE tracking SET position = %(position)s, digest = %(digest)s, status = 'running', error = NULL,
    error_topic = NULL, error_position = NULL, updated_at = statement_timestamp()
WHERE projection = %(name)s

-- name: head
SELECT coalesce(max(notification_id), 0) FROM fleetlog.events

-- name: notify
SELECT pg_notify('fleetlog_projected', %(payload)s)
