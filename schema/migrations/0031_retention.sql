-- Whole outputs may be removed by policy. What is left of one says when and why; its size, hash and tail are in the
-- event that names it, as ever. The same output that comes again is kept again.

ALTER TABLE fleetlog.outputs
    ADD COLUMN named_at timestamptz NOT NULL DEFAULT now(), -- when a result last named it, to the day
    ADD COLUMN removed_at timestamptz,
    ADD COLUMN removed_for text CHECK (removed_for IN ('age', 'size')),
    ADD CONSTRAINT outputs_removed CHECK ((removed_at IS NULL) = (removed_for IS NULL));
UPDATE fleetlog.outputs SET named_at = stored_at;
COMMENT ON COLUMN fleetlog.outputs.named_at IS 'Retention goes by it; refreshed once a day at the most.';

-- Finds what is due, and, with the sizes, from where on back all is larger than it may be; no row is read.
CREATE INDEX outputs_named_idx ON fleetlog.outputs (named_at) INCLUDE (size) WHERE removed_at IS NULL;

GRANT UPDATE (named_at, removed_at, removed_for) ON fleetlog.outputs TO fleetlog_app;
