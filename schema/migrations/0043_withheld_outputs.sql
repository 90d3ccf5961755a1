-- An output that came in chunks and holds a secret in the clear is never kept. Its row says so, so that the result which
-- names it is recorded, and its agent does not send it again.
ALTER TABLE fleetlog.outputs DROP CONSTRAINT outputs_removed_for_check;
ALTER TABLE fleetlog.outputs
    ADD CONSTRAINT outputs_removed_for_check CHECK (removed_for IN ('age', 'size', 'secret'));
