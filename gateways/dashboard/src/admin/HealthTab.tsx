import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useAttended } from "../app/attention";
import { Fault } from "../ui/Fault";
import { figure } from "../ui/figure";
import { Status } from "../ui/Status";
import { Section } from "../ui/Table";
import { Time } from "../ui/Time";
import { bytes } from "./bytes";
import { Retention } from "./Retention";

type Platform = components["schemas"]["StatusModel"];

const EVERY_MS = 5_000;

/** What `fleetlog status` shows, as it is just now. */
export default function HealthTab() {
  const there = useAttended();
  const status = useQuery({
    queryKey: ["status"],
    refetchInterval: there && EVERY_MS,
    staleTime: 0,
    queryFn: ({ signal }) => ask(api.GET("/api/v1/status", { signal })),
  });
  const seen = status.data;
  return (
    <>
      <Fault error={status.error} retry={() => status.refetch()} />
      {seen === undefined ? (
        status.isPending && <div className="muted">Looking at every part…</div>
      ) : (
        <>
          <Verdict seen={seen} />
          <Figures seen={seen} />
          <Servers seen={seen} />
          {seen.brokers.length > 0 && <Brokers seen={seen} />}
          <Processes seen={seen} />
          <Projections seen={seen} />
          <Queues seen={seen} />
          <Retention kept={seen.retention} />
          {seen.chain !== null && <Chain chain={seen.chain} />}
          {seen.forwarding.length > 0 && <Forwarding seen={seen} />}
        </>
      )}
    </>
  );
}

function Verdict({ seen }: { seen: Platform }) {
  if (seen.ok) {
    return (
      <div className="notice ok">
        <Status tone="ok" shape="tick">
          Everything is up
        </Status>
      </div>
    );
  }
  const count = seen.faults.length;
  return (
    <div className="notice bad" role="status">
      <div className="stack">
        <strong>{count === 1 ? "One thing is not well" : `${count} things are not well`}</strong>
        <ul className="plain-list">
          {seen.faults.map((line) => (
            <li key={line}>{line}</li>
          ))}
        </ul>
      </div>
    </div>
  );
}

function Figures({ seen }: { seen: Platform }) {
  const { agents, pending } = seen;
  const waiting = pending === null ? null : pending.queued + pending.delivered + pending.running;
  return (
    <dl className="figures">
      <Figure label="Machines online" value={agents && `${agents.online} of ${agents.total - agents.retired}`} />
      <Figure label="Commands on their way" value={waiting} />
      <Figure label="Oldest of them queued" value={pending?.oldest_at ? <Time at={pending.oldest_at} /> : null} />
      <Figure label="Database" value={seen.database_bytes === null ? null : bytes(seen.database_bytes)} />
    </dl>
  );
}

function Figure({ label, value }: { label: string; value: ReactNode }) {
  return (
    <div className="card">
      <dt className="muted small">{label}</dt>
      <dd>{value ?? "–"}</dd>
    </div>
  );
}

function Servers({ seen }: { seen: Platform }) {
  return (
    <Section title="Servers" heads={["Server", "State", "Answers in", "What it says"]}>
      {seen.parts.map((one) => (
        <tr key={one.name}>
          <th scope="row">{NAMES[one.name] ?? one.name}</th>
          <td>
            <Up ok={one.ok} word={one.ok ? "up" : "down"} />
          </td>
          <td className="nowrap">{one.latency_ms === null ? "–" : `${one.latency_ms} ms`}</td>
          <td className="breakable">{one.detail}</td>
        </tr>
      ))}
    </Section>
  );
}

const NAMES: Record<string, string> = { postgres: "Postgres", nats: "NATS", valkey: "Valkey", api: "API" };

/** Each NATS server, with the most telling figure of it in words and the rest in numbers. */
function Brokers({ seen }: { seen: Platform }) {
  const heads = [
    "Server",
    "State",
    "Connections",
    "Subscriptions",
    "Slow clients",
    "In",
    "Out",
    "Cluster",
    "JetStream",
    "Began",
  ];
  return (
    <Section title="NATS servers" heads={heads}>
      {seen.brokers.map(({ id, name, ok, last_word_s, state }) => (
        <tr key={id}>
          <th scope="row">
            {name} <span className="muted small nowrap">{state.version}</span>
          </th>
          <td>
            <Up ok={ok} word={ok ? "up" : `silent for ${Math.round(last_word_s)} s`} />
          </td>
          <td>{figure(state.connections)}</td>
          <td>{figure(state.subscriptions)}</td>
          <td>
            {state.slow_consumers === 0 ? (
              "none"
            ) : (
              <Status tone="warn" shape="dash">
                {figure(state.slow_consumers)} cut off
              </Status>
            )}
          </td>
          <td className="nowrap">{flow(state.in_messages_per_s, state.in_bytes_per_s)}</td>
          <td className="nowrap">{flow(state.out_messages_per_s, state.out_bytes_per_s)}</td>
          <td>
            {state.cluster === "" ? (
              <span className="muted">alone</span>
            ) : (
              `${state.cluster}, ${state.routes === 1 ? "1 route" : `${state.routes} routes`}`
            )}
          </td>
          <td>{state.jetstream ? "on" : "off"}</td>
          <td>
            <Time at={state.started_at} />
          </td>
        </tr>
      ))}
    </Section>
  );
}

