-- name: list
SELECT slot, name, position, at, events, ready, digest = %(digest)s, made_at, expires_at
FROM fleetlog.replays ORDER BY position, slot

-- name: position_named
SELECT position FROM fleetlog.replays WHERE name = %(name)s AND ready AND expires_at > clock_timestamp()

-- name: time_at
SELECT at FROM fleetlog.replays WHERE position = %(position)s AND ready LIMIT 1

-- name: at
SELECT slot FROM fleetlog.replays
WHERE position = %(position)s AND ready AND digest = %(digest)s AND expires_at > clock_timestamp()
    AND slot = coalesce(%(slot)s::smallint, slot)
    AND NOT EXISTS (SELECT FROM fleetlog.personal_keys WHERE erased_at >= made_at)
ORDER BY slot LIMIT 1

-- name: add
INSERT INTO fleetlog.replays (slot, name, position, digest, expires_at)
VALUES (%(slot)s, %(name)s, %(position)s, %(digest)s, clock_timestamp() + %(life)s)

-- name: ready
UPDATE fleetlog.replays SET ready = true, events = %(events)s, at = %(at)s WHERE slot = %(slot)s

-- name: remove
DELETE FROM fleetlog.replays WHERE slot = %(slot)s

-- name: over
SELECT slot, name FROM fleetlog.replays WHERE expires_at <= clock_timestamp() OR NOT ready
    -- It may hold what was erased since; made anew it does not.
    OR EXISTS (SELECT FROM fleetlog.personal_keys WHERE erased_at >= made_at)
ORDER BY slot

-- name: tables_of
SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = %(schema)s

-- name: by_size
-- The largest first.
SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = %(schema)s::regnamespace AND relkind = 'r'
ORDER BY pg_relation_size(oid) DESC, relname

-- name: turn
SELECT pg_advisory_xact_lock(hashtextextended('fleetlog replays', 0))

-- name: hold
-- Until the session ends, or `release`.
SELECT pg_try_advisory_lock(hashtextextended('fleetlog replay ' || %(slot)s::smallint, 0))

-- name: release
SELECT pg_advisory_unlock(hashtextextended('fleetlog replay ' || %(slot)s::smallint, 0))

-- name: try
SELECT pg_try_advisory_xact_lock(hashtextextended('fleetlog replay ' || %(slot)s::smallint, 0))

-- name: wait
SELECT pg_advisory_xact_lock(hashtextextended('fleetlog replay ' || %(slot)s::smallint, 0))

-- name: share
SELECT pg_advisory_xact_lock_shared(hashtextextended('fleetlog replay ' || %(slot)s::smallint, 0))
