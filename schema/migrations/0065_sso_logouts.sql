-- Logouts that the provider told of, for as long as a login may be on its way: a session that begins while one is taken is
-- not there yet when the logout looks for it, and looks for the logout when it is. Times are the server's, since they are
-- compared.
CREATE TABLE fleetlog.sso_logouts (
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    identity_ids uuid[], -- whose; null where only the session there was named
    sid_sha256   bytea,  -- of the session there; null means all of the identity
    CHECK (identity_ids IS NOT NULL OR sid_sha256 IS NOT NULL)
);
CREATE INDEX sso_logouts_at_idx ON fleetlog.sso_logouts (at);

GRANT SELECT, INSERT, DELETE ON fleetlog.sso_logouts TO fleetlog_app;

-- When the answer came. Null where a process of an older version took it.
ALTER TABLE fleetlog.sso_flows ADD COLUMN taken_at timestamptz;
