import { useId, useState } from "react";
import type { EventType } from "../activity/kinds";
import { api, ask } from "../api/client";
import { ProblemError } from "../api/problem";
import type { components } from "../api/schema";
import { useChange } from "../app/change";
import { Choice } from "../ui/Choice";
import { EventTypes } from "../ui/EventTypes";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { ManyPick } from "../ui/ManyPick";
import { toast } from "../ui/Toasts";
import { usePlaceChoice } from "./choices";
import type { Destination } from "./ForwardingTab";

type Wanted = components["schemas"]["AddDestination"];
type To = Wanted["to"];
type Secrets = NonNullable<Wanted["secrets"]>;
type SecretName = keyof Secrets;
type Transport = Extract<Destination["to"], { kind: "syslog" }>["transport"];
export type Kept = components["schemas"]["DestinationAnswer"];

const TRANSPORTS: readonly Transport[] = ["tls", "tcp", "udp"];
/** What each kind may be told in confidence. */
const SECRETS: Record<To["kind"], readonly [SecretName, string][]> = {
  webhook: [
    ["authorization", "Header Authorization, in whole"],
    ["query", "What stands after ? in its URL"],
    ["signing_key", "Signing key"],
  ],
  syslog: [],
  nats: [
    ["user", "User"],
    ["password", "Password"],
    ["token", "Token"],
    ["credentials", "Content of a .creds file"],
  ],
};

/** As it is typed: of every kind at once, so that whoever looks at another kind loses nothing. */
interface Draft {
  kind: To["kind"];
  url: string;
  batch: string;
  host: string;
  port: string;
  transport: Transport;
  facility: string;
  subject: string;
  jetstream: boolean;
  authority: string;
}

const NOTHING: Draft = {
  kind: "webhook",
  url: "",
  batch: "1",
  host: "",
  port: "",
  transport: "tls",
  facility: "13",
  subject: "",
  jetstream: true,
  authority: "",
};

function draftOf(to: Destination["to"]): Draft {
  switch (to.kind) {
    case "webhook":
      return { ...NOTHING, ...to, batch: String(to.batch) };
    case "syslog":
      return { ...NOTHING, ...to, port: String(to.port), facility: String(to.facility) };
    case "nats":
      return { ...NOTHING, ...to };
  }
}

function toOf({ kind, authority, ...draft }: Draft): To {
  switch (kind) {
    case "webhook":
      return { kind, url: draft.url, batch: Number(draft.batch), authority };
    case "syslog":
      return {
        kind,
        host: draft.host,
        port: draft.port === "" ? null : Number(draft.port),
        transport: draft.transport,
        facility: Number(draft.facility),
        authority,
      };
    case "nats":
      return { kind, url: draft.url, subject: draft.subject, jetstream: draft.jetstream, authority };
  }
}

interface Props {
  target: Destination | "new";
  /** Given what is shown once, where there is anything of that. */
  onDone: (kept: Kept | null) => void;
  onClose: () => void;
}

