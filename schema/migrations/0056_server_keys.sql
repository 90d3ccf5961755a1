-- One key of the fleet takes over from another, and both count for a while: several rows for each purpose.
-- Which of them count is what the log says (ServerKeyAnnounced, ServerKeyRetired); the rows follow it.

ALTER TABLE fleetlog.server_keys
    ADD COLUMN number    integer NOT NULL DEFAULT 1 CHECK (number > 0),
    ADD COLUMN state     text    NOT NULL DEFAULT 'counts' CHECK (state IN ('made', 'counts', 'retired')),
    ADD COLUMN public    bytea   CHECK (octet_length(public) = 32),
    ADD COLUMN announced bytea   CHECK (octet_length(announced) = 64),
    ADD COLUMN ended     bytea   CHECK (octet_length(ended) = 64),
    ALTER COLUMN seed DROP NOT NULL,
    ADD CHECK ((seed IS NULL) = (state = 'retired')),
    ADD CHECK (public IS NOT NULL OR number = 1 AND state <> 'retired'),
    DROP CONSTRAINT server_keys_pkey,
    ADD PRIMARY KEY (purpose, number);
COMMENT ON COLUMN fleetlog.server_keys.state IS
    'made: no event speaks of it yet, and nobody uses it. retired: it is over, and its seed is gone.';
COMMENT ON COLUMN fleetlog.server_keys.announced IS 'Of a delivery key: signed by the one before it, for agents.';
COMMENT ON COLUMN fleetlog.server_keys.ended IS 'Of a delivery key: says, signed by it, that those before it are over.';

GRANT UPDATE ON fleetlog.server_keys TO fleetlog_app;
