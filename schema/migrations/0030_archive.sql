-- The archive: events of what has ended and will not be looked at often, compressed, outside of the log's table and its
-- seven indexes. An event is in the one or in the other, never in neither: it moves in one transaction, and the triggers
-- below let it out of the table only once it is here. docs/decisions/0013-the-archive.md says why it is built so.

-- A run's worth of events: a content (its blocks, one after the other) and a manifest that holds the content's hash and
-- the hash of the manifest before it.
CREATE TABLE fleetlog.archive_segments (
    number          bigint      PRIMARY KEY CHECK (number > 0),
    first_position  bigint      NOT NULL,
    last_position   bigint      NOT NULL,
    events          bigint      NOT NULL,
    streams         bigint      NOT NULL,
    raw_bytes       bigint      NOT NULL,
    stored_bytes    bigint      NOT NULL,
    manifest        text        NOT NULL, -- JSON, as it was hashed
    manifest_sha256 bytea       NOT NULL UNIQUE,
    file            text,                 -- where the content is; null: in the blocks themselves
    archived_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX archive_segments_last_idx ON fleetlog.archive_segments (last_position);

CREATE TABLE fleetlog.archive_blocks (
    segment        bigint  NOT NULL REFERENCES fleetlog.archive_segments,
    block          integer NOT NULL,
    first_position bigint  NOT NULL,
    last_position  bigint  NOT NULL,
    sha256         bytea   NOT NULL,
    start          bigint  NOT NULL, -- within the content
    size           bigint  NOT NULL,
    data           bytea,            -- null where the content is a file
    PRIMARY KEY (segment, block)
);
-- It is compressed already.
ALTER TABLE fleetlog.archive_blocks ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX archive_blocks_first_idx ON fleetlog.archive_blocks (first_position);
CREATE INDEX archive_blocks_last_idx ON fleetlog.archive_blocks (last_position);
CREATE INDEX archive_blocks_span_idx ON fleetlog.archive_blocks
    USING gist (pg_catalog.int8range(first_position, last_position, '[]'));

-- What is left of a stream in the database's own terms: where it is, and that its places are taken for good.
CREATE TABLE fleetlog.archive_streams (
    stream_id      uuid   NOT NULL,
    last_version   bigint NOT NULL, -- all up to it are archived
    agent_id       uuid,
    segment        bigint NOT NULL,
    first_position bigint NOT NULL,
    last_position  bigint NOT NULL,
    PRIMARY KEY (stream_id, last_version)
);
CREATE INDEX archive_streams_agent_idx ON fleetlog.archive_streams (agent_id, first_position) WHERE agent_id IS NOT NULL;

GRANT SELECT ON fleetlog.archive_segments, fleetlog.archive_blocks, fleetlog.archive_streams TO fleetlog_app;

-- Nobody changes what is archived, and nobody takes it away.
CREATE FUNCTION fleetlog.refuse_archive_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the archive is append-only: % of fleetlog.% is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fleetlog.archive_segments
    FOR EACH STATEMENT EXECUTE FUNCTION fleetlog.refuse_archive_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fleetlog.archive_blocks
    FOR EACH STATEMENT EXECUTE FUNCTION fleetlog.refuse_archive_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fleetlog.archive_streams
    FOR EACH STATEMENT EXECUTE FUNCTION fleetlog.refuse_archive_change();

-- An event leaves the table by one way alone: its stream's place in the archive is on record, in a segment that reaches
-- over its position. The application has no right to delete at all; this keeps the owner from doing it by mistake.
CREATE FUNCTION fleetlog.refuse_unarchived() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM gone WHERE NOT EXISTS (
            SELECT FROM fleetlog.archive_streams AS a
            WHERE a.stream_id = gone.originator_id AND a.last_version >= gone.originator_version
                AND gone.notification_id BETWEEN a.first_position AND a.last_position
        )
    ) THEN
        RAISE EXCEPTION 'fleetlog.events is append-only: DELETE is refused of what is not in the archive'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER append_only ON fleetlog.events;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON fleetlog.events
    FOR EACH STATEMENT EXECUTE FUNCTION fleetlog.refuse_change();
CREATE TRIGGER archived_first AFTER DELETE ON fleetlog.events REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION fleetlog.refuse_unarchived();

-- The table's key lets a place in a stream be taken once; this goes on to hold when the event has moved. So a derived
-- id (a rollout's command for one agent) cannot be used a second time a year later.
CREATE FUNCTION fleetlog.refuse_archived_place() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    met record;
BEGIN
    IF NOT EXISTS (SELECT FROM fleetlog.archive_segments) THEN
        RETURN NULL;
    END IF;
    SELECT added.originator_id, added.originator_version INTO met FROM added
    WHERE EXISTS (
        SELECT FROM fleetlog.archive_streams AS a
        WHERE a.stream_id = added.originator_id AND a.last_version >= added.originator_version
    ) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'stream % has an event % in the archive', met.originator_id, met.originator_version
            USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER place_is_free AFTER INSERT ON fleetlog.events REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION fleetlog.refuse_archived_place();
