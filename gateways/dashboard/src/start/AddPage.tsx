import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Link } from "wouter";
import { usePlaceChoice } from "../admin/choices";
import { WaitingMachines } from "../admin/WaitingMachines";
import { api, ask } from "../api/client";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { useEvents, usePolling } from "../app/events";
import { useTitle } from "../app/title";
import { Button } from "../ui/Button";
import { Copy } from "../ui/Copy";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { Pick } from "../ui/Pick";
import { Status } from "../ui/Status";
import "./start.css";

interface Made {
  token: string;
  tokenId: string;
  siteId: string;
  uses: number;
}

/** How often who may not read the log asks whether a machine is there: somebody sits and waits for it. */
const ASK_MS = 3_000;

/** A line to copy into a machine's terminal, and word of the machine once it is there. */
export default function AddPage() {
  useTitle("Add a machine");
  const may = useMay();
  const [site, setSite] = useState("");
  const [uses, setUses] = useState("1");
  const [approval, setApproval] = useState(false);
  const [made, setMade] = useState<Made | null>(null);
  const { clients, sites, siteOptions } = usePlaceChoice();
  const create = useChange(
    (line: { siteId: string; uses: number }) =>
      ask(
        api.POST("/api/v1/enrollment-tokens", {
          body: {
            site_id: line.siteId,
            max_uses: line.uses,
            note: "dashboard",
            approval: approval ? "required" : "none",
          },
        }),
      ),
    (answer, line) => setMade({ token: answer.token ?? "", tokenId: answer.id, ...line }),
  );
  const chosen = site || (siteOptions[0]?.value ?? "");
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    create.mutate({ siteId: chosen, uses: Number(uses) });
  };
  return (
    <div className="page narrow">
      <header>
        <h1>Add a machine</h1>
      </header>
      {sites.isSuccess && siteOptions.length === 0 ? (
        <div className="empty">
          <h2>There is no site yet</h2>
          <p>Every machine belongs to a site of a client. Make the first of each, and come back.</p>
          {may("clients.manage") && <FirstSite onMade={() => Promise.all([sites.refetch(), clients.refetch()])} />}
        </div>
      ) : (
        <ol className="steps">
          <li>
            <h2>Say where it belongs</h2>
            <form className="row wrap bottom" onSubmit={submit}>
              <div className="grow">
                <Pick
                  label="Site"
                  value={chosen}
                  onChoose={setSite}
                  options={siteOptions}
                  more={sites.more}
                  hint={may("clients.see") ? undefined : "Your roles show you no site."}
                />
              </div>
              <Field
                label="For how many machines"
                type="number"
                min={1}
                max={100000}
                required
                value={uses}
                onChange={(event) => setUses(event.target.value)}
              />
              <label className="row">
                <input type="checkbox" checked={approval} onChange={(event) => setApproval(event.target.checked)} />
                Ask me before it comes in
              </label>
              <Button look="primary" type="submit" busy={create.isPending} disabled={chosen === ""}>
                {made === null ? "Make the install line" : "Make another"}
              </Button>
            </form>
            <Fault error={sites.error ?? create.error} />
            {(may("clients.manage") || may("sites.manage")) && (
              <p className="small">
                <Link href="/admin/clients">Another client or site</Link>
              </p>
            )}
          </li>
          {made !== null && <Line key={made.tokenId} made={made} />}
        </ol>
      )}
    </div>
  );
}

function FirstSite({ onMade }: { onMade: () => Promise<unknown> }) {
  const [client, setClient] = useState("");
  const [site, setSite] = useState("Main");
  const make = useChange(async () => {
    const made = await ask(api.POST("/api/v1/clients", { body: { name: client } }));
    await ask(
      api.POST("/api/v1/clients/{client_id}/sites", { params: { path: { client_id: made.id } }, body: { name: site } }),
    );
  }, onMade);
  return (
    <form
      className="stack"
      onSubmit={(event) => {
        event.preventDefault();
        make.mutate();
      }}
    >
      <Field label="Client" required value={client} onChange={(event) => setClient(event.target.value)} />
      <Field label="Site" required value={site} onChange={(event) => setSite(event.target.value)} />
      <Fault error={make.error} />
      <Button look="primary" type="submit" busy={make.isPending}>
        Make both
      </Button>
    </form>
  );
}

interface Arrived {
  id: string;
  name: string;
  online: boolean;
}

