import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { useAfterEvents } from "../app/events";
import { useEvery } from "../app/every";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { FieldValue, readValue, shownValue, type Value, writtenValue } from "../ui/FieldValue";
import "./agent.css";

type Defined = components["schemas"]["FieldModel"];
type Filled = components["schemas"]["FilledModel"];
type Values = Record<string, Value | null>;
export type Holder = Defined["terms"]["on"][number];

const READ: Record<Holder, (id: string) => Promise<Filled>> = {
  agent: (id) => ask(api.GET("/api/v1/agents/{agent_id}/fields", { params: { path: { agent_id: id } } })),
  site: (id) => ask(api.GET("/api/v1/sites/{site_id}/fields", { params: { path: { site_id: id } } })),
  client: (id) => ask(api.GET("/api/v1/clients/{client_id}/fields", { params: { path: { client_id: id } } })),
};
const FILL: Record<Holder, (id: string, values: Values) => Promise<unknown>> = {
  agent: (id, values) =>
    ask(api.PATCH("/api/v1/agents/{agent_id}/fields", { params: { path: { agent_id: id } }, body: { values } })),
  site: (id, values) =>
    ask(api.PATCH("/api/v1/sites/{site_id}/fields", { params: { path: { site_id: id } }, body: { values } })),
  client: (id, values) =>
    ask(api.PATCH("/api/v1/clients/{client_id}/fields", { params: { path: { client_id: id } }, body: { values } })),
};

/** The fields that are defined for machines, sites or clients. */
export function useFields(on: Holder): { fields: Defined[]; error: unknown } {
  const enabled = useMay()("clients.see");
  const defined = useEvery(["fields"], (query) => ask(api.GET("/api/v1/fields", { params: { query } })), enabled);
  return { fields: defined.items.filter((one) => one.terms.on.includes(on)), error: defined.error };
}

interface Props {
  on: Holder;
  id: string;
  /** Whether the person may fill them in here. */
  fill: boolean;
}

/** What is filled in on a machine, a site or a client of the fields that are defined for such. */
export function CustomFields({ on, id, fill }: Props) {
  const client = useQueryClient();
  const [editing, setEditing] = useState(false);
  const again = useRef<HTMLElement>(null);
  const key = ["filled", id];
  const { fields, error } = useFields(on);
  const filled = useQuery({ queryKey: key, enabled: fields.length > 0, queryFn: () => READ[on](id) });
  useAfterEvents(
    (event) => event.type === "FieldsFilled" && (event.data as { holder_id?: string }).holder_id === id,
    () => void client.invalidateQueries({ queryKey: key }),
  );
  if (fields.length === 0 || filled.data === undefined) return <Fault error={error ?? filled.error} />;
  const { values, missing } = filled.data;
  return (
    // Where the form was, the focus stays.
    <section className="card" tabIndex={-1} ref={again} aria-label="Custom fields">
      <header>
        <h2>Custom fields</h2>
        <div className="grow" />
        {fill && !editing && (
          <Button look="plain tiny" onClick={() => setEditing(true)}>
            Fill in
          </Button>
        )}
      </header>
      {editing ? (
        <Form
          on={on}
          id={id}
          fields={fields}
          values={values}
          onDone={() => {
            again.current?.focus();
            setEditing(false);
            void client.invalidateQueries({ queryKey: key });
          }}
        />
      ) : (
        <dl className="facts">
          {fields.map((field) => {
            const value = values[field.name.toLowerCase()] ?? field.terms.default;
            return (
              <div key={field.id}>
                <dt title={field.terms.description}>{field.name}</dt>
                <dd>
                  {value !== null && value !== undefined ? (
                    shownValue(value)
                  ) : missing.includes(field.name) ? (
                    <span className="wrong">to be filled in</span>
                  ) : (
                    <span className="muted">–</span>
                  )}
                </dd>
              </div>
            );
          })}
        </dl>
      )}
    </section>
  );
}

interface FormProps {
  on: Holder;
  id: string;
  fields: Defined[];
  values: Record<string, Value>;
  onDone: () => void;
}

function Form({ on, id, fields, values, onDone }: FormProps) {
  const [given, setGiven] = useState<Record<string, string | string[]>>({});
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => form.current?.querySelector<HTMLElement>("input, select")?.focus(), []);
  const save = useChange(() => {
    const changed: Values = {};
    for (const field of fields) {
      const text = given[field.name.toLowerCase()];
      if (text !== undefined) changed[field.name] = readValue(field.terms.kind, text);
    }
    return FILL[on](id, changed);
  }, onDone);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <form className="stack" ref={form} onSubmit={submit}>
      {fields.map((field) => {
        const name = field.name.toLowerCase();
        return (
          <FieldValue
            key={field.id}
            name={field.name}
            terms={field.terms}
            value={given[name] ?? writtenValue(values[name])}
            onValue={(value) => setGiven({ ...given, [name]: value })}
          />
        );
      })}
      <Fault error={save.error} />
      <div className="row">
        <Button look="primary" type="submit" busy={save.isPending}>
          Save
        </Button>
        <Button onClick={onDone}>Cancel</Button>
      </div>
    </form>
  );
}
