-- name: tables
CREATE TABLE destinations (
    destination_id uuid NOT NULL,
    name text NOT NULL,
    sort_key text COLLATE "C" NOT NULL,
    target jsonb NOT NULL,
    filter jsonb NOT NULL,
    after bigint NOT NULL,
    sealed jsonb NOT NULL,
    paused boolean NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    removed_at timestamptz,
    skipped_at bigint,
    version bigint NOT NULL,
    PRIMARY KEY (destination_id)
);

-- name: indexes
CREATE INDEX destinations_name_idx ON destinations (sort_key, destination_id) WHERE removed_at IS NULL;

-- How far each is stands beside the events.
-- name: select
SELECT destination_id, name, target::text, filter::text, sealed, paused, reason, created_at, changed_by, version,
    coalesce(f.position, after), f.destination_id IS NOT NULL, f.sent, f.sent_at, f.failures, f.failing_since, f.error, f.tries_at,
    f.stuck_at, f.stuck_type, skipped_at
FROM destinations LEFT JOIN fleetlog.forwarding AS f USING (destination_id)
