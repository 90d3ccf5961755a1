import { useState } from "react";
import type { EventType } from "../activity/kinds";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useChange } from "../app/change";
import { AgentPick, type Chosen } from "../ui/AgentPick";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { Dialog } from "../ui/Dialog";
import { EventTypes } from "../ui/EventTypes";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { instant, Moment } from "../ui/Moment";
import { Pick } from "../ui/Pick";
import { usePlaceChoice } from "./choices";

type Format = components["schemas"]["ExtractFormat"];

const FORMATS: readonly [Format, string][] = [
  ["ndjson", "each event with its proof, to be verified"],
  ["csv", "a table"],
  ["html", "a report to read and to print"],
];

/** A part of the history, for an auditor: asked for on record, then downloaded. */
export function ExtractDialog({ onClose }: { onClose: () => void }) {
  const { clients, clientOptions } = usePlaceChoice();
  const [format, setFormat] = useState<Format>("ndjson");
  const [since, setSince] = useState("");
  const [until, setUntil] = useState("");
  const [client, setClient] = useState("");
  const [agent, setAgent] = useState<Chosen | null>(null);
  const [actor, setActor] = useState("");
  const [types, setTypes] = useState<EventType[]>([]);
  const extract = useChange(() =>
    ask(
      api.POST("/api/v1/audit/extracts", {
        body: {
          format,
          types,
          since: instant(since),
          until: instant(until),
          client_id: client || null,
          agent_id: agent?.id ?? null,
          actor: actor.trim() || null,
        },
      }),
    ),
  );
  if (extract.data !== undefined) {
    return (
      <Dialog title="A part of the history" onClose={onClose} footer={<Button onClick={onClose}>Close</Button>}>
        <div className="stack">
          <p>That you asked for it is on record. Only you can fetch it, in whichever form you like.</p>
          <ul className="plain-list stack">
            {FORMATS.map(([one, what]) => (
              <li key={one}>
                <a href={`/api/v1/audit/extracts/${extract.data.id}?format=${one}`} download>
                  Download it as {one}
                </a>{" "}
                <span className="muted">{what}</span>
              </li>
            ))}
          </ul>
        </div>
      </Dialog>
    );
  }
  return (
    <FormDialog title="Take a part of the history out" send="Ask for it" change={extract} onClose={onClose}>
      <Choice label="As" value={format} onChoose={(value) => setFormat(value as Format)}>
        {FORMATS.map(([one, what]) => (
          <option key={one} value={one}>
            {one}: {what}
          </option>
        ))}
      </Choice>
      <div className="row wrap">
        <Moment label="From" value={since} onValue={setSince} />
        <Moment label="Until" value={until} onValue={setUntil} />
      </div>
      <Pick label="Of client" value={client} options={clientOptions} more={clients.more} onChoose={setClient}>
        <option value="">all</option>
      </Pick>
      <AgentPick label="Of machine" chosen={agent} onChoose={setAgent} />
      <Field
        label="Done by"
        hint="As user:ID, key:ID, agent:ID or scheduler; it is shown where you point at who did something."
        value={actor}
        onChange={(event) => setActor(event.target.value)}
      />
      <EventTypes types={types} onTypes={setTypes} />
    </FormDialog>
  );
}