/** "1,200/s, 3.4 MB/s". */
function flow(messages: number | null, size: number | null): string {
  if (messages === null || size === null) return "–";
  return `${figure(Math.round(messages))}/s, ${bytes(size)}/s`;
}

function Processes({ seen }: { seen: Platform }) {
  return (
    <Section title="Processes" heads={["Role", "State", "Host", "Process", "Version", "Since", "Note"]}>
      {seen.processes.map((one) => (
        <tr key={`${one.role} ${one.host} ${one.pid}`}>
          <th scope="row">{one.role}</th>
          <td>
            <Up ok={one.ok} word={one.state} />
          </td>
          <td>{one.host ?? "–"}</td>
          <td>{one.pid ?? "–"}</td>
          <td>{one.version ?? "–"}</td>
          <td>{one.started_at === null ? "–" : <Time at={one.started_at} />}</td>
          <td className="breakable">{one.note}</td>
        </tr>
      ))}
    </Section>
  );
}

function Projections({ seen }: { seen: Platform }) {
  return (
    <Known title="Projections" heads={["Projection", "State", "Position", "Behind by", "Moved"]}>
      {seen.projections.map((one) => (
        <tr key={one.name}>
          <th scope="row">{one.name}</th>
          <td>
            <Up ok={one.ok} word={one.status} />
            {one.error !== null && (
              <div className="breakable small">
                {one.error_position !== null && `At ${one.error_position}: `}
                {one.error}
              </div>
            )}
            {one.status === "stopped" && <Remedy line={`fleetlog projections resume ${one.name}`} />}
            {one.status === "stale" && <Remedy line={`fleetlog projections rebuild ${one.name}`} />}
          </td>
          <td>{figure(one.position)}</td>
          <td>{figure(one.lag)}</td>
          <td>
            <Time at={one.updated_at} />
          </td>
        </tr>
      ))}
    </Known>
  );
}

function Remedy({ line }: { line: string }) {
  return (
    <div className="small muted">
      Once that is mended: <code>{line}</code>
    </div>
  );
}

function Queues({ seen }: { seen: Platform }) {
  const { pending } = seen;
  return (
    <div className="cards-2">
      <Known title="Pending commands" heads={["Queued", "Delivered", "Running", "Machines"]}>
        {pending !== null && (
          <tr>
            <td>{figure(pending.queued)}</td>
            <td>{figure(pending.delivered)}</td>
            <td>{figure(pending.running)}</td>
            <td>{figure(pending.agents)}</td>
          </tr>
        )}
      </Known>
      <Known title="Background work" heads={["Queue", "Waiting", "Active", "Later", "Given up"]}>
        {seen.queues.map((one) => (
          <tr key={one.name}>
            <th scope="row">{one.name}</th>
            <td>{one.waiting}</td>
            <td>{one.active}</td>
            <td>{one.scheduled}</td>
            <td>{one.dead}</td>
          </tr>
        ))}
      </Known>
    </div>
  );
}

function Chain({ chain }: { chain: NonNullable<Platform["chain"]> }) {
  const exported = Object.entries(chain.exported).map(([kind, number]) => `${kind}: ${number}`);
  return (
    <Section title="Audit chain" heads={["State", "Position", "Behind by", "Checkpoint", "Made", "Exported"]}>
      <tr>
        <td>
          <Up ok={chain.ok} word={chain.status} />
        </td>
        <td>{figure(chain.position)}</td>
        <td>{figure(chain.lag)}</td>
        <td>{chain.checkpoint}</td>
        <td>
          <Time at={chain.checkpointed_at} />
        </td>
        <td>{exported.join(", ") || <span className="muted">nowhere</span>}</td>
      </tr>
    </Section>
  );
}

function Forwarding({ seen }: { seen: Platform }) {
  return (
    <Section title="Forwarding" heads={["Destination", "State", "Kind", "Sent", "Behind by"]}>
      {seen.forwarding.map((one) => (
        <tr key={one.name}>
          <th scope="row">{one.name}</th>
          <td>
            <Up ok={one.ok} word={one.status} />
            {one.failing_since !== null && (
              <div className="small breakable">
                since <Time at={one.failing_since} />. {one.error}
              </div>
            )}
          </td>
          <td>{one.kind}</td>
          <td>{figure(one.sent)}</td>
          <td>{figure(one.lag)}</td>
        </tr>
      ))}
    </Section>
  );
}

function Known({ title, heads, children }: { title: string; heads: readonly string[]; children: ReactNode }) {
  const none = children === null || children === false || (Array.isArray(children) && children.length === 0);
  if (!none) {
    return (
      <Section title={title} heads={heads}>
        {children}
      </Section>
    );
  }
  return (
    <section className="card" aria-label={title}>
      <header>
        <h2>{title}</h2>
      </header>
      <p className="muted">Not known while its server is away.</p>
    </section>
  );
}

function Up({ ok, word }: { ok: boolean; word: string }) {
  return (
    <Status tone={ok ? "ok" : "bad"} shape={ok ? "full" : "cross"}>
      {word}
    </Status>
  );
}
