import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { Fault } from "../ui/Fault";
import { figure } from "../ui/figure";
import { CommandStatus } from "../ui/Status";
import { Table } from "../ui/Table";

type Rollout = components["schemas"]["RolloutWithCountsModel"];
type Outcome = components["schemas"]["OutcomeModel"];
type By = "exit_code" | "all";

/** As many kinds of outcome as the server gives. */
const MOST = 200;
const ALIKE: readonly [By, string][] = [
  ["exit_code", "By ending"],
  ["all", "And by output"],
];

interface Props {
  rollout: Rollout;
  /** How many have ended: it is asked for anew as that grows, and not for each. */
  ended: number;
  onOpen: (commandId: string) => void;
}

/** What came of it, those alike together. */
export function Outcomes({ rollout, ended, onOpen }: Props) {
  const [by, setBy] = useState<By>("exit_code");
  const outcomes = useQuery({
    queryKey: ["rollouts", rollout.id, "outcomes", by, ended],
    // What was shown stays while it grows; those alike in something else are others.
    placeholderData: (before, query) => (query?.queryKey[3] === by ? before : undefined),
    queryFn: () => {
      const params = { path: { rollout_id: rollout.id }, query: { by } };
      return ask(api.GET("/api/v1/rollouts/{rollout_id}/outcomes", { params }));
    },
  });
  const items = outcomes.data?.items ?? [];
  if (ended === 0 || (outcomes.isSuccess && items.length === 0)) return null;
  return (
    <section className="card" aria-label="Outcomes">
      <header>
        <h2>What came of it</h2>
        <div className="row wrap" role="group" aria-label="Alike in what">
          {ALIKE.map(([value, label]) => (
            <button key={value} type="button" className="chip" aria-pressed={by === value} onClick={() => setBy(value)}>
              {label}
            </button>
          ))}
        </div>
        {items.length === MOST && <span className="muted small">the {MOST} most frequent</span>}
      </header>
      <Fault error={outcomes.error} retry={() => outcomes.refetch()} />
      <Table title="Outcomes" heads={["Machines", "Ending", "Exit code", by === "all" ? "Said last" : "Output"]}>
        {items.map((one) => (
          <tr key={one.example}>
            <td>{figure(one.agents)}</td>
            <td>{one.state && <CommandStatus state={one.state} />}</td>
            <td>{one.exit_code ?? <span className="muted">none</span>}</td>
            <td>
              <button type="button" className="link" onClick={() => onOpen(one.example)}>
                {by === "all" ? <Said outcome={one} /> : one.agents === 1 ? "Show it" : "Show one of them"}
              </button>
            </td>
          </tr>
        ))}
      </Table>
    </section>
  );
}

/** What was said last. Of what did not succeed the reason is among the errors, where there are any. */
function Said({ outcome }: { outcome: Outcome }) {
  const error = outcome.state === "succeeded" ? "" : (outcome.error_tail ?? "").trim();
  const line = (error || (outcome.tail ?? "").trim()).split("\n").at(-1);
  if (!line) return <>nothing</>;
  return (
    <code className="clip tail">
      {error && <span className="hidden-text">Error: </span>}
      {line}
    </code>
  );
}
