import { useState } from "react";
import { api, ask } from "../api/client";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { figure } from "../ui/figure";
import { toast } from "../ui/Toasts";
import { useChange } from "./change";

interface Props {
  kind: "agent" | "enrollment" | "user";
  id: string;
  name: string;
  onDone: () => unknown;
  onClose: () => void;
}

const GONE: Record<Props["kind"], readonly string[]> = {
  agent: [
    "its host name, and the name that it was given",
    "all of its facts: who was logged in, addresses, serial numbers, software",
    "the addresses that it came from, its custom fields, and the notes on it",
  ],
  enrollment: ["its host name", "the address that it came from"],
  user: [
    "name and mail address, what their passkeys are called, and what a provider calls them",
    "the addresses and programs that they logged in from",
    "password, second factor and recovery codes",
  ],
};

/** As a page shows it: what stands apart by several spaces looks like one. */
function asShown(text: string): string {
  return text.trim().replace(/\s+/g, " ");
}

/** Erases what is personal about a retired machine, one that was not let in, or a suspended user; says first what that destroys. */
export default function EraseDialog({ kind, id, name, onDone, onClose }: Props) {
  const [typed, setTyped] = useState("");
  const [reason, setReason] = useState("");
  const erase = useChange(
    () => {
      const body = { reason };
      switch (kind) {
        case "agent":
          return ask(api.POST("/api/v1/agents/{agent_id}/erase", { params: { path: { agent_id: id } }, body }));
        case "enrollment": {
          const params = { path: { enrollment_id: id } };
          return ask(api.POST("/api/v1/enrollments/{enrollment_id}/erase", { params, body }));
        }
        case "user":
          return ask(api.POST("/api/v1/users/{user_id}/erase", { params: { path: { user_id: id } }, body }));
      }
    },
    ({ withheld }) => {
      void onDone();
      if (withheld > 0) return;
      toast(`${name} is erased for good.`);
      onClose();
    },
  );
  if (erase.isSuccess && erase.data.withheld > 0) {
    return (
      <Dialog
        key="erased"
        title={`${name} is erased`}
        onClose={onClose}
        footer={<Button onClick={onClose}>Done</Button>}
      >
        <p>
          But for {figure(erase.data.withheld)} {erase.data.withheld === 1 ? "event" : "events"} from before there was
          sealing: they are shown as erased, and the database, backups and exports of the log still hold what they say.
        </p>
      </Dialog>
    );
  }
  return (
    <Dialog
      title={`Erase ${name}`}
      onClose={onClose}
      footer={
        <>
          <div className="grow" />
          <Button onClick={onClose}>Cancel</Button>
          <Button
            look="danger"
            type="submit"
            form="erase"
            busy={erase.isPending}
            disabled={asShown(typed) !== asShown(name)}
          >
            Erase for good
          </Button>
        </>
      }
    >
      <form
        id="erase"
        className="stack"
        autoComplete="off"
        onSubmit={(event) => {
          event.preventDefault();
          erase.mutate();
        }}
      >
        <p>
          <strong>This destroys the key that what is personal is sealed with. Nobody can undo it.</strong> It reads
          [erased] from then on, wherever it is shown:
        </p>
        <ul>
          {GONE[kind].map((line) => (
            <li key={line}>{line}</li>
          ))}
        </ul>
        <p className="muted">
          The history stays, with the reasons that people gave and what commands printed. Backups from before hold the
          key until they are deleted.
        </p>
        <Field
          label="Name"
          hint={`To be sure, type it as it is: ${name}`}
          required
          value={typed}
          onChange={(event) => setTyped(event.target.value)}
        />
        <Field
          label="Why"
          hint="Kept in the log for ever: name nobody whom it is about."
          maxLength={2000}
          value={reason}
          onChange={(event) => setReason(event.target.value)}
        />
        <Fault error={erase.error} />
      </form>
    </Dialog>
  );
}