/** Where events go, which, and what the receiver is told in confidence. */
export function DestinationDialog({ target, onDone, onClose }: Props) {
  const known = target === "new" ? null : target;
  const places = usePlaceChoice();
  const [name, setName] = useState(known?.name ?? "");
  const [draft, setDraft] = useState(known === null ? NOTHING : draftOf(known.to));
  const [types, setTypes] = useState((known?.only.types ?? []) as EventType[]);
  const [clients, setClients] = useState<string[]>(known?.only.clients ?? []);
  const [sites, setSites] = useState<string[]>(known?.only.sites ?? []);
  const [after, setAfter] = useState<"now" | "beginning">("now");
  const [secrets, setSecrets] = useState<Secrets>({});
  const set = (change: Partial<Draft>): void => setDraft({ ...draft, ...change });
  const save = useChange(
    () => {
      const offered = SECRETS[draft.kind].map(([one]) => one);
      const told = Object.fromEntries(Object.entries(secrets).filter(([one]) => offered.includes(one as SecretName)));
      const body = {
        name,
        to: toOf(draft),
        only: { types, clients, sites },
        ...(Object.keys(told).length > 0 ? { secrets: told } : {}),
      };
      return ask(
        known === null
          ? api.POST("/api/v1/destinations", { body: { ...body, after } })
          : api.PUT("/api/v1/destinations/{destination_id}", {
              params: { path: { destination_id: known.id } },
              body,
            }),
      );
    },
    (answer) => {
      toast(known === null ? `Events go to ${name} from now on.` : `${name} is changed.`);
      onDone(answer.signing_key !== null || answer.secrets_gone.length > 0 ? answer : null);
    },
  );
  const wrong = (field: string) => (save.error instanceof ProblemError ? save.error.field(field) : undefined);
  return (
    <FormDialog
      title={known === null ? "New destination" : `Change ${known.name}`}
      send={known === null ? "Forward there" : "Save"}
      change={save}
      onClose={onClose}
    >
      <Field
        label="Name"
        required
        maxLength={200}
        wrong={wrong("name")}
        autoFocus
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <Choice label="Kind" value={draft.kind} onChoose={(value) => set({ kind: value as To["kind"] })}>
        <option value="webhook">webhook: a signed POST of CloudEvents</option>
        <option value="syslog">syslog: RFC 5424</option>
        <option value="nats">NATS: a subject of your own server</option>
      </Choice>
      <Target draft={draft} set={set} />
      <EventTypes types={types} onTypes={setTypes} />
      <ManyPick
        label="Only of clients"
        none="all"
        values={clients}
        options={places.clientOptions}
        more={places.clients.more}
        onValues={setClients}
      />
      <ManyPick
        label="Only of sites"
        none="all"
        values={sites}
        options={places.siteOptions}
        more={places.sites.more}
        onValues={setSites}
      />
      {known === null && (
        <Choice label="Begin with" value={after} onChoose={(value) => setAfter(value as "now" | "beginning")}>
          <option value="now">what is recorded from now on</option>
          <option value="beginning">all that there is</option>
        </Choice>
      )}
      {SECRETS[draft.kind].length > 0 && (
        <details>
          <summary>What it is told in confidence</summary>
          <div className="stack pad">
            <p className="muted small">
              It is kept sealed, and no answer ever has it.{" "}
              {known !== null && "What is left empty stays; if it is to reach somebody else, it goes."}
            </p>
            {SECRETS[draft.kind].map(([one, label]) => (
              <Field
                key={one}
                label={label}
                type="password"
                autoComplete="new-password"
                hint={known?.secrets.includes(one) ? "It has one." : undefined}
                value={secrets[one] ?? ""}
                onChange={(event) => {
                  const { [one]: _, ...others } = secrets;
                  setSecrets(event.target.value === "" ? others : { ...others, [one]: event.target.value });
                }}
              />
            ))}
          </div>
        </details>
      )}
    </FormDialog>
  );
}

function Target({ draft, set }: { draft: Draft; set: (change: Partial<Draft>) => void }) {
  const id = useId();
  return (
    <>
      {draft.kind !== "syslog" && (
        <Field
          label="URL"
          required
          placeholder={draft.kind === "webhook" ? "https://siem.example.com/events" : "tls://nats.example.com:4222"}
          value={draft.url}
          onChange={(event) => set({ url: event.target.value })}
        />
      )}
      {draft.kind === "webhook" && (
        <Field
          label="Events in one request, at the most"
          type="number"
          min={1}
          required
          value={draft.batch}
          onChange={(event) => set({ batch: event.target.value })}
        />
      )}
      {draft.kind === "syslog" && (
        <>
          <Field label="Host" required value={draft.host} onChange={(event) => set({ host: event.target.value })} />
          <Choice
            label="Transport"
            value={draft.transport}
            onChoose={(value) => set({ transport: value as Transport })}
          >
            {TRANSPORTS.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </Choice>
          <Field
            label="Port"
            hint="Left empty: 6514 for TLS, else 514."
            type="number"
            min={1}
            max={65535}
            value={draft.port}
            onChange={(event) => set({ port: event.target.value })}
          />
          <Field
            label="Facility"
            type="number"
            min={0}
            max={23}
            required
            value={draft.facility}
            onChange={(event) => set({ facility: event.target.value })}
          />
        </>
      )}
      {draft.kind === "nats" && (
        <>
          <Field
            label="Subject"
            required
            value={draft.subject}
            onChange={(event) => set({ subject: event.target.value })}
          />
          <label className="row">
            <input
              type="checkbox"
              checked={draft.jetstream}
              onChange={(event) => set({ jetstream: event.target.checked })}
            />
            A JetStream stream listens there, and acknowledges each event
          </label>
        </>
      )}
      <details>
        <summary>Its certificate</summary>
        <div className="field pad">
          <label htmlFor={id}>Authorities (PEM)</label>
          <textarea
            id={id}
            className="input"
            rows={4}
            value={draft.authority}
            onChange={(event) => set({ authority: event.target.value })}
          />
          <span className="hint">Left empty: those that the server's system trusts.</span>
        </div>
      </details>
    </>
  );
}
