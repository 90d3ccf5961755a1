import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import { ProblemError } from "../api/problem";
import type { components } from "../api/schema";
import { useMayEverywhere } from "../api/session";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { FieldValue, readValue, shownValue, writtenValue } from "../ui/FieldValue";
import { FormDialog } from "../ui/FormDialog";
import { More } from "../ui/More";
import { SureButton } from "../ui/SureButton";
import { Table } from "../ui/Table";
import { toast, toastError } from "../ui/Toasts";

type Defined = components["schemas"]["FieldModel"];
type Kind = Defined["terms"]["kind"];
type Holder = Defined["terms"]["on"][number];

const KINDS: readonly [Kind, string][] = [
  ["text", "text"],
  ["number", "a number"],
  ["date", "a day"],
  ["checkbox", "yes or no"],
  ["choice", "one of several"],
  ["multiple", "some of several"],
];
const HOLDERS: readonly [Holder, string][] = [
  ["agent", "machines"],
  ["site", "sites"],
  ["client", "clients"],
];

/** What administrators want to know of machines, sites and clients: each is defined here once, and filled in there. */
export default function FieldsTab() {
  const define = useMayEverywhere()("fields.define");
  const cache = useQueryClient();
  const [target, setTarget] = useState<Defined | "new" | null>(null);
  const { pages, items } = useList(["fields", "list"], ["FieldDefined", "FieldRemoved"], (query) =>
    ask(api.GET("/api/v1/fields", { params: { query } })),
  );
  const again = () => cache.invalidateQueries({ queryKey: ["fields"] });
  return (
    <>
      <div className="row wrap">
        <p className="muted grow">
          A command names one as <code>{"{{field.NAME}}"}</code>: the value of the machine, its site or its client,
          whichever is nearest.
        </p>
        {define && (
          <Button look="primary" onClick={() => setTarget("new")}>
            New field
          </Button>
        )}
      </div>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 && (
        <div className="empty">
          <h2>There is no custom field yet</h2>
          <p>An inventory number, a maintenance contract, who to call: what a machine cannot tell of itself.</p>
        </div>
      )}
      {items.length > 0 && (
        <div className="card">
          <Table
            title="Custom fields"
            heads={["Name", "Holds", "Filled in on", "Must be", "Else", ...(define ? [""] : [])]}
          >
            {items.map((one) => (
              <Row key={one.id} item={one} define={define} onChange={() => setTarget(one)} onDone={again} />
            ))}
          </Table>
        </div>
      )}
      <More of={pages} />
      {target !== null && (
        <DefineField
          target={target}
          onClose={() => {
            setTarget(null);
            void again();
          }}
        />
      )}
    </>
  );
}

interface RowProps {
  item: Defined;
  define: boolean;
  onChange: () => void;
  onDone: () => unknown;
}

function Row({ item, define, onChange, onDone }: RowProps) {
  const { terms } = item;
  const remove = useChange(
    () => ask(api.POST("/api/v1/fields/{field_id}/remove", { params: { path: { field_id: item.id } } })),
    () => {
      toast(`${item.name} is gone. What was filled in stands for nothing until it is defined again.`);
      return onDone();
    },
  );
  return (
    <tr>
      <th scope="row">
        {item.name}
        {terms.description !== "" && <div className="muted small breakable">{terms.description}</div>}
      </th>
      <td className="breakable">
        {KINDS.find(([kind]) => kind === terms.kind)?.[1]}
        {terms.choices.length > 0 && <span className="muted">: {terms.choices.join(", ")}</span>}
      </td>
      <td>{terms.on.map((on) => HOLDERS.find(([holder]) => holder === on)?.[1]).join(", ")}</td>
      <td>{terms.required ? "yes" : "no"}</td>
      <td className="breakable">{terms.default === null ? "–" : shownValue(terms.default)}</td>
      {define && (
        <td>
          <div className="row">
            <Button onClick={onChange} aria-label={`Change ${item.name}`}>
              Change
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

function DefineField({ target, onClose }: { target: Defined | "new"; onClose: () => void }) {
  const known = target === "new" ? null : target;
  const [name, setName] = useState(known?.name ?? "");
  const [kind, setKind] = useState<Kind>(known?.terms.kind ?? "text");
  const [on, setOn] = useState<Holder[]>(known?.terms.on ?? ["agent"]);
  const [choices, setChoices] = useState(known?.terms.choices.join("\n") ?? "");
  const [otherwise, setOtherwise] = useState(writtenValue(known?.terms.default ?? undefined));
  const [required, setRequired] = useState(known?.terms.required ?? false);
  const [description, setDescription] = useState(known?.terms.description ?? "");
  const chosen = kind === "choice" || kind === "multiple";
  const several = chosen ? choices.split("\n").filter((one) => one.trim() !== "") : [];
  const define = useChange(
    () =>
      ask(
        api.POST("/api/v1/fields", {
          body: {
            name,
            terms: { kind, on, choices: several, default: readValue(kind, otherwise), required, description },
          },
        }),
      ),
    () => {
      toast(`${name} is defined.`);
      onClose();
    },
  );
  const wrong = define.error instanceof ProblemError ? define.error.field("name") : undefined;
  return (
    <FormDialog
      title={known === null ? "New field" : `Change ${known.name}`}
      send="Define it"
      change={define}
      disabled={on.length === 0}
      onClose={onClose}
    >
      {known === null ? (
        <Field
          label="Name"
          required
          wrong={wrong}
          value={name}
          onChange={(event) => setName(event.target.value)}
          autoFocus
        />
      ) : (
        <div className="notice warn" role="status">
          What was filled in and no longer fits stands for nothing.
        </div>
      )}
      <Choice
        label="It holds"
        value={kind}
        onChoose={(value) => {
          setKind(value as Kind);
          setOtherwise("");
        }}
      >
        {KINDS.map(([value, label]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </Choice>
      {chosen && (
        <div className="field">
          <label htmlFor="choices">To choose from, one a line</label>
          <textarea
            id="choices"
            className="input"
            rows={4}
            required
            value={choices}
            onChange={(event) => setChoices(event.target.value)}
          />
        </div>
      )}
      <fieldset className="field">
        <legend>Filled in on</legend>
        {HOLDERS.map(([holder, label]) => (
          <label key={holder} className="row">
            <input
              type="checkbox"
              checked={on.includes(holder)}
              onChange={(event) => setOn(event.target.checked ? [...on, holder] : on.filter((one) => one !== holder))}
            />
            {label}
          </label>
        ))}
      </fieldset>
      <FieldValue
        name="Where nothing is filled in"
        terms={{ kind, choices: several, description: "" }}
        value={otherwise}
        onValue={setOtherwise}
      />
      <label className="row">
        <input type="checkbox" checked={required} onChange={(event) => setRequired(event.target.checked)} />
        It must be filled in
      </label>
      <Field
        label="Description"
        maxLength={2000}
        value={description}
        onChange={(event) => setDescription(event.target.value)}
      />
    </FormDialog>
  );
}
