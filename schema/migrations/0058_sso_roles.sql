-- The roles that the provider's groups stand for, from the answer until the session begins. Null where a process of an
-- older version took the answer: then what the user has of groups stays as it is.
ALTER TABLE fleetlog.sso_flows ADD COLUMN roles text[];
