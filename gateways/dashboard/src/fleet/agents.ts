import { type InfiniteData, keepPreviousData, useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { type LogEvent, onEvent } from "../api/stream";
import { attended } from "../app/attention";
import { usePolling } from "../app/events";
import type { AgentQuery, Filter } from "./filter";

export type Agent = components["schemas"]["AgentModel"];
export type Sort = NonNullable<AgentQuery["sort"]>;
type Page = components["schemas"]["PageOf_AgentModel_"];
type Loaded = InfiniteData<Page, string | null>;

export const AGENTS = "agents";
export const COUNTS = "agent-counts";
const PAGE = 60;
/** So many pages are asked for anew when something joins or leaves; of a longer list the person decides. */
const RENEWED_PAGES = 3;
/** So long changes are gathered, once there are many; the first after a quiet while shows at once. */
const BATCH_MS = 400;
const AT_ONCE_MS = 30;
/** Each letter that is typed asks for a list of its own; those that nobody looks at are soon let go of. */
const KEPT_MS = 30_000;
const JOIN_MS = 1_000;
/** How often, at the most, what is counted is asked for while machines come and go. */
const RENEW_MS = 5_000;

/** Agents that fit, page by page as they are scrolled to. */
export function useAgents(filter: Filter, sort: string) {
  return useInfiniteQuery({
    queryKey: [AGENTS, filter, sort],
    gcTime: KEPT_MS,
    placeholderData: keepPreviousData,
    refetchInterval: usePolling(),
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam, signal }) => {
      const query = { ...filter, sort, limit: PAGE, ...(pageParam === null ? {} : { cursor: pageParam }) };
      return ask(api.GET("/api/v1/agents", { params: { query }, signal }));
    },
  });
}

/** How many there are that fit. */
export function useCounts(filter: Filter) {
  return useQuery({
    queryKey: [COUNTS, filter],
    placeholderData: keepPreviousData,
    refetchInterval: usePolling(),
    queryFn: ({ signal }) => ask(api.GET("/api/v1/agents/counts", { params: { query: filter }, signal })),
  });
}

/** What an event changes in a row; null where it takes asking. */
function changeBy(event: LogEvent): ((agent: Agent) => Partial<Agent>) | null {
  const at = event.recorded_at;
  const data = event.data as Record<string, never>;
  switch (event.type) {
    case "AgentConnected":
      return () => ({ online: true, connected_at: at, last_seen_at: at, address: data.address ?? "" });
    case "AgentDisconnected":
      return () => ({ online: false, disconnected_at: at });
    case "AgentCheckChanged":
    case "AgentCheckEnded": {
      const { was, state } = data as { was?: string; state?: string };
      const change = (of: string): number => Number(state === of) - Number(was === of);
      return (agent) => ({
        failing: Math.max(0, agent.failing + change("failing")),
        warning: Math.max(0, agent.warning + change("warning")),
      });
    }
    case "AgentRenamed":
      return () => ({ name: data.name });
    case "AgentTagged":
      return () => ({ tags: data.tags ?? [] });
    case "AgentSuspended":
      return () => ({ state: "suspended" });
    case "AgentResumed":
      return () => ({ state: "active" });
    case "AgentRetired":
      return () => ({ state: "retired" });
    case "CommandQueued":
      return (agent) => ({ pending: agent.pending + 1 });
    case "CommandSucceeded":
    case "CommandFailed":
    case "CommandTimedOut":
    case "CommandInterrupted":
    case "CommandRejected":
    case "CommandCancelled":
    case "CommandExpired":
      return (agent) => ({ pending: Math.max(0, agent.pending - 1) });
    default:
      return null;
  }
}

const ONLINE = ["online", "seen", "seen_after", "seen_before"];
const STATE = ["state", "retired", "online"];
const PENDING = ["pending"];
const FOUND = ["failing", "warning", "check"];
/** What lists are chosen or sorted by, as filters and orders call it, where an event changes it. */
const TOUCHED: Record<string, readonly string[]> = {
  AgentConnected: ONLINE,
  AgentDisconnected: ONLINE,
  AgentSuspended: STATE,
  AgentResumed: STATE,
  AgentRetired: STATE,
  AgentRenamed: ["q", "name"],
  AgentTagged: ["tag"],
  AgentFactsReported: ["q", "os", "platform", "agent_version"],
  AgentSoftwareReported: ["software", "updates", "security_updates"],
  AgentCheckChanged: FOUND,
  AgentCheckEnded: FOUND,
  CheckDisabled: FOUND,
  CheckRemoved: FOUND,
  CommandQueued: PENDING,
  CommandSucceeded: PENDING,
  CommandFailed: PENDING,
  CommandTimedOut: PENDING,
  CommandInterrupted: PENDING,
  CommandRejected: PENDING,
  CommandCancelled: PENDING,
  CommandExpired: PENDING,
};
/** These change a row in ways that take asking. */
const TOLD = new Set(["AgentFactsReported", "AgentSoftwareReported", "AgentCheckChanged", "AgentCheckEnded"]);

