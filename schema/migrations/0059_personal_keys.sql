-- What personal data are sealed with: docs/decisions/0023-erasure.md

CREATE TABLE fleetlog.personal_keys (
    subject   uuid        PRIMARY KEY, -- an agent or a user
    key       bytea       CHECK (octet_length(key) = 32),
    erased_at timestamptz,
    CHECK ((key IS NULL) = (erased_at IS NOT NULL))
);
COMMENT ON TABLE fleetlog.personal_keys IS
    'Without its key what is sealed of a subject in fleetlog.events is lost. A row without key is of a subject that was erased, and stays.';
-- Replays that were made before an erasure are not to be read any more.
CREATE INDEX personal_keys_erased_idx ON fleetlog.personal_keys (erased_at) WHERE erased_at IS NOT NULL;

GRANT SELECT, INSERT ON fleetlog.personal_keys TO fleetlog_app;
GRANT UPDATE (key, erased_at) ON fleetlog.personal_keys TO fleetlog_app;

-- What else is beside the log of a subject goes with its key.
CREATE FUNCTION fleetlog.forget_subject() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM fleetlog.sessions WHERE user_id = NEW.subject;
    DELETE FROM fleetlog.http_runs WHERE agent_id = NEW.subject;
    DELETE FROM fleetlog.presence WHERE agent_id = NEW.subject;
    RETURN NULL;
END $$;

CREATE TRIGGER forget_subject AFTER INSERT OR UPDATE ON fleetlog.personal_keys
    FOR EACH ROW WHEN (NEW.key IS NULL) EXECUTE FUNCTION fleetlog.forget_subject();
