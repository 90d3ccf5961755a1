-- name: tables
CREATE TABLE commands (
    command_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    client_id uuid NOT NULL,
    site_id uuid NOT NULL,
    position bigint NOT NULL,
    kind text NOT NULL,
    script_id uuid,
    script_revision integer,
    spec bytea NOT NULL, -- JSON of domain.commands.Spec, as it was queued
    retry jsonb NOT NULL,
    lane text NOT NULL,
    priority smallint NOT NULL,
    state text NOT NULL,
    ended_as text NOT NULL, -- its state once that is an ending, before that nothing
    attempt integer NOT NULL,
    queued_at timestamptz NOT NULL,
    not_before timestamptz,
    expires_at timestamptz NOT NULL,
    delivered_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    exit_code bigint,
    requester text NOT NULL,
    reason text NOT NULL,
    retry_of uuid,
    correlation_id uuid NOT NULL,
    cancel_requested boolean NOT NULL,
    ending text NOT NULL, -- why it ended as it did, where that was said
    result jsonb, -- of the last attempt that reported one
    late_result jsonb,
    stdout_sha256 text,
    stderr_sha256 text,
    version bigint NOT NULL,
    PRIMARY KEY (command_id)
);
-- Until it ends, what changes of a command is in no index; where its page has room, such a change writes none.
ALTER TABLE commands SET (fillfactor = 70);

-- name: indexes
CREATE INDEX commands_position_idx ON commands (position);
CREATE INDEX commands_agent_idx ON commands (agent_id, position);
CREATE INDEX commands_client_idx ON commands (client_id, position);
CREATE INDEX commands_ended_idx ON commands (ended_as, position);
CREATE INDEX commands_script_idx ON commands (script_id, position) WHERE script_id IS NOT NULL;
CREATE INDEX commands_patches_idx ON commands (position) WHERE kind IN ('install_updates', 'reboot');
CREATE INDEX commands_agent_patches_idx ON commands (agent_id, position)
    WHERE kind IN ('install_updates', 'reboot');

-- name: select
SELECT command_id, agent_id, client_id, site_id, position, kind, script_id, script_revision, spec, retry, lane,
    priority, state, attempt, queued_at, not_before, expires_at, delivered_at, started_at, ended_at, exit_code,
    requester, reason, retry_of, correlation_id, cancel_requested, ending, result, late_result, stdout_sha256,
    stderr_sha256, version
FROM commands

-- name: outputs_of_others
-- Asked while erased agents have outputs left, and then once for all of these: no index is kept for it.
SELECT DISTINCT sha256
FROM commands
CROSS JOIN LATERAL unnest(ARRAY[
    stdout_sha256, stderr_sha256, late_result #>> '{stdout,sha256}', late_result #>> '{stderr,sha256}'
]) AS each (sha256)
WHERE agent_id <> ALL(%(agent_ids)s::uuid[]) AND sha256 = ANY(%(sha256)s::text[])
