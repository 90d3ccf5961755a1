import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useChange } from "../app/change";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { toast } from "../ui/Toasts";

type Agent = components["schemas"]["AgentDetailModel"];

/** Restarts a machine, and says what that means before. */
export default function RestartDialog({ agent, onClose }: { agent: Agent; onClose: () => void }) {
  const client = useQueryClient();
  const [minutes, setMinutes] = useState("5");
  const [notice, setNotice] = useState("");
  const [reason, setReason] = useState("");
  const restart = useChange(
    () => {
      const spec = { kind: "reboot" as const, delay_s: Math.max(0, Math.round(Number(minutes) * 60)) || 0, notice };
      return ask(api.POST("/api/v1/commands", { body: { agent_id: agent.id, spec, reason } }));
    },
    () => {
      toast(`${agent.name} restarts ${agent.online ? "once its users had their time" : "when it is back"}.`);
      void client.invalidateQueries({ queryKey: ["patches", agent.id] });
      onClose();
    },
  );
  return (
    <FormDialog title={`Restart ${agent.name}`} send="Restart" change={restart} onClose={onClose}>
      <p>
        It restarts once, after what else touches the system there, and the command has succeeded when the machine is
        back. Until its users' time is up it can be cancelled.
      </p>
      <Field
        label="Minutes before it restarts"
        hint="Whoever is logged in is told, and has so long."
        type="number"
        min={0}
        max={1440}
        required
        value={minutes}
        onChange={(event) => setMinutes(event.target.value)}
      />
      <Field
        label="What they are told"
        maxLength={500}
        value={notice}
        onChange={(event) => setNotice(event.target.value)}
      />
      <Field
        label="Why"
        hint="Shown in its story."
        maxLength={2000}
        value={reason}
        onChange={(event) => setReason(event.target.value)}
      />
    </FormDialog>
  );
}
