import { useInfiniteQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Link, useLocation, useSearch } from "wouter";
import { api, ask } from "../api/client";
import type { components, paths } from "../api/schema";
import { useTitle } from "../app/title";
import { AgentPick, type Chosen } from "../ui/AgentPick";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { Status } from "../ui/Status";
import { Table } from "../ui/Table";

type Query = NonNullable<paths["/api/v1/diff"]["get"]["parameters"]["query"]>;
type Changed = components["schemas"]["ChangedModel"];
type What = Changed["what"];
type Page = components["schemas"]["DiffModel"];

const PAGES: Partial<Record<What, string>> = { agents: "/agents", scripts: "/scripts", rollouts: "/rollouts" };
/** Each kind of thing; one that is left out does not pass the type check. */
const NAMES: Record<What, string> = {
  agents: "agents",
  clients: "clients",
  sites: "sites",
  scripts: "scripts",
  commands: "commands",
  rollouts: "rollouts",
  users: "users",
  roles: "roles",
  "api-keys": "api-keys",
  tokens: "tokens",
  enrollments: "enrollments",
  approvals: "approvals",
  secrets: "secrets",
  destinations: "destinations",
  views: "views",
  fields: "fields",
  values: "values",
};
const WHAT = Object.keys(NAMES) as What[];
const CHANGES = {
  new: ["ok", "full"],
  gone: ["off", "cross"],
  changed: ["busy", "half"],
} as const;

/** What is not as it was, between two positions or times of the log. */
export default function ChangesPage() {
  useTitle("What changed");
  const [, go] = useLocation();
  const params = new URLSearchParams(useSearch());
  const earlier = params.get("earlier");
  const later = params.get("later");
  const agent = params.get("agent");
  const what = params.getAll("what") as What[];
  const show = (changes: Record<string, string | readonly string[] | null>): void => {
    const next = new URLSearchParams(window.location.search);
    for (const [name, value] of Object.entries(changes)) {
      next.delete(name);
      for (const one of value === null ? [] : [value].flat()) next.append(name, one);
    }
    go(`/changes?${next}`);
  };
  const changes = useInfiniteQuery({
    queryKey: ["changes", earlier, later, agent, what],
    enabled: earlier !== null,
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query: Query = {
        ...(earlier ? { earlier } : {}),
        ...(later ? { later } : {}),
        ...(agent ? { agent_id: agent } : {}),
        ...(pageParam === null ? {} : { cursor: pageParam }),
        what,
        limit: 50,
      };
      return ask(api.GET("/api/v1/diff", { params: { query } }));
    },
  });
  const items = changes.data?.pages.flatMap((page) => page.items) ?? [];
  const [first] = changes.data?.pages ?? [];
  return (
    <div className="page">
      <header>
        <h1>What changed</h1>
      </header>
      <Between earlier={earlier} later={later} agent={agent} onShow={show} />
      <div className="row wrap" role="group" aria-label="Only such things">
        {WHAT.map((one) => (
          <button
            key={one}
            type="button"
            className="chip"
            aria-pressed={what.includes(one)}
            onClick={() => show({ what: what.includes(one) ? what.filter((other) => other !== one) : [...what, one] })}
          >
            {NAMES[one]}
          </button>
        ))}
      </div>
      <Fault error={changes.error} retry={() => changes.refetch()} />
      {earlier === null && (
        <div className="empty">
          <h2>Between when and when?</h2>
          <p>Name two moments, or two positions of the log: what went to and fro in between is no change.</p>
        </div>
      )}
      {first && (
        <p className="muted" role="status">
          Between position {figure(first.earlier)} and {figure(first.later)}
        </p>
      )}
      {changes.isSuccess && items.length === 0 && !changes.hasNextPage && (
        <div className="empty">
          <h2>Nothing is other than it was</h2>
        </div>
      )}
      {items.map((one) => (
        <Thing key={`${one.what} ${one.id}`} item={one} />
      ))}
      <More of={changes} />
    </div>
  );
}

interface BetweenProps {
  earlier: string | null;
  later: string | null;
  agent: string | null;
  onShow: (changes: Record<string, string | null>) => void;
}

/** A position as it is, and a moment by the viewer's own clock. */
function typed(value: string): string {
  const text = value.trim();
  const moment = new Date(text);
  return /^\d+$/.test(text) || Number.isNaN(moment.getTime()) ? text : moment.toISOString();
}

function Between({ earlier, later, agent, onShow }: BetweenProps) {
  const [from, setFrom] = useState(earlier ?? "");
  const [until, setUntil] = useState(later ?? "");
  const [chosen, setChosen] = useState<Chosen | null>(agent === null ? null : { id: agent, name: "one machine" });
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    onShow({
      earlier: typed(from) || "0",
      later: typed(until) || null,
      agent: chosen?.id ?? null,
    });
  };
  return (
    <form className="card row wrap top" onSubmit={submit}>
      <Field
        label="Earlier"
        hint="A position, or a time as 2026-05-01 14:30. Empty: the beginning."
        value={from}
        onChange={(event) => setFrom(event.target.value)}
      />
      <Field label="Later" hint="Empty: now." value={until} onChange={(event) => setUntil(event.target.value)} />
      <AgentPick label="Of machine" chosen={chosen} onChoose={setChosen} />
      <Button look="primary" type="submit" className="beside-field">
        Show
      </Button>
    </form>
  );
}

function Thing({ item }: { item: Changed }) {
  const [tone, shape] = CHANGES[item.change];
  const page = PAGES[item.what];
  const name = item.name || item.id;
  return (
    <section className="card stack" aria-label={name}>
      <div className="row wrap">
        <Status tone={tone} shape={shape}>
          {item.change}
        </Status>
        <strong className="breakable">
          {page === undefined || item.change === "gone" ? name : <Link href={`${page}/${item.id}`}>{name}</Link>}
        </strong>
        <span className="muted grow">{NAMES[item.what]}</span>
        <Link href={`/activity/${item.last_position}`} className="small">
          {item.events === 1 ? "one event" : `${figure(item.events)} events`}, the last at {item.last_position}
        </Link>
      </div>
      {item.fields.length === 0 ? (
        <p>{item.text}</p>
      ) : (
        <Table title={name} heads={["What of it", "Before", "After"]}>
          {item.fields.map((one) => (
            <tr key={one.field}>
              <th scope="row">{one.field.replaceAll("_", " ")}</th>
              <td className="breakable">
                <Value value={one.before} />
              </td>
              <td className="breakable">
                <Value value={one.after} />
              </td>
            </tr>
          ))}
        </Table>
      )}
    </section>
  );
}

function Value({ value }: { value: unknown }) {
  if (value === null || value === undefined) return <span className="muted">nothing</span>;
  if (typeof value === "string") return <span className={value === "" ? "muted" : undefined}>{value || "empty"}</span>;
  return <code>{JSON.stringify(value)}</code>;
}
