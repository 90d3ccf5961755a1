-- Outputs of erased agents that are still there. One is marked as removed first, and its data go once what may have been
-- under way when it was marked is on record: docs/decisions/0023-erasure.md
CREATE TABLE fleetlog.erasing_outputs (
    sha256    bytea       PRIMARY KEY REFERENCES fleetlog.outputs ON DELETE CASCADE,
    agent_id  uuid        NOT NULL, -- of those who printed it, the one that is told of it
    marked_at timestamptz -- the removed_at that the output was given; a row that has another was kept again since
);
CREATE INDEX erasing_outputs_agent_idx ON fleetlog.erasing_outputs (agent_id);

-- What of an erased agent's outputs is gone and the log does not say yet: one transaction with the going.
CREATE TABLE fleetlog.output_erasures (
    agent_id uuid   PRIMARY KEY,
    outputs  bigint NOT NULL,
    bytes    bigint NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.erasing_outputs, fleetlog.output_erasures TO fleetlog_app;
