-- The processes of the platform, on whatever machine, as they last said themselves. Telemetry: none of it is an event.

CREATE TABLE fleetlog.processes (
    id         uuid        PRIMARY KEY,
    role       text        NOT NULL,
    host       text        NOT NULL,
    pid        integer     NOT NULL,
    version    text        NOT NULL,
    state      text        NOT NULL CHECK (state IN ('starting', 'running', 'stopping')),
    note       text        NOT NULL DEFAULT '', -- what it waits for
    status_url text        NOT NULL,            -- where it serves /healthz and /metrics
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.processes TO fleetlog_app;