/** Who has come in by a line, as the log tells it; to whom it tells nothing, as the site's list of machines does. */
function useArrived(made: Made): { machines: readonly Arrived[]; uses: number } {
  const may = useMay();
  const there = usePolling();
  const [heard, setHeard] = useState<readonly Arrived[]>([]);
  useEvents((event) => {
    const id = event.agent_id;
    if (id === null) return;
    const data = event.data as { token_id?: string; hostname?: string };
    if (event.type === "AgentEnrolled" && data.token_id === made.tokenId) {
      setHeard((now) => [...now, { id, name: data.hostname ?? "a machine", online: false }]);
    } else if (event.type === "AgentConnected") {
      setHeard((now) => now.map((one) => (one.id === id ? { ...one, online: true } : one)));
    }
  });
  const deaf = !may("events.see");
  const refetchInterval = there && ASK_MS;
  const tokens = useQuery({
    queryKey: ["arrived", "uses", made.tokenId],
    enabled: deaf && may("enrollment.see"),
    refetchInterval,
    queryFn: () => ask(api.GET("/api/v1/enrollment-tokens", { params: { query: { limit: 500 } } })),
  });
  const agents = useQuery({
    queryKey: ["arrived", made.siteId],
    enabled: deaf && may("agents.see"),
    refetchInterval,
    queryFn: () => ask(api.GET("/api/v1/agents", { params: { query: { site_id: made.siteId, sort: "-id" } } })),
  });
  // Ids are in the order of time: what is later than the token came in since.
  const since = agents.data?.items.filter((one) => one.id > made.tokenId) ?? [];
  const uses = tokens.data?.items.find((one) => one.id === made.tokenId)?.uses;
  if (!deaf) return { machines: heard, uses: heard.length };
  return { machines: uses === 0 ? [] : since, uses: uses ?? since.length };
}

function Line({ made }: { made: Made }) {
  const { machines: arrived, uses: used } = useArrived(made);
  const uses = made.uses;
  const pin = useQuery({
    queryKey: ["authority"],
    staleTime: Number.POSITIVE_INFINITY,
    enabled: window.location.protocol === "https:",
    queryFn: fingerprint,
  });
  const line = `fleetlog agent enroll ${window.location.origin} ${made.token}${pin.data ? ` --fingerprint ${pin.data}` : ""}`;
  return (
    <>
      <li>
        <h2>Copy this into the machine's terminal</h2>
        <p className="muted">
          It is shown this once, and good for {uses === 1 ? "one machine" : `${uses} machines`} within 24 hours. Run it
          as root, so that the agent may run scripts as any user.
        </p>
        <Copy text={line} label="the line that enrolls" />
      </li>
      <li>
        <h2>Start the agent there</h2>
        <Copy text="fleetlog agent install-service" label="the line that starts the agent" />
        <p className="muted small">
          Without systemd, or to try it first: <code>fleetlog agent run</code>
        </p>
      </li>
      <li aria-live="polite">
        <h2>{arrived.some((one) => one.online) ? "It is here" : "Wait for it"}</h2>
        <WaitingMachines tokenId={made.tokenId} />
        {arrived.length === 0 &&
          (used === 0 ? (
            <div className="notice">
              <span className="spinner" aria-hidden="true" /> No machine has come in by it yet.
            </div>
          ) : (
            <div className="notice ok">
              {used === 1 ? "One machine has" : `${used} machines have`} come in by it; your roles show you no more.
            </div>
          ))}
        {arrived.map((one) => (
          <div key={one.id} className={one.online ? "notice ok" : "notice"}>
            <Status tone={one.online ? "ok" : "busy"} shape={one.online ? "tick" : "half"}>
              {one.online ? "online" : "enrolled; waiting for its agent to start"}
            </Status>
            <Link href={`/agents/${one.id}`}>{one.name}</Link>
          </div>
        ))}
      </li>
    </>
  );
}

/** SHA-256 over the server's own authority, which the line pins; null where a public one vouches for it. */
async function fingerprint(): Promise<string | null> {
  const response = await fetch("/api/v1/authorities");
  const pem = await response.text();
  const body = /-----BEGIN CERTIFICATE-----([\s\S]+?)-----END CERTIFICATE-----/.exec(pem)?.[1];
  if (!response.ok || body === undefined) return null;
  const der = Uint8Array.from(atob(body.replace(/\s/g, "")), (one) => one.charCodeAt(0));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", der));
  return `sha256:${[...digest].map((one) => one.toString(16).padStart(2, "0")).join("")}`;
}
