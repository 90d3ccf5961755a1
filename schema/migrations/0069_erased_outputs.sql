-- Whole outputs of an agent that was erased go with it: docs/decisions/0023-erasure.md
ALTER TABLE fleetlog.outputs DROP CONSTRAINT outputs_removed_for_check;
ALTER TABLE fleetlog.outputs
    ADD CONSTRAINT outputs_removed_for_check CHECK (removed_for IN ('age', 'size', 'secret', 'erasure'));
