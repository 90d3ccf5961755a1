import { useEffect, useState } from "react";
import { usePlaceChoice } from "../admin/choices";
import { useNames } from "../api/names";
import { AgentPick } from "../ui/AgentPick";
import { Field } from "../ui/Field";
import { Moment } from "../ui/Moment";
import { Pick } from "../ui/Pick";

/** Whoever types is listened to when they rest. */
const REST_MS = 300;

/** As the address holds it; what is null does not narrow. */
export interface Narrowed {
  client: string | null;
  agent: string | null;
  since: string | null;
  until: string | null;
  q: string | null;
}

interface Props {
  narrowed: Narrowed;
  onShow: (changes: Partial<Narrowed>) => void;
}

/** Whom it is about, when it was, and what was said. */
export function Filters({ narrowed, onShow }: Props) {
  const { client, agent, since, until, q } = narrowed;
  const { clients, clientOptions } = usePlaceChoice();
  const names = useNames(agent === null ? [] : [agent]);
  const [text, setText] = useState(q ?? "");
  const [open, setOpen] = useState(() => Object.values(narrowed).some((one) => one !== null));
  // What is typed makes the address; where that changes by itself, as by going back, the box follows it.
  useEffect(() => setText((now) => (now.trim() === (q ?? "") ? now : (q ?? ""))), [q]);
  useEffect(() => {
    if (text.trim() === (q ?? "")) return;
    const timer = setTimeout(() => onShow({ q: text.trim() || null }), REST_MS);
    return () => clearTimeout(timer);
  });
  return (
    <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>By client, machine, time or text</summary>
      <div className="row wrap top pad">
        <Pick
          label="Client"
          value={client ?? ""}
          options={clientOptions}
          more={clients.more}
          onChoose={(value) => onShow({ client: value || null })}
        >
          <option value="">All clients</option>
        </Pick>
        <AgentPick
          label="Machine"
          chosen={agent === null ? null : { id: agent, name: names.get(agent)?.name ?? `machine …${agent.slice(-6)}` }}
          onChoose={(chosen) => onShow({ agent: chosen?.id ?? null })}
        />
        <Moment label="From" value={since ?? ""} onValue={(value) => onShow({ since: value || null })} />
        <Moment label="Until" value={until ?? ""} onValue={(value) => onShow({ until: value || null })} />
        <Field
          label="Says"
          hint="Words of its sentence, or of its type."
          type="search"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </div>
    </details>
  );
}
