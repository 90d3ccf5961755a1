-- Logins that went to a provider of identities and have not come back. None is an event, and none outlives ten minutes.
-- What is kept of state and ticket are hashes: who reads the table takes nobody's login over.
CREATE TABLE fleetlog.sso_flows (
    state_sha256  bytea       PRIMARY KEY,
    ticket_sha256 bytea       NOT NULL, -- of what stays with whoever began it
    nonce         text        NOT NULL,
    verifier      text        NOT NULL, -- PKCE
    redirect_uri  text        NOT NULL,
    session_id    uuid,                 -- whose person shows themselves once more; null where somebody logs in
    began_at      timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    taken         boolean     NOT NULL DEFAULT false, -- an answer came, and no other is looked at
    user_id       uuid,                 -- whom the provider vouched for; null until it has
    identity_id   uuid,
    second_factor boolean
);
CREATE INDEX sso_flows_expires_idx ON fleetlog.sso_flows (expires_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON fleetlog.sso_flows TO fleetlog_app;
