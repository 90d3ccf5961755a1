-- The audit chain: hashes over the log, in the order of positions, by a follower of it; and the signed checkpoints of that
-- chain. Appending costs nothing more. docs/decisions/0015-the-audit-chain.md says what is hashed, and how.

-- A run of events as they were chained.
CREATE TABLE fleetlog.chain_pages (
    number        bigint      PRIMARY KEY CHECK (number > 0),
    last_position bigint      NOT NULL UNIQUE,
    entries       bytea       NOT NULL, -- of each event: position (8 bytes) and leaf (32 bytes)
    head          bytea       NOT NULL CHECK (octet_length(head) = 32),
    chained_at    timestamptz NOT NULL DEFAULT now()
);
-- Hashes cannot be compressed.
ALTER TABLE fleetlog.chain_pages ALTER COLUMN entries SET STORAGE EXTERNAL;

CREATE TABLE fleetlog.chain_checkpoints (
    number        bigint      PRIMARY KEY CHECK (number > 0),
    last_position bigint      NOT NULL UNIQUE REFERENCES fleetlog.chain_pages (last_position),
    statement     text        NOT NULL, -- JSON, as it was signed
    made_at       timestamptz NOT NULL DEFAULT now()
);

-- Ours, and those of whoever else vouches for a checkpoint.
CREATE TABLE fleetlog.chain_signatures (
    checkpoint bigint      NOT NULL REFERENCES fleetlog.chain_checkpoints,
    public_key bytea       NOT NULL CHECK (octet_length(public_key) = 32),
    signature  bytea       NOT NULL CHECK (octet_length(signature) = 64),
    name       text        NOT NULL,
    signed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (checkpoint, public_key)
);

-- What has left the database, and to where: the cursor of each destination.
CREATE TABLE fleetlog.chain_exports (
    destination text        NOT NULL,
    checkpoint  bigint      NOT NULL REFERENCES fleetlog.chain_checkpoints,
    exported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (destination, checkpoint)
);

-- What checkpoints are signed with, where no file is named for it. One.
CREATE TABLE fleetlog.chain_key (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    seed       bytea       NOT NULL CHECK (octet_length(seed) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE fleetlog.chain_key IS 'An Ed25519 seed. Whoever reads it can sign checkpoints as Fleetlog.';

CREATE FUNCTION fleetlog.refuse_chain_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit chain is append-only: % of fleetlog.% is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fleetlog.chain_pages
    FOR EACH STATEMENT EXECUTE FUNCTION fleetlog.refuse_chain_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fleetlog.chain_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION fleetlog.refuse_chain_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fleetlog.chain_signatures
    FOR EACH STATEMENT EXECUTE FUNCTION fleetlog.refuse_chain_change();

GRANT SELECT, INSERT ON fleetlog.chain_pages, fleetlog.chain_checkpoints, fleetlog.chain_signatures,
    fleetlog.chain_exports, fleetlog.chain_key TO fleetlog_app;

-- The application says what happened; where that stands in the log is drawn from the sequence, and nobody but the owner
-- may choose another place: an event cannot be slipped in among older ones.
REVOKE INSERT ON fleetlog.events FROM fleetlog_app;
GRANT INSERT (
    originator_id, originator_version, agent_id, client_id, topic, state, actor, correlation_id, causation_id, recorded_at
) ON fleetlog.events TO fleetlog_app;
