-- The event that a receiver has answered to and did not take; null where the last try went well, or nobody answered.
ALTER TABLE fleetlog.forwarding ADD COLUMN stuck_at bigint;
ALTER TABLE fleetlog.forwarding ADD COLUMN stuck_type text NOT NULL DEFAULT '';
