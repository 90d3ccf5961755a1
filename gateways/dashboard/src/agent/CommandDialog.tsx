import { lazy, Suspense } from "react";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";

const CommandView = lazy(async () => ({ default: (await import("../run/CommandView")).CommandView }));

interface Props {
  commandId: string;
  onOther: (commandId: string) => void;
  onClose: () => void;
}

/** One command of the machine, above its page. */
export function CommandDialog({ commandId, onOther, onClose }: Props) {
  return (
    <Dialog
      wide
      title="Command"
      onClose={onClose}
      footer={
        <>
          <code className="grow muted small clip">{commandId}</code>
          <Button look="primary" onClick={onClose}>
            Close
          </Button>
        </>
      }
    >
      <Suspense fallback={<p className="muted">Loading…</p>}>
        <CommandView key={commandId} commandId={commandId} onOther={onOther} />
      </Suspense>
    </Dialog>
  );
}
