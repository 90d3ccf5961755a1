-- Of which session at the provider a session, or a login on its way, is, where it says so: a hash of issuer and `sid`.
ALTER TABLE fleetlog.sso_flows ADD COLUMN sid_sha256 bytea;
ALTER TABLE fleetlog.sessions ADD COLUMN sid_sha256 bytea;
CREATE INDEX sessions_sid_idx ON fleetlog.sessions (sid_sha256) WHERE sid_sha256 IS NOT NULL;
