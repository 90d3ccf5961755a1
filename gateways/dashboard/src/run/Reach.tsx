import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api, ask } from "../api/client";
import { isProblem, sentence } from "../api/problem";
import { useMay } from "../api/session";
import { useAfterEvents, usePolling } from "../app/events";
import { type Aim, meansNobody, named, onlyOne, targetOf } from "./aim";

/** Whoever types is asked for when they rest. */
const REST_MS = 250;
const AGAIN_MS = 2_000;
const CHANGES = /^Agent(Connected|Disconnected|Enrolled|Moved|Tagged|Suspended|Resumed|Retired)$/;

interface Counted {
  all: number;
  now: number;
}

/** How many machines it means, and how many of them are online: as it is just now. */
export function useReach(aim: Aim): { counted: Counted | undefined; counting: boolean; error: unknown } {
  const client = useQueryClient();
  const may = useMay();
  const polling = usePolling();
  const [rested, setRested] = useState(aim);
  useEffect(() => {
    const timer = setTimeout(() => setRested(aim), REST_MS);
    return () => clearTimeout(timer);
  }, [aim]);
  const target = targetOf(rested);
  const plan = useQuery({
    queryKey: ["reach", target],
    enabled: onlyOne(rested) === undefined && !meansNobody(rested) && may("rollouts.start"),
    refetchInterval: polling,
    placeholderData: keepPreviousData,
    queryFn: async (): Promise<Counted> => {
      const count = async (online: boolean | undefined): Promise<number> => {
        const include = online === undefined ? target.include : { ...target.include, online };
        const body = { name: "reach", target: { ...target, include }, spec: { kind: "ping" as const } };
        try {
          return (await ask(api.POST("/api/v1/rollouts/plan", { body }))).targeted;
        } catch (error) {
          if (isProblem(error, "rollout_empty")) return 0;
          throw error;
        }
      };
      const [all, now] = await Promise.all([count(undefined), count(true)]);
      return { all, now };
    },
  });
  useAfterEvents(
    (event) => CHANGES.test(event.type),
    () => void client.invalidateQueries({ queryKey: ["reach"] }),
    AGAIN_MS,
  );
  return {
    counted: meansNobody(aim) ? { all: 0, now: 0 } : plan.data,
    counting: plan.isFetching || rested !== aim,
    error: plan.error,
  };
}

/** How many get it now, and how many later. */
export function Reach({ aim, reach }: { aim: Aim; reach: ReturnType<typeof useReach> }) {
  const one = onlyOne(aim);
  const agent = useQuery({
    queryKey: ["agent", one],
    enabled: one !== undefined,
    queryFn: () => ask(api.GET("/api/v1/agents/{agent_id}", { params: { path: { agent_id: one ?? "" } } })),
  });
  if (one !== undefined) {
    if (agent.data === undefined) return null;
    return (
      <span className="muted">
        {agent.data.online ? "Online: it begins at once." : "Offline: it waits, and runs when the machine returns."}
      </span>
    );
  }
  const { counted, counting, error } = reach;
  if (error !== null) return <span className="muted">It is not known how many are online: {sentence(error)}</span>;
  if (counted === undefined) return <span className="muted">{counting ? "Counting who is online…" : null}</span>;
  const away = counted.all - counted.now;
  const left = (named(aim) ?? counted.all) - counted.all;
  return (
    <span className="muted" role="status">
      {counted.now} online now, {away} {away === 1 ? "gets it when it returns" : "get it when they return"}
      {left > 0 && `; ${left} left out (suspended, retired, or not yours)`}.
    </span>
  );
}
