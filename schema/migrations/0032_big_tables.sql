-- Upkeep of the tables that grow: often and little, rather than a fixed share of them, which at a billion rows would be
-- tens of millions at a time. Rows of the log are only added, and taken out by the archive; what has to follow them is the
-- visibility map, for reads by an index alone, and the planner's picture of the newest positions.

ALTER TABLE fleetlog.events SET (
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 500000,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500000,
    autovacuum_analyze_scale_factor = 0.01
);
ALTER TABLE fleetlog.archive_streams SET (
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 500000
);
-- Retention removes a page at a time: the room is to be used again before the next output needs it.
ALTER TABLE fleetlog.outputs SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE fleetlog.output_chunks SET (
    autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02
);
