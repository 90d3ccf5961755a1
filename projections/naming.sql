-- name: names
SELECT 'agent', agent_id, name FROM agents
WHERE agent_id = ANY(%(ids)s)
  AND (%(agent_all)s OR client_id = ANY(%(agent_clients)s::uuid[]) OR site_id = ANY(%(agent_sites)s::uuid[]))
UNION ALL
SELECT 'client', client_id, name FROM clients
WHERE client_id = ANY(%(ids)s) AND (%(client_all)s OR client_id = ANY(%(client_known)s::uuid[]))
UNION ALL
SELECT 'site', site_id, name FROM sites
WHERE site_id = ANY(%(ids)s)
  AND (%(site_all)s OR client_id = ANY(%(site_clients)s::uuid[]) OR site_id = ANY(%(site_sites)s::uuid[]))
UNION ALL
SELECT 'rollout', rollout_id, name FROM rollouts
WHERE rollout_id = ANY(%(ids)s) AND (%(rollout_all)s OR (client_ids <@ %(rollout_whole)s AND client_ids <> '[]'))
UNION ALL
SELECT 'script', script_id, name FROM scripts WHERE script_id = ANY(%(ids)s) AND %(script_any)s
UNION ALL
SELECT 'user', user_id, name FROM users WHERE user_id = ANY(%(ids)s) AND %(user_any)s
UNION ALL
SELECT 'role', role_id, name FROM roles WHERE role_id = ANY(%(ids)s) AND %(role_any)s
UNION ALL
SELECT 'key', api_key_id, name FROM api_keys WHERE api_key_id = ANY(%(ids)s) AND %(key_any)s
