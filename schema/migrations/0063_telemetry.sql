-- Telemetry: how busy machines were. None of it is truth; what is older than it is kept for is deleted.
-- One row for an agent's hour, so that a sample costs eight bytes and no entry of an index but the hour's first.
CREATE TABLE fleetlog.telemetry (
    agent_id uuid        NOT NULL,
    hour     timestamptz NOT NULL,
    samples  smallint[]  NOT NULL,
    PRIMARY KEY (agent_id, hour)
) WITH (fillfactor = 60);
COMMENT ON COLUMN fleetlog.telemetry.samples IS
    'Four numbers each: second of the hour; processor, memory and fullest disk in use, in tenths of a percent, -1 unknown.';
CREATE INDEX telemetry_hour_idx ON fleetlog.telemetry (hour);

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.telemetry TO fleetlog_app;
