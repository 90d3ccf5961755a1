import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { AgentStatus } from "../ui/Status";
import RunDialog from "./RunDialog";

/** Choose one machine, and run a script there. */
export default function TestRun({ script, onClose }: { script: string; onClose: () => void }) {
  const [wanted, setWanted] = useState("");
  const [chosen, setChosen] = useState<{ id: string; name: string } | null>(null);
  const agents = useQuery({
    queryKey: ["test-run", wanted],
    placeholderData: keepPreviousData,
    queryFn: ({ signal }) => {
      const query = { limit: 8, retired: false, ...(wanted === "" ? { online: true } : { q: wanted }) };
      return ask(api.GET("/api/v1/agents", { params: { query }, signal }));
    },
  });
  if (chosen !== null) {
    return <RunDialog on={{ ids: new Set([chosen.id]) }} name={chosen.name} script={script} onClose={onClose} />;
  }
  return (
    <Dialog title="Try it on one machine" onClose={onClose}>
      <div className="stack">
        <Field
          label="Machine"
          type="search"
          autoFocus
          placeholder="Part of its name"
          value={wanted}
          onChange={(event) => setWanted(event.target.value.trim())}
        />
        <Fault error={agents.error} />
        {agents.data?.items.length === 0 && (
          <p className="muted">{wanted === "" ? "No machine is online just now; type a name." : "No machine fits."}</p>
        )}
        <ul className="plain-list stack">
          {agents.data?.items.map((one) => (
            <li key={one.id} className="row">
              <AgentStatus agent={one} />
              <button type="button" className="link grow" onClick={() => setChosen(one)}>
                {one.name}
              </button>
              <span className="muted small">{[one.client_name, one.site_name].filter(Boolean).join(" / ")}</span>
            </li>
          ))}
        </ul>
      </div>
    </Dialog>
  );
}
