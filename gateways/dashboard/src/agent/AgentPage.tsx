import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useCallback, useState } from "react";
import { Link, useLocation, useParams, useSearch } from "wouter";
import { api, ask } from "../api/client";
import { isProblem } from "../api/problem";
import { useMay } from "../api/session";
import { useAfterEvents, usePolling } from "../app/events";
import { useKeys } from "../app/keys";
import { useTitle } from "../app/title";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { AgentStatus } from "../ui/Status";
import { Time } from "../ui/Time";
import { Actions } from "./Actions";
import { CommandDialog } from "./CommandDialog";
import { Duplicate } from "./Duplicate";
import { Erase } from "./Erase";
import { Queue } from "./Queue";
import { Summary } from "./Summary";
import { Timeline } from "./Timeline";
import { TimeTravel } from "./TimeTravel";
import "./agent.css";

const AgentPatches = lazy(() => import("../patches/AgentPatches"));
const Checks = lazy(() => import("./Checks"));
const Software = lazy(() => import("./Software"));
const RunDialog = lazy(() => import("../run/RunDialog"));
const TABS = [
  ["summary", "Summary", "agents.see"],
  ["queue", "Pending", "commands.see"],
  ["checks", "Checks", "checks.see"],
  ["patches", "Patches", "agents.see"],
  ["software", "Software", "agents.see"],
  ["timeline", "Timeline", "events.see"],
] as const;

/** What changes a machine's row and not its place in the list. */
const TOLD: ReadonlySet<string> = new Set([
  "AgentFactsReported",
  "AgentSoftwareReported",
  "AgentCheckChanged",
  "AgentCheckEnded",
  "AgentDuplicateNoticed",
  "AgentDuplicateSettled",
  "AgentKeyRotated",
]);

