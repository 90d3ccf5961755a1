import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { Button } from "../ui/Button";
import { exact, Time } from "../ui/Time";
import { toastError } from "../ui/Toasts";

type LogEvent = components["schemas"]["EventModel"];

const STEPS = 1_000;
/** Who drags asks when they rest, not at each step. */
const REST_MS = 180;

interface Props {
  agentId: string;
  /** When its story begins. */
  since: string;
  /** The position as of which the page shows it; null is now. */
  at: number | null;
  onGo: (at: number | null) => void;
}

async function nearest(query: Record<string, string | number | boolean>, agentId: string): Promise<LogEvent | null> {
  const asked = { agent_id: agentId, limit: 1, ...query };
  const { items } = await ask(api.GET("/api/v1/events", { params: { query: asked } }));
  return items[0] ?? null;
}

/** A slider over the machine's whole story, from its enrollment until now: each stop is an event of it. */
export function TimeTravel({ agentId, since, at, onGo }: Props) {
  const client = useQueryClient();
  const [until] = useState(Date.now);
  const [dragged, setDragged] = useState<number | null>(null);
  const from = Date.parse(since);
  const span = Math.max(1, until - from);
  const standing = useQuery({
    queryKey: ["standing", agentId, at],
    enabled: at !== null,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => nearest({ at: at ?? 0, backwards: true }, agentId),
  });
  const event = at === null ? null : (standing.data ?? null);
  const stand = useCallback(
    (found: LogEvent) => {
      client.setQueryData(["standing", agentId, found.position], found);
      onGo(found.position);
    },
    [client, agentId, onGo],
  );
  useEffect(() => {
    if (dragged === null) return;
    let over = false;
    const timer = setTimeout(async () => {
      if (dragged === STEPS) {
        setDragged(null);
        onGo(null);
        return;
      }
      try {
        const moment = new Date(from + (span * dragged) / STEPS).toISOString();
        const found =
          (await nearest({ until: moment, backwards: true }, agentId)) ?? (await nearest({ since }, agentId));
        if (over) return;
        setDragged(null);
        if (found !== null) stand(found);
      } catch (error) {
        if (!over) toastError(error);
      }
    }, REST_MS);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [dragged, agentId, from, span, since, onGo, stand]);
  const step = async (query: Record<string, string | number | boolean>, beyond: number | null): Promise<void> => {
    try {
      const found = await nearest(query, agentId);
      if (found !== null) stand(found);
      else if (beyond === null) onGo(null);
    } catch (error) {
      toastError(error);
    }
  };
  const stands = event === null ? STEPS : Math.round((STEPS * (Date.parse(event.recorded_at) - from)) / span);
  const value = dragged ?? Math.min(STEPS, Math.max(0, stands));
  const moment =
    dragged !== null ? new Date(from + (span * dragged) / STEPS).toISOString() : (event?.recorded_at ?? null);
  const said = moment === null || value === STEPS ? "now" : exact(moment);
  return (
    <section className={at === null ? "notice travel" : "notice warn travel"} aria-label="Look back">
      <div className="row wrap">
        <div className="grow" role="status">
          {at === null ? (
            <>
              <strong>Now.</strong> <span className="muted">Move the slider to see the machine as it was.</span>
            </>
          ) : event === null ? (
            <strong>{standing.isSuccess ? "Before anything happened to it." : "As of then…"}</strong>
          ) : (
            <>
              <strong>As of {exact(event.recorded_at)}</strong> (<Time at={event.recorded_at} />
              ), just after: {event.text}
            </>
          )}
        </div>
        <Button look="primary" disabled={at === null} onClick={() => onGo(null)}>
          Back to now
        </Button>
      </div>
      <div className="row">
        <Button
          aria-label="The event before"
          onClick={() => step({ backwards: true, ...(at === null ? {} : { at: at - 1 }) }, at)}
          disabled={at !== null && at <= 1}
        >
          ‹
        </Button>
        <input
          type="range"
          className="grow"
          aria-label="Moment"
          aria-valuetext={said}
          min={0}
          max={STEPS}
          value={value}
          onChange={(change) => setDragged(Number(change.target.value))}
        />
        <Button aria-label="The event after" disabled={at === null} onClick={() => step({ after: at ?? 0 }, null)}>
          ›
        </Button>
      </div>
      <div className="row small muted">
        <span className="grow">{exact(since)}</span>
        <span>{said}</span>
      </div>
    </section>
  );
}
