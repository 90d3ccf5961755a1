-- The list of agents by when they were last heard of. Each sign of life then moves an entry of this index, too; they are
-- written together, once a second, and an agent gives one a minute.
CREATE INDEX presence_seen_idx ON fleetlog.presence (last_seen_at, agent_id);
