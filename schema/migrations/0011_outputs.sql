-- Whole outputs, once each, under their hash; the events beside them hold sizes, hashes and tails.
CREATE TABLE fleetlog.outputs (
    sha256 bytea PRIMARY KEY,
    size bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now()
);

-- zlib-compressed pieces, as the agent sent them; they are compressed already.
CREATE TABLE fleetlog.output_chunks (
    sha256 bytea NOT NULL REFERENCES fleetlog.outputs ON DELETE CASCADE,
    index integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (sha256, index)
);
ALTER TABLE fleetlog.output_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

-- Uploads under way. Each agent has its own, so that none can spoil another's; what is whole and true moves over.
CREATE TABLE fleetlog.output_uploads (
    agent_id uuid NOT NULL,
    sha256 bytea NOT NULL,
    index integer NOT NULL,
    data bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, sha256, index)
);
ALTER TABLE fleetlog.output_uploads ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX output_uploads_received_at ON fleetlog.output_uploads (received_at);

GRANT SELECT, INSERT, DELETE ON fleetlog.outputs, fleetlog.output_chunks, fleetlog.output_uploads TO fleetlog_app;
