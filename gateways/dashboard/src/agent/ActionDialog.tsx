import { useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { usePlaceChoice } from "../admin/choices";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useChange } from "../app/change";
import { useEvery } from "../app/every";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { Pick } from "../ui/Pick";
import { toast } from "../ui/Toasts";

type Agent = components["schemas"]["AgentDetailModel"];
export type Action = "rename" | "tag" | "move" | "suspend" | "resume" | "collect" | "rotate" | "retire";

const WORDS: Record<Action, [title: string, button: string, done: string]> = {
  rename: ["Rename", "Rename", "has its new name"],
  tag: ["Tags of", "Save", "has its new tags"],
  move: ["Move", "Move", "has moved"],
  suspend: ["Suspend", "Suspend", "is suspended"],
  resume: ["Resume", "Resume", "is let in again"],
  collect: ["Collect facts of", "Collect", "tells of itself anew; its timeline shows what is not as it was"],
  rotate: ["Another key for", "Have it make one", "makes itself another key; its timeline shows both steps"],
  retire: ["Retire", "Retire for good", "is retired"],
};
const ABOUT: Partial<Record<Action, string>> = {
  suspend: "Its connection ends at once. What waits for it goes on waiting, until it is resumed.",
  collect:
    "The machine looks at its system, hardware, network and software now. One that is off does it when it returns.",
  rotate:
    "The machine makes the key itself, and the old one opens nothing any more once it has come in under the new one. A machine that is off does it when it returns.",
  retire:
    "Its key is void from now on and what waits for it is cancelled. To be managed again, the machine has to enroll anew.",
};

interface Props {
  action: Action;
  agent: Agent;
  onClose: () => void;
}

/** One change of a machine's entry, with what it means said before it is done. */
export default function ActionDialog({ action, agent, onClose }: Props) {
  const client = useQueryClient();
  const [name, setName] = useState(agent.name);
  const [tags, setTags] = useState(agent.tags.join(" "));
  const [site, setSite] = useState(agent.site_id);
  const [reason, setReason] = useState("");
  const [title, button, done] = WORDS[action];
  const change = useChange(
    () => {
      const params = { path: { agent_id: agent.id } };
      switch (action) {
        case "rename":
          return ask(api.PUT("/api/v1/agents/{agent_id}/name", { params, body: { name } }));
        case "tag": {
          const given = tags.split(/[\s,]+/).filter((tag) => tag !== "");
          return ask(api.PUT("/api/v1/agents/{agent_id}/tags", { params, body: { tags: [...new Set(given)] } }));
        }
        case "move":
          return ask(api.PUT("/api/v1/agents/{agent_id}/site", { params, body: { site_id: site } }));
        case "suspend":
          return ask(api.POST("/api/v1/agents/{agent_id}/suspend", { params, body: { reason } }));
        case "resume":
          return ask(api.POST("/api/v1/agents/{agent_id}/resume", { params, body: { reason } }));
        case "collect":
        case "rotate": {
          const kind = action === "collect" ? ("collect_facts" as const) : ("rotate_key" as const);
          const body = { agent_id: agent.id, spec: { kind }, reason };
          return ask(api.POST("/api/v1/commands", { body }));
        }
        case "retire":
          return ask(api.POST("/api/v1/agents/{agent_id}/retire", { params, body: { reason } }));
      }
    },
    () => {
      toast(`${agent.name} ${done}.`);
      void client.invalidateQueries({ queryKey: ["agent", agent.id] });
      void client.invalidateQueries({ queryKey: ["agents"] });
      onClose();
    },
  );
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    change.mutate();
  };
  return (
    <Dialog
      title={`${title} ${agent.name}`}
      onClose={onClose}
      footer={
        <>
          <div className="grow" />
          <Button onClick={onClose}>Cancel</Button>
          <Button look={action === "retire" ? "danger" : "primary"} type="submit" form="action" busy={change.isPending}>
            {button}
          </Button>
        </>
      }
    >
      <form id="action" className="stack" onSubmit={submit}>
        {ABOUT[action] && <p>{ABOUT[action]}</p>}
        {action === "rename" && (
          <Field
            label="Name"
            hint={`The machine calls itself ${agent.hostname}.`}
            required
            maxLength={200}
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
        )}
        {action === "tag" && (
          <Field
            label="Tags"
            hint="With spaces between them."
            value={tags}
            onChange={(event) => setTags(event.target.value)}
          />
        )}
        {action === "move" && <Where client={agent.client_id} site={site} onSite={setSite} />}
        {ABOUT[action] !== undefined || action === "resume" ? (
          <Field
            label="Why"
            hint="Shown in its story."
            maxLength={2000}
            value={reason}
            onChange={(event) => setReason(event.target.value)}
          />
        ) : null}
        <Fault error={change.error} />
      </form>
    </Dialog>
  );
}

/** A site, of one's client or another. */
function Where({ client, site, onSite }: { client: string; site: string; onSite: (site: string) => void }) {
  const [of, setOf] = useState(client);
  const { clients, clientOptions } = usePlaceChoice();
  const sites = useEvery(["sites", of], (query) =>
    ask(api.GET("/api/v1/clients/{client_id}/sites", { params: { path: { client_id: of }, query } })),
  );
  return (
    <>
      <Pick
        label="Client"
        value={of}
        more={clients.more}
        options={clientOptions}
        onChoose={(id) => {
          setOf(id);
          onSite("");
        }}
      />
      <Pick
        key={of}
        label="Site"
        required
        value={site}
        more={sites.more}
        options={sites.items.map((one) => ({ value: one.id, label: one.name }))}
        onChoose={onSite}
      >
        <option value="">Choose one</option>
      </Pick>
      <Fault error={clients.error ?? sites.error} />
    </>
  );
}
