-- What retention has removed and the log does not say yet. A page of outputs and its sum here are one transaction, so
-- nothing is removed without a trace; the event follows at the end of the sweep, or when its worker is known to be dead.
CREATE TABLE fleetlog.output_sweeps (
    sweep_id   uuid        PRIMARY KEY, -- and the stream of the event
    policy     text        NOT NULL CHECK (policy IN ('age', 'size')),
    kept       bigint      NOT NULL, -- seconds, or bytes
    outputs    bigint      NOT NULL,
    bytes      bigint      NOT NULL,
    named_from timestamptz NOT NULL, -- the oldest and the newest of them, by when a result last named it
    named_to   timestamptz NOT NULL,
    touched_at timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.output_sweeps TO fleetlog_app;
