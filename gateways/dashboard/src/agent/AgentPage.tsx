import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
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
import { Erase } from "./Erase";
import { Queue } from "./Queue";
import { Summary } from "./Summary";
import { Timeline } from "./Timeline";
import "./agent.css";

const RunDialog = lazy(() => import("../run/RunDialog"));
const TABS = [
  ["summary", "Summary", "agents.see"],
  ["queue", "Pending", "commands.see"],
  ["timeline", "Timeline", "events.see"],
] as const;

/** One machine: what it is, what waits for it, and all that ever happened to it. */
export default function AgentPage() {
  const { id = "" } = useParams<{ id: string }>();
  const [, go] = useLocation();
  const params = new URLSearchParams(useSearch());
  const may = useMay();
  const [running, setRunning] = useState(false);
  const tab = params.get("tab") ?? "summary";
  const command = params.get("command");
  const show = (changes: Record<string, string | null>): void => {
    const next = new URLSearchParams(window.location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null) next.delete(name);
      else next.set(name, value);
    }
    const told = next.toString();
    go(told === "" ? `/agents/${id}` : `/agents/${id}?${told}`, { replace: true });
  };
  const agent = useQuery({
    queryKey: ["agent", id],
    refetchInterval: usePolling(),
    queryFn: () => ask(api.GET("/api/v1/agents/{agent_id}", { params: { path: { agent_id: id } } })),
  });
  const { refetch } = agent;
  useAfterEvents(
    (event) => event.agent_id === id && event.type === "AgentFactsReported",
    () => void refetch(),
  );
  useTitle(agent.data?.name ?? "Machine");
  useKeys([
    { key: "r", about: "Run something on this machine", run: () => may("commands.queue") && setRunning(true) },
    { key: "u", about: "Back to the fleet", run: () => go("/") },
  ]);
  if (isProblem(agent.error, "not_found")) {
    return (
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
              seen <Time at={shown.last_seen_at ?? shown.disconnected_at} over={!shown.online} />
            </span>
            <Actions agent={shown} />
            <Erase agent={shown} />
            {may("commands.queue") && shown.state !== "retired" && (
              <Button look="primary" onClick={() => setRunning(true)}>
                Run… <kbd>r</kbd>
              </Button>
            )}
          </header>
          {shown.erased && (
            <div className="notice">What this machine told of itself is erased for good. Its history stays.</div>
          )}
          {shown.duplicate && (
            <div className="notice bad" role="alert">
              Two machines have this identity: {shown.duplicate.present.hostname} ({shown.duplicate.present.address})
              stays, and {shown.duplicate.newcomer.hostname} ({shown.duplicate.newcomer.address}) is shut out until
              somebody says which it is.
            </div>
          )}
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
              </button>
            ))}
          </div>
          {tab === "queue" ? (
            <Queue agent={shown} onOpen={(one) => show({ command: one })} onRun={() => setRunning(true)} />
          ) : tab === "timeline" ? (
            <Timeline agentId={id} onOpen={(one) => show({ command: one })} />
          ) : (
            <Summary agent={shown} />
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
