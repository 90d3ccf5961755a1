-- What is installed on machines: each list once, under its hash, as outputs are kept. Events name it; machines that have
-- the same share it. One that no machine has any more goes after a while.
CREATE TABLE fleetlog.software_lists (
    sha256   text COLLATE "C" PRIMARY KEY,
    packed   bytea       NOT NULL,
    names    text[]      NOT NULL,
    named_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE fleetlog.software_lists ALTER COLUMN packed SET STORAGE EXTERNAL;
COMMENT ON COLUMN fleetlog.software_lists.sha256 IS 'In hex, as agents of the read model name it.';
COMMENT ON COLUMN fleetlog.software_lists.packed IS 'Compressed msgpack, as schema.software packs it.';
COMMENT ON COLUMN fleetlog.software_lists.named_at IS 'When an event last named it, or ceased to.';
CREATE INDEX software_lists_names_idx ON fleetlog.software_lists USING gin (names);
CREATE INDEX software_lists_named_idx ON fleetlog.software_lists (named_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.software_lists TO fleetlog_app;
