-- Read models as of an earlier position, made anew from the log: which there are. Their tables are in schemas of their own
-- (`past_1` and so on), which the migrating login makes beside the live ones. docs/decisions/0020-time-travel.md.
CREATE TABLE fleetlog.replays (
    slot       smallint    PRIMARY KEY,  -- of the schema past_<slot>
    name       text        NOT NULL UNIQUE,
    position   bigint      NOT NULL,
    at         timestamptz,              -- when the last event of it was recorded; null before the first
    events     bigint      NOT NULL DEFAULT 0,
    digest     text        NOT NULL,     -- of the tables and the folds that made the rows
    ready      boolean     NOT NULL DEFAULT false,
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE fleetlog.replays IS 'Can be dropped at any time: nothing is in a replay that is not in the log.';

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.replays TO fleetlog_app;
