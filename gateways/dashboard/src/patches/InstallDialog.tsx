import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useChange } from "../app/change";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { toast } from "../ui/Toasts";

type Agent = components["schemas"]["AgentDetailModel"];

interface Props {
  agent: Agent;
  /** Those alone; none: all that the machine offers. */
  names: readonly string[];
  /** Of all, only what is for security. */
  security: boolean;
  /** They are on their way. */
  onDone: () => void;
  onClose: () => void;
}

/** What is to be installed, whether the machine restarts after it, and when that happens. */
export default function InstallDialog({ agent, names, security, onDone, onClose }: Props) {
  const client = useQueryClient();
  const [reboot, setReboot] = useState<"never" | "if_needed">("never");
  const [minutes, setMinutes] = useState("5");
  const [held, setHeld] = useState("");
  const [reason, setReason] = useState("");
  const install = useChange(
    () => {
      const spec = {
        kind: "install_updates" as const,
        names: [...names],
        security_only: security,
        held: held.split(/\s+/).filter((one) => one !== ""),
        reboot,
        reboot_delay_s: Math.max(0, Math.round(Number(minutes) * 60)) || 0,
      };
      return ask(api.POST("/api/v1/commands", { body: { agent_id: agent.id, spec, reason } }));
    },
    () => {
      toast(agent.online ? `${agent.name} installs them now.` : `${agent.name} installs them when it is back.`);
      void client.invalidateQueries({ queryKey: ["patches", agent.id] });
      onDone();
      onClose();
    },
  );
  const what = names.length > 0 ? `${names.length} of what it offers` : security ? "what is for security" : "all";
  return (
    <FormDialog title={`Install updates on ${agent.name}`} send="Install" change={install} onClose={onClose}>
      <p>
        Installs {what}, with the machine's own package manager. Settings that somebody has changed stay as they are.{" "}
        {agent.online
          ? "It begins at once, after what else touches the system there."
          : "The machine is off: it begins when it is back, within 30 days."}
      </p>
      {names.length > 0 && <p className="mono small clip">{names.join(", ")}</p>}
      {names.length === 0 && (
        <Field
          label="All but"
          hint="Names, or patterns as linux-image-*, with spaces between; they stay as they are."
          value={held}
          onChange={(event) => setHeld(event.target.value)}
        />
      )}
      <label className="stack">
        After it
        <select
          className="input"
          value={reboot}
          onChange={(event) => setReboot(event.target.value as "never" | "if_needed")}
        >
          <option value="never">leave the machine running</option>
          <option value="if_needed">restart it, if that is needed</option>
        </select>
      </label>
      {reboot === "if_needed" && (
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
      )}
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
