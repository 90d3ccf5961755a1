import { useEffect, useState } from "react";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useAttended } from "../app/attention";
import { useList } from "../app/list";
import { useTitle } from "../app/title";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { CountsBar, CountsShort, RolloutStatus } from "./counts";
import "./rollouts.css";
import { figure } from "../ui/figure";

type Rollout = components["schemas"]["RolloutModel"];
type State = Rollout["state"];
const GOING_MS = 3_000;

const STATES: readonly State[] = ["running", "paused", "completed", "aborted"];
/** What was asked of many machines at once, and how far each is. */
export default function RolloutsPage() {
  useTitle("Rollouts");
  const may = useMay();
  const [state, setState] = useState<State | null>(null);
  const { pages, items } = useList(
    ["rollouts", "list", state],
    ["Rollout"],
    (query) =>
      ask(api.GET("/api/v1/rollouts", { params: { query: { ...query, counts: true, ...(state ? { state } : {}) } } })),
    25,
  );
  const going = items.some(isGoing);
  const there = useAttended();
  // Its commands go on without an event of the rollout's own.
  useEffect(() => {
    if (!going || !there) return;
    const timer = setInterval(() => void pages.refetch(), GOING_MS);
    return () => clearInterval(timer);
  }, [going, there, pages.refetch]);
  return (
    <div className="page">
      <header>
        <h1>Rollouts</h1>
        <div className="grow" />
        {may("rollouts.start") && (
          <Link href="/" className="button primary">
            Choose machines
          </Link>
        )}
      </header>
      <div className="row wrap" role="group" aria-label="Filter by state">
        {STATES.map((one) => (
          <button
            key={one}
            type="button"
            className="chip"
            aria-pressed={state === one}
            onClick={() => setState(state === one ? null : one)}
          >
            <RolloutStatus state={one} />
          </button>
        ))}
      </div>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 ? (
        <div className="empty">
          <h2>{state === null ? "There is no rollout yet" : "None is in that state"}</h2>
          <p>
            A rollout gives many machines a command each, also those that are off: select them in the{" "}
            <Link href="/">fleet</Link> and choose <em>Run</em>.
          </p>
        </div>
      ) : (
        <div className="card">
          <Table title="Rollouts" heads={["Name", "State", "Progress", "Machines", "Started"]}>
            {items.map((one) => (
              <tr key={one.id}>
                <th scope="row">
                  <Link href={`/rollouts/${one.id}`} className="strong">
                    {one.name}
                  </Link>
                  {one.detail && <div className="muted small">{one.detail}</div>}
                </th>
                <td>
                  <RolloutStatus state={one.state} />
                </td>
                <td>
                  {one.counts && (
                    <>
                      <CountsBar counts={one.counts} />
                      <CountsShort counts={one.counts} />
                    </>
                  )}
                </td>
                <td>{figure(one.targeted)}</td>
                <td>
                  <Time at={one.started_at} />
                </td>
              </tr>
            ))}
          </Table>
        </div>
      )}
      <More of={pages}>Earlier</More>
    </div>
  );
}

/** Of an aborted one, what runs goes on to its end. */
function isGoing({ state, counts }: Rollout): boolean {
  if (state !== "aborted") return state !== "completed";
  return counts !== null && counts.queued + counts.delivered + counts.running > 0;
}
