import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import { useMay } from "../api/session";
import { Fault } from "./Fault";
import { Field } from "./Field";
import { AgentStatus } from "./Status";

/** As many as are offered at once. */
const MOST = 8;

export interface Chosen {
  id: string;
  name: string;
}

interface Props {
  label: string;
  chosen: Chosen | null;
  onChoose: (agent: Chosen | null) => void;
  /** What is not offered: it is chosen already. */
  without?: readonly string[];
}

/** One machine, by a part of its name; none where nothing is typed. */
export function AgentPick({ label, chosen, onChoose, without = [] }: Props) {
  const [wanted, setWanted] = useState("");
  const may = useMay()("agents.see");
  const agents = useQuery({
    queryKey: ["agent-pick", wanted],
    enabled: may && wanted !== "",
    placeholderData: keepPreviousData,
    queryFn: ({ signal }) => ask(api.GET("/api/v1/agents", { params: { query: { q: wanted, limit: MOST } }, signal })),
  });
  if (!may) return null;
  if (chosen !== null) {
    return (
      <div className="row">
        <span>{label}:</span>
        <button type="button" className="chip" onClick={() => onChoose(null)} aria-label={`Take out ${chosen.name}`}>
          <span className="clip">{chosen.name}</span> ✕
        </button>
      </div>
    );
  }
  const items = wanted === "" ? [] : (agents.data?.items ?? []).filter((one) => !without.includes(one.id));
  return (
    <div className="stack">
      <Field
        label={label}
        type="search"
        placeholder="Part of its name"
        value={wanted}
        onChange={(event) => setWanted(event.target.value.trim())}
        onKeyDown={(event) => {
          if (event.key !== "Enter") return;
          // The form is not sent yet: what fits best is taken.
          event.preventDefault();
          const [first] = items;
          if (first !== undefined) {
            onChoose(first);
            setWanted("");
          }
        }}
      />
      <Fault error={agents.error} />
      {wanted !== "" && agents.data?.items.length === 0 && <p className="muted">No machine fits.</p>}
      {items.length > 0 && (
        <ul className="plain-list stack">
          {items.map((one) => (
            <li key={one.id} className="row">
              <AgentStatus agent={one} />
              <button
                type="button"
                className="link grow"
                onClick={() => {
                  onChoose(one);
                  setWanted("");
                }}
              >
                {one.name}
              </button>
              <span className="muted small">{[one.client_name, one.site_name].filter(Boolean).join(" / ")}</span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