const COUNTED = new Set([
  "AgentConnected",
  "AgentDisconnected",
  "AgentSuspended",
  "AgentResumed",
  "AgentRetired",
  "AgentEnrolled",
  "AgentMoved",
  "ClientCreated",
  "SiteCreated",
]);
const MOVING = new Set([
  "AgentEnrolled",
  "AgentMoved",
  "AgentDuplicateNoticed",
  "AgentDuplicateSettled",
  // Each row says where its machine is.
  "ClientRenamed",
  "SiteRenamed",
]);

/** Keeps what was read of agents as it is now: rows change by the events themselves, gathered for a moment, so that a
 * thousand changes a minute cost no request. What joins, leaves or is counted is asked for, seldom. */
export function useLiveAgents(): void {
  const client = useQueryClient();
  const waiting = useRef(new Map<string, ((agent: Agent) => Partial<Agent>)[]>());
  useEffect(() => {
    let batch: ReturnType<typeof setTimeout> | null = null;
    let renewal: ReturnType<typeof setTimeout> | null = null;
    let lastFlush = 0;
    let lastRenewal = 0;
    let joined = false;
    let counted = false;
    const touched = new Set<string>();
    const told = new Set<string>();
    const flush = (): void => {
      batch = null;
      lastFlush = Date.now();
      const changes = waiting.current;
      waiting.current = new Map();
      const changed = (agent: Agent): Agent =>
        (changes.get(agent.id) ?? []).reduce((now, change) => ({ ...now, ...change(now) }), agent);
      // Lists that are not shown are asked for when they are.
      void client.invalidateQueries({ queryKey: [AGENTS], type: "inactive", refetchType: "none" });
      client.setQueriesData<Loaded>({ queryKey: [AGENTS], type: "active" }, (old) => {
        if (old === undefined || !old.pages.some((page) => page.items.some((one) => changes.has(one.id)))) return old;
        return { ...old, pages: old.pages.map((page) => ({ ...page, items: page.items.map(changed) })) };
      });
      for (const id of changes.keys()) {
        client.setQueryData<Agent>(["agent", id], (old) => old && changed(old));
      }
    };
    const renew = (): void => {
      renewal = null;
      lastRenewal = Date.now();
      const [all, count, fields, rows] = [joined, counted, new Set(touched), new Set(told)];
      joined = false;
      counted = false;
      touched.clear();
      told.clear();
      if (!attended()) return;
      const chosenBy = (filter: unknown): boolean => Object.keys(filter as Filter).some((one) => fields.has(one));
      void client.invalidateQueries({
        queryKey: [COUNTS],
        predicate: ({ queryKey: [, filter] }) => count || chosenBy(filter),
      });
      if (count) void client.invalidateQueries({ queryKey: ["places"] });
      void client.invalidateQueries({
        queryKey: [AGENTS],
        predicate: ({ queryKey: [, filter, sort], state }) => {
          const pages = (state.data as Loaded | undefined)?.pages ?? [];
          if (pages.length > RENEWED_PAGES) return false;
          // An event changes a row, and the list only where that is what it is chosen or sorted by.
          if (all || chosenBy(filter) || fields.has((sort as string).replace("-", ""))) return true;
          return rows.size > 0 && pages.some((page) => page.items.some((one) => rows.has(one.id)));
        },
      });
    };
    const stop = onEvent((event) => {
      const id = event.agent_id;
      const change = id === null ? null : changeBy(event);
      if (id !== null && change !== null) {
        waiting.current.set(id, [...(waiting.current.get(id) ?? []), change]);
        batch ??= setTimeout(flush, Math.max(AT_ONCE_MS, lastFlush + BATCH_MS - Date.now()));
      }
      if (id !== null && MOVING.has(event.type) && attended())
        void client.invalidateQueries({ queryKey: ["agent", id] });
      const fields = TOUCHED[event.type];
      for (const field of fields ?? []) touched.add(field);
      if (id !== null && TOLD.has(event.type)) told.add(id);
      if (COUNTED.has(event.type) || MOVING.has(event.type)) counted = true;
      if (counted || fields !== undefined) {
        if (MOVING.has(event.type) && !joined) {
          joined = true;
          if (renewal !== null) clearTimeout(renewal);
          renewal = null;
        }
        // The first of a while shows soon, those after it together.
        const wait = Math.max(BATCH_MS, Math.min(lastRenewal + (joined ? JOIN_MS : RENEW_MS) - Date.now(), RENEW_MS));
        renewal ??= setTimeout(renew, wait);
      }
    });
    return () => {
      stop();
      if (batch !== null) clearTimeout(batch);
      if (renewal !== null) clearTimeout(renewal);
    };
  }, [client]);
}
