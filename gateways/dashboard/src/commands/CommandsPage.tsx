import { useState } from "react";
import { Link, useLocation, useSearch } from "wouter";
import { usePlaceChoice, usePlaces } from "../admin/choices";
import { CommandDialog } from "../agent/CommandDialog";
import { api, ask } from "../api/client";
import { useNames } from "../api/names";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useEvery } from "../app/every";
import { useList } from "../app/list";
import { useTitle } from "../app/title";
import { specText } from "../run/spec";
import { Actor } from "../ui/EventLine";
import { Fault } from "../ui/Fault";
import { instant, Moment } from "../ui/Moment";
import { More } from "../ui/More";
import { Pick } from "../ui/Pick";
import { type CommandState, CommandStatus } from "../ui/Status";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";

type Command = components["schemas"]["CommandModel"];

const STATES: readonly CommandState[] = [
  "queued",
  "delivered",
  "running",
  "succeeded",
  "failed",
  "timed_out",
  "interrupted",
  "rejected",
  "cancelled",
  "expired",
];

/** Every command of the whole fleet, newest first, whatever became of it. */
export default function CommandsPage() {
  useTitle("Commands");
  const may = useMay();
  const [, go] = useLocation();
  const params = new URLSearchParams(useSearch());
  const [command, setCommand] = useState<string | null>(null);
  const states = STATES.filter((one) => params.getAll("state").includes(one));
  const client = params.get("client") ?? "";
  const script = params.get("script") ?? "";
  const since = params.get("since") ?? "";
  const { clients, clientOptions } = usePlaceChoice();
  const scripts = useEvery(
    ["scripts", "choice"],
    (query) => ask(api.GET("/api/v1/scripts", { params: { query: { ...query, archived: false } } })),
    may("scripts.see"),
  );
  const from = instant(since);
  const narrowed = {
    state: states,
    ...(client ? { client_id: client } : {}),
    ...(script ? { script_id: script } : {}),
    ...(from ? { since: from } : {}),
  };
  const { pages, items } = useList(
    ["commands", narrowed],
    ["Command"],
    (query) => ask(api.GET("/api/v1/commands", { params: { query: { ...query, ...narrowed } } })),
    50,
  );
  const show = (name: string, values: readonly string[]): void => {
    const next = new URLSearchParams(window.location.search);
    next.delete(name);
    for (const value of values) if (value !== "") next.append(name, value);
    const told = next.toString();
    go(told === "" ? "/commands" : `/commands?${told}`);
  };
  const all = states.length === 0 && client === "" && script === "" && since === "";
  return (
    <div className="page">
      <header>
        <h1>Commands</h1>
      </header>
      <div className="row wrap" role="group" aria-label="Filter by state">
        {STATES.map((one) => {
          const on = states.includes(one);
          return (
            <button
              key={one}
              type="button"
              className="chip"
              aria-pressed={on}
              onClick={() => show("state", on ? states.filter((other) => other !== one) : [...states, one])}
            >
              <CommandStatus state={one} />
            </button>
          );
        })}
      </div>
      <div className="row wrap bottom">
        <Pick
          label="Client"
          value={client}
          options={clientOptions}
          more={clients.more}
          onChoose={(value) => show("client", [value])}
        >
          <option value="">All clients</option>
        </Pick>
        {may("scripts.see") && (
          <Pick
            label="Script"
            value={script}
            options={scripts.items.map((one) => ({ value: one.id, label: one.name }))}
            more={scripts.more}
            onChoose={(value) => show("script", [value])}
          >
            <option value="">Any, or none</option>
          </Pick>
        )}
        <Moment label="Queued since" value={since} onValue={(value) => show("since", [value])} />
      </div>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 ? (
        <div className="empty">
          <h2>{all ? "Nothing was ever queued" : "No command is like that"}</h2>
          {all && (
            <p>
              Select machines in the <Link href="/">fleet</Link> and choose <em>Run</em>; what comes of it shows here.
            </p>
          )}
        </div>
      ) : (
        <div className="card">
          <Rows items={items} onOpen={setCommand} />
        </div>
      )}
      <More of={pages}>Earlier</More>
      {command !== null && <CommandDialog commandId={command} onOther={setCommand} onClose={() => setCommand(null)} />}
    </div>
  );
}

function Rows({ items, onOpen }: { items: readonly Command[]; onOpen: (commandId: string) => void }) {
  const places = usePlaces();
  const scripts = items.flatMap(({ spec }) => (spec.kind === "run_script" ? [spec.script_id] : []));
  const names = useNames([...items.map((one) => one.agent_id), ...scripts]);
  return (
    <Table title="Commands" heads={["State", "What", "Machine", "Site", "Lane", "Priority", "Queued", "By"]}>
      {items.map((one) => {
        const script = one.spec.kind === "run_script" ? names.get(one.spec.script_id)?.name : undefined;
        return (
          <tr key={one.id}>
            <td>
              <CommandStatus state={one.state} />
            </td>
            <td className="breakable">
              <button type="button" className="link" onClick={() => onOpen(one.id)}>
                {script ?? specText(one.spec)}
              </button>
            </td>
            <td>
              <Link href={`/agents/${one.agent_id}`}>
                {names.get(one.agent_id)?.name ?? `machine …${one.agent_id.slice(-6)}`}
              </Link>
            </td>
            <td>{places.site(one.site_id)}</td>
            <td>{one.lane}</td>
            <td>{one.priority}</td>
            <td>
              <Time at={one.queued_at} />
            </td>
            <td>
              <Actor actor={one.actor} />
            </td>
          </tr>
        );
      })}
    </Table>
  );
}
