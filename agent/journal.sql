-- What the agent has been told to do and what came of it. One writer: agent/journal.py.

CREATE TABLE IF NOT EXISTS entries (
    command_id   BLOB NOT NULL,
    attempt      INTEGER NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('accepted', 'running', 'ended')),
    lane         TEXT NOT NULL,
    priority     INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    expires_at   REAL NOT NULL,
    sealed       BLOB,      -- the order, encrypted; gone as soon as it runs
    boot_id      TEXT,
    pid          INTEGER,
    pid_started  REAL,
    started_at   REAL,      -- by the server's clock
    result       BLOB,      -- msgpack of the ResultReport that is to be delivered
    stdout_spool INTEGER NOT NULL DEFAULT 0,
    stderr_spool INTEGER NOT NULL DEFAULT 0,
    ended_order  INTEGER,
    rebooting    INTEGER NOT NULL DEFAULT 0,    -- the machine is being told to restart, or was: never again for this
    PRIMARY KEY (command_id, attempt)
) STRICT;

-- Attempts whose result the server has: they must not run again, and for a while what they came to is kept, should the
-- server lose it.
CREATE TABLE IF NOT EXISTS finished (
    command_id  BLOB NOT NULL,
    attempt     INTEGER NOT NULL,
    at          REAL NOT NULL,
    result      BLOB,      -- msgpack of a ResultReport with the ends of its outputs; gone after some weeks
    PRIMARY KEY (command_id, attempt)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS finished_at ON finished (at);

-- Commands that were cancelled before they ran here: they never will.
CREATE TABLE IF NOT EXISTS tombstones (
    command_id  BLOB PRIMARY KEY,
    at          REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- What came in the server's name and was refused, until the server has it on record. Few: see agent/kept_refusals.py.
CREATE TABLE IF NOT EXISTS refusals (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    report  BLOB NOT NULL      -- msgpack of the RefusalReport
) STRICT;

-- The checks that the server gave last, how each stands, and what is to be told of them: see agent/kept_checks.py.
CREATE TABLE IF NOT EXISTS check_list (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    list  BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS check_standings (
    check_id  BLOB PRIMARY KEY,
    standing  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS check_reports (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    check_id  BLOB NOT NULL,
    report    BLOB NOT NULL      -- msgpack of the CheckReport
) STRICT;

CREATE TABLE IF NOT EXISTS notes (
    name   TEXT PRIMARY KEY,
    value  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
