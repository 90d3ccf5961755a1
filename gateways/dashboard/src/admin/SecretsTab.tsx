import { useState } from "react";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import { ProblemError } from "../api/problem";
import type { components } from "../api/schema";
import { useMay, useMayEverywhere } from "../api/session";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { SureButton } from "../ui/SureButton";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { toast, toastError } from "../ui/Toasts";
import { usePlaces } from "./choices";
import { OverField } from "./Grants";

type Secret = components["schemas"]["SecretModel"];
type Scope = NonNullable<components["schemas"]["SetSecret"]["scope"]>;
/** What the window sets: a new one, or another value of one that is there. */
type Target = Secret | "new";

/** Values that commands use and nobody reads. */
export default function SecretsTab() {
  const manage = useMay()("secrets.manage");
  const mayEverywhere = useMayEverywhere();
  const [target, setTarget] = useState<Target | null>(null);
  const { pages, items, again } = useList(["admin", "secrets"], ["SecretSet", "SecretRemoved"], (query) =>
    ask(api.GET("/api/v1/secrets", { params: { query } })),
  );
  return (
    <>
      <div className="row wrap">
        <p className="muted grow">
          A command names a secret as <code>{"{{secret.NAME}}"}</code>; where several have one name, the one nearest to
          the machine counts. No value is ever shown.
        </p>
        {mayEverywhere("secrets.manage") && items.length > 0 && <SealAnew onDone={again} />}
        {manage && (
          <Button look="primary" onClick={() => setTarget("new")}>
            New secret
          </Button>
        )}
      </div>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 && (
        <div className="empty">
          <h2>There is no secret yet</h2>
          <p>Passwords and keys that scripts need belong here, and not into the scripts.</p>
        </div>
      )}
      {items.length > 0 && (
        <div className="card">
          <Table title="Secrets" heads={["Name", "Holds for", "Value set", "By", "Note", ...(manage ? [""] : [])]}>
            {items.map((one) => (
              <Row key={one.id} item={one} manage={manage} onSet={() => setTarget(one)} onDone={again} />
            ))}
          </Table>
        </div>
      )}
      <More of={pages} />
      {target !== null && (
        <SetSecret
          target={target}
          onDone={() => {
            setTarget(null);
            void again();
          }}
          onClose={() => setTarget(null)}
        />
      )}
    </>
  );
}

/** After another master key is there: the values stay as they are. */
function SealAnew({ onDone }: { onDone: () => unknown }) {
  const seal = useChange(
    () => ask(api.POST("/api/v1/secrets/rotate", {})),
    (answer) => {
      const many = answer.count === 1 ? "One secret is" : `${figure(answer.count)} secrets are`;
      toast(`${many} sealed anew, under master key ${answer.key_id}.`);
      return onDone();
    },
  );
  return (
    <SureButton
      sure="Seal anew: click again"
      busy={seal.isPending}
      onClick={() => seal.mutate(undefined, { onError: toastError })}
    >
      Seal anew
    </SureButton>
  );
}

interface RowProps {
  item: Secret;
  manage: boolean;
  onSet: () => void;
  onDone: () => unknown;
}

function Row({ item, manage, onSet, onDone }: RowProps) {
  const path = { secret_id: item.id };
  const remove = useChange(
    () => ask(api.POST("/api/v1/secrets/{secret_id}/remove", { params: { path }, body: { reason: "" } })),
    () => {
      toast(`${item.name} is gone. What names it and was not delivered yet will be rejected.`);
      return onDone();
    },
  );
  return (
    <tr>
      <th scope="row" className="mono">
        {item.name}
      </th>
      <td>
        <Where item={item} />
      </td>
      <td className="nowrap">
        <Time at={item.set_at} /> {item.number > 1 && <span className="muted">({item.number} times)</span>}
      </td>
      <td className="breakable">{item.actor}</td>
      <td className="breakable">{item.note}</td>
      {manage && (
        <td>
          <div className="row">
            <Button onClick={onSet} aria-label={`Set another value of ${item.name}`}>
              Set
            </Button>
            <SureButton
              sure="Remove: click again"
              busy={remove.isPending}
              onClick={() => remove.mutate(undefined, { onError: toastError })}
            >
              Remove
            </SureButton>
          </div>
        </td>
      )}
    </tr>
  );
}

function Where({ item }: { item: Secret }) {
  const places = usePlaces();
  if (item.agent_id !== null) return <Link href={`/agents/${item.agent_id}`}>one machine</Link>;
  if (item.site_id !== null) return <>{places.site(item.site_id)}</>;
  if (item.client_id !== null) return <>{places.client(item.client_id)}</>;
  return <>the whole fleet</>;
}

/** What the server is told of where it holds; of one that is there, the same as before. */
function scopeOf(target: Target, over: string): Scope {
  if (target !== "new") {
    if (target.agent_id !== null) return { kind: "agent", agent_id: target.agent_id };
    if (target.site_id !== null) return { kind: "site", site_id: target.site_id };
    return target.client_id === null ? { kind: "fleet" } : { kind: "client", client_id: target.client_id };
  }
  const [kind, id] = over.split(" ");
  if (kind === "client" && id !== undefined) return { kind: "client", client_id: id };
  if (kind === "site" && id !== undefined) return { kind: "site", site_id: id };
  return { kind: "fleet" };
}

function SetSecret({ target, onDone, onClose }: { target: Target; onDone: () => void; onClose: () => void }) {
  const [name, setName] = useState(target === "new" ? "" : target.name);
  const [value, setValue] = useState("");
  const [over, setOver] = useState("everything");
  const [note, setNote] = useState(target === "new" ? "" : target.note);
  const set = useChange(
    () => ask(api.POST("/api/v1/secrets", { body: { name, value, note, scope: scopeOf(target, over) } })),
    () => {
      toast(`${name} has its value.`);
      onDone();
    },
  );
  const wrong = (field: string) => (set.error instanceof ProblemError ? set.error.field(field) : undefined);
  return (
    <FormDialog
      title={target === "new" ? "New secret" : `Another value of ${target.name}`}
      send="Set it"
      change={set}
      onClose={onClose}
    >
      {target === "new" ? (
        <>
          <Field
            label="Name"
            required
            wrong={wrong("name")}
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
          <OverField label="Holds for" everything="the whole fleet" over={over} onOver={setOver} />
        </>
      ) : (
        <p>
          It goes on holding for: <Where item={target} />
        </p>
      )}
      <Field
        label="Value"
        type="password"
        autoComplete="new-password"
        required
        wrong={wrong("value")}
        hint={
          <>
            It is kept sealed, and masked where a command prints it. One of several lines, such as a private key:{" "}
            <code>fleetlog secrets set NAME --file FILE</code>
          </>
        }
        value={value}
        onChange={(event) => setValue(event.target.value)}
      />
      <Field label="Note" maxLength={200} value={note} onChange={(event) => setNote(event.target.value)} />
    </FormDialog>
  );
}
