import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api, ask } from "../api/client";
import { isProblem, sentence } from "../api/problem";
import { useMay } from "../api/session";
import { useAfterEvents, usePolling } from "../app/events";
import { instant } from "../ui/Moment";
import { Time } from "../ui/Time";
import { type Aim, meansNobody, named, onlyOne, targetOf } from "./aim";
import type { Terms } from "./terms";
import { waits } from "./waits";
import type { When } from "./when";

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

interface Props {
  aim: Aim;
  reach: ReturnType<typeof useReach>;
  when: When;
  terms: Terms;
}

/** How many get it now, and how many later; of one machine, what it waits for. */
export function Reach({ aim, reach, when, terms }: Props) {
  const one = onlyOne(aim);
  if (one !== undefined) return <ReachOne id={one} when={when} />;
  const { counted, counting, error } = reach;
  if (error !== null) return <span className="muted">It is not known how many are online: {sentence(error)}</span>;
  if (counted === undefined) return <span className="muted">{counting ? "Counting who is online…" : null}</span>;
  const away = counted.all - counted.now;
  const left = (named(aim) ?? counted.all) - counted.all;
  const from = instant(when.notBefore);
  const held = [
    terms.waves.trim() !== "" && "in waves",
    (terms.inFlight !== "" || terms.perMinute !== "") && "within the limits",
    terms.begins !== "" && terms.ends !== "" && "only within the hours, by each machine's own clock",
  ].filter(Boolean);
  return (
    <span className="muted" role="status">
      {from !== null && Date.parse(from) > Date.now() && (
        <>
          Not before <Time at={from} />:{" "}
        </>
      )}
      {counted.now} online now, {away} {away === 1 ? "gets it when it returns" : "get it when they return"}
      {held.length > 0 && `; ${held.join(", ")}`}
      {left > 0 && `; ${left} left out (suspended, retired, or not yours)`}.
    </span>
  );
}

/** So many of its queue are looked at. */
const COUNTED = 100;

/** When the machine begins, as far as that is known beforehand. */
function ReachOne({ id, when }: { id: string; when: When }) {
  const client = useQueryClient();
  const may = useMay();
  const params = { path: { agent_id: id } };
  const agent = useQuery({
    queryKey: ["agent", id],
    queryFn: () => ask(api.GET("/api/v1/agents/{agent_id}", { params })),
  });
  const queue = useQuery({
    queryKey: ["queue", id, "ahead"],
    enabled: may("commands.see"),
    queryFn: () =>
      ask(api.GET("/api/v1/agents/{agent_id}/queue", { params: { ...params, query: { limit: COUNTED } } })),
  });
  useAfterEvents(
    (event) => event.agent_id === id && event.type.startsWith("Command"),
    () => void client.invalidateQueries({ queryKey: ["queue", id, "ahead"] }),
    AGAIN_MS,
  );
  if (agent.data === undefined) return null;
  const lane = when.lane.trim() || "default";
  const now = Date.now();
  const before = (queue.data?.items ?? []).filter(
    (other) =>
      other.lane === lane &&
      (other.state !== "queued" ||
        (other.priority <= when.priority && (other.not_before === null || Date.parse(other.not_before) <= now))),
  ).length;
  const ahead = before > 0 && queue.data?.next ? `${before} or` : before;
  return (
    <span className="muted" role="status">
      {waits({ agent: agent.data, notBefore: instant(when.notBefore), hours: false, lane, ahead }) ??
        "Online: it begins at once."}
    </span>
  );
}