/** One machine: what it is, what waits for it, and all that ever happened to it. */
export default function AgentPage() {
  const { id = "" } = useParams<{ id: string }>();
  const [, go] = useLocation();
  const params = new URLSearchParams(useSearch());
  const may = useMay();
  const [running, setRunning] = useState(false);
  const tab = params.get("tab") ?? "summary";
  const command = params.get("command");
  const at = Number(params.get("at")) || null;
  const [looking, setLooking] = useState(at !== null);
  const show = useCallback(
    (changes: Record<string, string | null>): void => {
      const next = new URLSearchParams(window.location.search);
      for (const [name, value] of Object.entries(changes)) {
        if (value === null) next.delete(name);
        else next.set(name, value);
      }
      const told = next.toString();
      go(told === "" ? `/agents/${id}` : `/agents/${id}?${told}`, { replace: true });
    },
    [go, id],
  );
  const travel = useCallback((then: number | null) => show({ at: then === null ? null : String(then) }), [show]);
  const polling = usePolling();
  const agent = useQuery({
    queryKey: ["agent", id, ...(at === null ? [] : [at])],
    refetchInterval: at === null && polling,
    staleTime: at === null ? 15_000 : Number.POSITIVE_INFINITY,
    // What was shown stays until the other moment is there.
    placeholderData: (before) => (before?.id === id ? before : undefined),
    queryFn: () => {
      const query = at === null ? {} : { at };
      return ask(api.GET("/api/v1/agents/{agent_id}", { params: { path: { agent_id: id }, query } }));
    },
  });
  const { refetch } = agent;
  useAfterEvents(
    (event) => at === null && event.agent_id === id && TOLD.has(event.type),
    () => void refetch(),
  );
  useTitle(agent.data?.name ?? "Machine");
  const look = (): void => {
    if (!may("events.see")) return;
    setLooking(!looking);
    if (looking) travel(null);
  };
  const runs = at === null && may("commands.queue") && agent.data !== undefined && agent.data.state !== "retired";
  useKeys([
    {
      key: "r",
      about: "Run something on this machine",
      run: () => runs && setRunning(true),
    },
    { key: "t", about: "Look back: the machine as it was", run: () => look() },
    { key: "u", about: "Back to the fleet", run: () => go("/") },
  ]);
  if (isProblem(agent.error, "not_found")) {
    return at !== null ? (
      <div className="empty">
        <h1>It was not there then</h1>
        <p>Nothing is known of this machine as of that moment.</p>
        <Button onClick={() => travel(null)}>Back to now</Button>
      </div>
    ) : (
      <div className="empty">
        <h1>There is no such machine</h1>
        <p>It may never have been, or be of a client that you do not see.</p>
        <Link href="/" className="button">
          To the fleet
        </Link>
      </div>
    );
  }
  const shown = agent.data;
  return (
    <div className="page">
      <Fault error={agent.error} retry={() => refetch()} />
      {shown && (
        <>
          <header>
            <div className="stack crumbs">
              <p className="muted small">
                <Link href="/">Fleet</Link> /{" "}
                <Link href={`/?client=${shown.client_id}`}>{shown.client_name ?? "client"}</Link> /{" "}
                <Link href={`/?client=${shown.client_id}&site=${shown.site_id}`}>{shown.site_name ?? "site"}</Link>
              </p>
              <h1>{shown.name}</h1>
            </div>
            <div className="grow" />
            <AgentStatus agent={shown} />
            <span className="muted">
              {at === null && (
                <>
                  seen <Time at={shown.last_seen_at ?? shown.disconnected_at} over={!shown.online} />
                </>
              )}
            </span>
            {at === null && <Actions agent={shown} />}
            {at === null && <Erase agent={shown} />}
            {runs && (
              <Button look="primary" onClick={() => setRunning(true)}>
                Run… <kbd>r</kbd>
              </Button>
            )}
          </header>
          {shown.erased && (
            <div className="notice">What this machine told of itself is erased for good. Its history stays.</div>
          )}
          <Duplicate agent={shown} past={at !== null} />
          {looking && may("events.see") && <TimeTravel agentId={id} since={shown.enrolled_at} at={at} onGo={travel} />}
          <div className="tabs-row">
            <div className="tabs" role="tablist">
              {TABS.filter(([, , needs]) => may(needs)).map(([name, label]) => (
                <button
                  key={name}
                  type="button"
                  role="tab"
                  aria-selected={tab === name}
                  onClick={() => show({ tab: name === "summary" ? null : name })}
                >
                  {label}
                  {name === "queue" && shown.pending > 0 && <span className="chip">{shown.pending}</span>}
                  {name === "checks" && shown.failing + shown.warning > 0 && (
                    <span className="chip" title="fail or warn">
                      {shown.failing + shown.warning}
                    </span>
                  )}
                  {name === "patches" && shown.reboot_needed && (
                    <span className="chip" title="waits to be restarted">
                      restart
                    </span>
                  )}
                  {name === "patches" && shown.updates !== null && shown.updates > 0 && (
                    <span className="chip" title="could be updated">
                      {shown.updates}
                    </span>
                  )}
                </button>
              ))}
            </div>
            {may("events.see") && (
              <Button look="plain" aria-expanded={looking} onClick={look}>
                Look back <kbd>t</kbd>
              </Button>
            )}
          </div>
          {tab === "queue" ? (
            <Queue agent={shown} at={at} onOpen={(one) => show({ command: one })} onRun={() => setRunning(true)} />
          ) : tab === "checks" ? (
            <Suspense fallback={<p className="muted">Loading…</p>}>
              <Checks agent={shown} at={at} />
            </Suspense>
          ) : tab === "patches" ? (
            <Suspense fallback={<p className="muted">Loading…</p>}>
              <AgentPatches agent={shown} at={at} onOpen={(one) => show({ command: one })} />
            </Suspense>
          ) : tab === "software" ? (
            <Suspense fallback={<p className="muted">Loading…</p>}>
              <Software agent={shown} at={at} />
            </Suspense>
          ) : tab === "timeline" ? (
            <Timeline
              agentId={id}
              at={at}
              onOpen={(one) => show({ command: one })}
              onGo={(then) => {
                setLooking(true);
                show({ at: String(then), tab: null });
              }}
            />
          ) : (
            <Summary agent={shown} past={at !== null} />
          )}
          {running && (
            <Suspense>
              <RunDialog on={{ ids: new Set([id]) }} name={shown.name} onClose={() => setRunning(false)} />
            </Suspense>
          )}
        </>
      )}
      {command !== null && may("commands.see") && (
        <CommandDialog
          commandId={command}
          onOther={(other) => show({ command: other })}
          onClose={() => show({ command: null })}
        />
      )}
    </div>
  );
}
