import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { Time } from "../ui/Time";
import { toast } from "../ui/Toasts";

type Agent = components["schemas"]["AgentDetailModel"];
type Machine = components["schemas"]["SightingModel"];
type Stays = "present" | "newcomer";

/** Two machines with one identity: which of them is it? The other stays shut out until it enrolls anew. */
export function Duplicate({ agent, past }: { agent: Agent; past: boolean }) {
  const may = useMay();
  const [stays, setStays] = useState<Stays | null>(null);
  const { duplicate } = agent;
  if (duplicate === null) return null;
  const { present, newcomer } = duplicate;
  return (
    <div className="notice bad duplicate" role="alert">
      <div className="stack grow">
        <p>
          <strong>Two machines have this identity</strong>, as it was noticed <Time at={duplicate.noticed_at} />: one is
          a copy of the other. The first stays connected, and the other is shut out until somebody says which it is.
        </p>
        <div className="two">
          <Which machine={present} word="Is connected" />
          <Which machine={newcomer} word="Is shut out" />
        </div>
        {!past && may("agents.suspend") && (
          <div className="row wrap">
            <Button onClick={() => setStays("present")}>{present.hostname} stays…</Button>
            <Button onClick={() => setStays("newcomer")}>
              {newcomer.hostname === present.hostname ? "The one that is shut out" : newcomer.hostname} takes its place…
            </Button>
          </div>
        )}
      </div>
      {stays !== null && <Settle agent={agent} stays={stays} onClose={() => setStays(null)} />}
    </div>
  );
}

function Which({ machine, word }: { machine: Machine; word: string }) {
  return (
    <div>
      <div className="muted small">{word}</div>
      <strong>{machine.hostname}</strong> <span className="nowrap">{machine.address}</span>
    </div>
  );
}

function Settle({ agent, stays, onClose }: { agent: Agent; stays: Stays; onClose: () => void }) {
  const client = useQueryClient();
  const [reason, setReason] = useState("");
  const { present, newcomer } = agent.duplicate ?? {};
  const [one, other] = stays === "present" ? [present, newcomer] : [newcomer, present];
  const settle = useChange(
    () =>
      ask(
        api.POST("/api/v1/agents/{agent_id}/duplicate", {
          params: { path: { agent_id: agent.id } },
          body: { stays, reason },
        }),
      ),
    () => {
      toast(`${one?.hostname} at ${one?.address} is ${agent.name}.`);
      void client.invalidateQueries({ queryKey: ["agent", agent.id] });
      void client.invalidateQueries({ queryKey: ["agents"] });
      onClose();
    },
  );
  return (
    <FormDialog title={`Which one is ${agent.name}?`} send="Settle it" change={settle} onClose={onClose}>
      <p>
        <strong>
          {one?.hostname} at {one?.address}
        </strong>{" "}
        is this machine from now on. {other?.hostname} at {other?.address} stays shut out, and has to enroll anew to be
        managed by its own name.
      </p>
      <Field
        label="Why"
        hint="Shown in its story."
        maxLength={2000}
        value={reason}
        onChange={(event) => setReason(event.target.value)}
      />
    </FormDialog>
  );
}
