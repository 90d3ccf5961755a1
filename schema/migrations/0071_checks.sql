-- Which checks each agent is to measure, worked out from their targets by the scheduler, and followed by whoever hands
-- lists to agents. None of it is truth: it can be worked out anew from checks and agents.
CREATE SEQUENCE fleetlog.check_lists_changed;
CREATE TABLE fleetlog.check_lists (
    agent_id uuid   PRIMARY KEY,
    checks   uuid[] NOT NULL,
    changed  bigint NOT NULL
);
COMMENT ON COLUMN fleetlog.check_lists.checks IS 'In order. Of an agent that has none any more the row stays for a while.';
COMMENT ON COLUMN fleetlog.check_lists.changed IS 'Grows with each change of any row: one transaction at a time writes.';
CREATE INDEX check_lists_changed_idx ON fleetlog.check_lists (changed);
CREATE INDEX check_lists_checks_idx ON fleetlog.check_lists USING gin (checks);

-- Telemetry: what agents say of their checks in hellos.
CREATE TABLE fleetlog.check_told (
    agent_id uuid  PRIMARY KEY,
    taken    text  NOT NULL,
    found    jsonb NOT NULL
) WITH (fillfactor = 60);
COMMENT ON COLUMN fleetlog.check_told.taken IS 'The digest of the list that it has.';
COMMENT ON COLUMN fleetlog.check_told.found IS 'By the ids of its checks: when each was measured last, and what that said.';

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.check_lists, fleetlog.check_told TO fleetlog_app;
GRANT USAGE ON SEQUENCE fleetlog.check_lists_changed TO fleetlog_app;
