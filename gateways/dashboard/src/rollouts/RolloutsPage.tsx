import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useAttended } from "../app/attention";
import { useAfterEvents, usePolling } from "../app/events";
import { useTitle } from "../app/title";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Time } from "../ui/Time";
import { CountsBar, RolloutStatus } from "./counts";
import "./rollouts.css";

type Page = components["schemas"]["PageOf_RolloutModel_"];
type Rollout = components["schemas"]["RolloutModel"];
type State = Rollout["state"];

const STATES: readonly State[] = ["running", "paused", "completed", "aborted"];
const NUMBER = new Intl.NumberFormat("en");

/** What was asked of many machines at once, and how far each is. */
export default function RolloutsPage() {
  useTitle("Rollouts");
  const client = useQueryClient();
  const [state, setState] = useState<State | null>(null);
  const rollouts = useInfiniteQuery({
    queryKey: ["rollouts", "list", state],
    refetchInterval: usePolling(),
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query = { limit: 25, ...(state ? { state } : {}), ...(pageParam === null ? {} : { cursor: pageParam }) };
      return ask(api.GET("/api/v1/rollouts", { params: { query } }));
    },
  });
  useAfterEvents(
    (event) => event.type.startsWith("Rollout"),
    () => void client.invalidateQueries({ queryKey: ["rollouts", "list"] }),
  );
  const all = rollouts.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <div className="page">
      <header>
        <h1>Rollouts</h1>
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
      <Fault error={rollouts.error} retry={() => rollouts.refetch()} />
      {rollouts.isSuccess && all.length === 0 ? (
        <div className="empty">
          <h2>{state === null ? "There is no rollout yet" : "None is in that state"}</h2>
          <p>
            A rollout gives many machines a command each, also those that are off: select them in the{" "}
            <Link href="/">fleet</Link> and choose <em>Run</em>.
          </p>
        </div>
      ) : (
        <div className="card scroll-x">
          <table className="table">
            <thead>
              <tr>
                <th>Name</th>
                <th>State</th>
                <th>Progress</th>
                <th>Machines</th>
                <th>Started</th>
              </tr>
            </thead>
            <tbody>
              {all.map((one) => (
                <tr key={one.id}>
                  <td>
                    <Link href={`/rollouts/${one.id}`} className="strong">
                      {one.name}
                    </Link>
                    {one.detail && <div className="muted small">{one.detail}</div>}
                  </td>
                  <td>
                    <RolloutStatus state={one.state} />
                  </td>
                  <td>
                    <Progress rollout={one} />
                  </td>
                  <td>{NUMBER.format(one.targeted)}</td>
                  <td>
                    <Time at={one.started_at} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {rollouts.hasNextPage && (
        <Button onClick={() => rollouts.fetchNextPage()} busy={rollouts.isFetchingNextPage}>
          Earlier
        </Button>
      )}
    </div>
  );
}

/** How far one is: asked for by itself, and never again once it has ended. */
function Progress({ rollout }: { rollout: Rollout }) {
  const there = useAttended();
  const over = rollout.state === "completed";
  const detail = useQuery({
    queryKey: ["rollouts", "progress", rollout.id, rollout.version],
    staleTime: over ? Number.POSITIVE_INFINITY : 2_000,
    refetchInterval: over || !there ? false : 3_000,
    queryFn: () => ask(api.GET("/api/v1/rollouts/{rollout_id}", { params: { path: { rollout_id: rollout.id } } })),
  });
  return detail.data === undefined ? <div className="bar" /> : <CountsBar counts={detail.data.counts} />;
}
