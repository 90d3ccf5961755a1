import { lazy, type ReactNode, Suspense } from "react";
import { Link } from "wouter";
import type { components } from "../api/schema";
import { useMayAt } from "../api/session";
import { Time } from "../ui/Time";
import { CustomFields } from "./CustomFields";
import { Notes } from "./Notes";

const Graphs = lazy(() => import("./Graphs"));

type Agent = components["schemas"]["AgentDetailModel"];
type Facts = Record<string, unknown>;

const BYTES = ["B", "kB", "MB", "GB", "TB", "PB"];

/** "16 GB"; binary, as machines are sold. */
function bytes(value: unknown): string | null {
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0) return null;
  const step = value === 0 ? 0 : Math.min(BYTES.length - 1, Math.floor(Math.log2(value) / 10));
  return `${(value / 1024 ** step).toFixed(step > 2 && value / 1024 ** step < 10 ? 1 : 0)} ${BYTES[step]}`;
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : typeof value === "number" ? String(value) : null;
}

function records(value: unknown): Facts[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "object" && one !== null) : [];
}

/** What the machine is. Facts come from the machine itself, so nothing about their shape is taken for granted.
 *
 * @param past it is shown as it was: what is known of now alone is left out.
 */
export function Summary({ agent, past = false }: { agent: Agent; past?: boolean }) {
  const mayAt = useMayAt();
  const facts = agent.facts as Facts;
  const cpu = (typeof facts.cpu === "object" && facts.cpu !== null ? facts.cpu : {}) as Facts;
  const disks = records(facts.disks);
  const addresses = records(facts.addresses);
  return (
    <div className="cards">
      <section className="card">
        <header>
          <h2>Machine</h2>
        </header>
        <dl className="facts">
          <Fact name="Hostname">{agent.hostname}</Fact>
          <Fact name="System">{text(facts.os) ?? agent.os ?? agent.platform}</Fact>
          <Fact name="Kernel">{text(facts.kernel)}</Fact>
          <Fact name="Architecture">{agent.arch}</Fact>
          <Fact name="Processor">
            {text(cpu.model) && `${text(cpu.model)}${text(cpu.threads) ? `, ${text(cpu.threads)} threads` : ""}`}
          </Fact>
          <Fact name="Memory">{bytes(facts.memory_bytes)}</Fact>
          <Fact name="Up since">{text(facts.boot_time) && <Time at={text(facts.boot_time)} />}</Fact>
          <Fact name="Logged in">{agent.logged_in_user}</Fact>
          <Fact name="Tags">
            {agent.tags.length > 0 && (
              <span className="row wrap">
                {agent.tags.map((tag) => (
                  <Link key={tag} href={`/?f=${encodeURIComponent(`tag:${tag}`)}`} className="chip">
                    {tag}
                  </Link>
                ))}
              </span>
            )}
          </Fact>
        </dl>
      </section>
      <section className="card">
        <header>
          <h2>Connection</h2>
        </header>
        <dl className="facts">
          <Fact name="Address">{agent.address}</Fact>
          <Fact name="By">{agent.transport}</Fact>
          <Fact name="Connected">{agent.connected_at && <Time at={agent.connected_at} />}</Fact>
          {!past && (
            <Fact name="Last seen">
              <Time at={agent.last_seen_at ?? agent.disconnected_at} over={!agent.online} />
            </Fact>
          )}
          {past && <Fact name="Disconnected">{agent.disconnected_at && <Time at={agent.disconnected_at} />}</Fact>}
          <Fact name="Enrolled">
            <Time at={agent.enrolled_at} />
          </Fact>
          <Fact name="Agent">{agent.agent_version}</Fact>
          <Fact name="Facts of">
            <Time at={agent.facts_at} />
          </Fact>
          <Fact name="Id">
            <code>{agent.id}</code>
          </Fact>
        </dl>
      </section>
      {!past && (
        <>
          <Suspense fallback={<section className="card graphs muted">Loading…</section>}>
            <Graphs agentId={agent.id} />
          </Suspense>
          <Notes agentId={agent.id} />
          <CustomFields on="agent" id={agent.id} fill={mayAt("fields.fill", agent.client_id, agent.site_id)} />
        </>
      )}
      {disks.length > 0 && (
        <section className="card">
          <header>
            <h2>Disks</h2>
          </header>
          <div className="stack">
            {disks.map((disk) => (
              <Disk key={`${text(disk.mount)}${text(disk.device)}`} disk={disk} />
            ))}
          </div>
        </section>
      )}
      {addresses.length > 0 && (
        <section className="card">
          <header>
            <h2>Network</h2>
          </header>
          <dl className="facts">
            {addresses.map((one) => (
              <Fact key={`${text(one.interface)}${text(one.address)}`} name={text(one.interface) ?? "interface"}>
                {text(one.address)}
              </Fact>
            ))}
          </dl>
        </section>
      )}
      <details className="card">
        <summary>All that it told of itself</summary>
        <pre className="json" tabIndex={0}>
          {JSON.stringify(facts, null, 2)}
        </pre>
      </details>
    </div>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  if (children === null || children === undefined || children === "" || children === false) return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Disk({ disk }: { disk: Facts }) {
  const used = typeof disk.used_percent === "number" ? Math.min(100, Math.max(0, disk.used_percent)) : null;
  return (
    <div>
      <div className="row">
        <span className="grow clip">
          <strong>{text(disk.mount)}</strong> <span className="muted">{text(disk.device)}</span>
        </span>
        <span className="muted nowrap">
          {used !== null && `${Math.round(used)} % of `}
          {bytes(disk.size_bytes)}
        </span>
      </div>
      {used !== null && (
        <meter aria-label={`Used of ${text(disk.mount)}`} min={0} max={100} high={85} optimum={0} value={used} />
      )}
    </div>
  );
}
