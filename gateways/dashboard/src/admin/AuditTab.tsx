import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Copy } from "../ui/Copy";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { Status } from "../ui/Status";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { ExtractDialog } from "./ExtractDialog";

type Checkpoint = components["schemas"]["CheckpointModel"];

const EVERY_MS = 10_000;

/** What shows an auditor that the log is whole: the chain, its checkpoints, proofs, and parts to take away. */
export default function AuditTab() {
  const [extracting, setExtracting] = useState(false);
  const [opened, setOpened] = useState<number | null>(null);
  const { pages, items } = useList(
    ["audit", "checkpoints"],
    ["CheckpointCountersigned"],
    (query) => ask(api.GET("/api/v1/audit/checkpoints", { params: { query } })),
    50,
  );
  return (
    <>
      <div className="row wrap">
        <p className="muted grow">
          Each event is chained to the one before it, and signed checkpoints vouch for them. What is taken from here
          holds by itself: <code>fleetlog audit verify</code> and <code>fleetlog audit check</code> need no server.
        </p>
        <Button look="primary" onClick={() => setExtracting(true)}>
          Take a part out
        </Button>
      </div>
      <Head />
      <Prove />
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 && (
        <div className="empty">
          <h2>There is no checkpoint yet</h2>
          <p>A worker signs one as soon as the chain has gone far enough, or some minutes after an event.</p>
        </div>
      )}
      {items.length > 0 && <Checkpoints items={items} onOpen={setOpened} />}
      <More of={pages}>Earlier</More>
      {extracting && <ExtractDialog onClose={() => setExtracting(false)} />}
      {opened !== null && <CheckpointDialog number={opened} onClose={() => setOpened(null)} />}
    </>
  );
}

/** How far the chain is. */
function Head() {
  const head = useQuery({
    queryKey: ["audit", "head"],
    refetchInterval: EVERY_MS,
    queryFn: () => ask(api.GET("/api/v1/audit/head")),
  });
  const seen = head.data;
  return (
    <section className="card stack" aria-label="Audit chain">
      <h2>Audit chain</h2>
      <Fault error={head.error} />
      {seen && (
        <>
          <div className="row wrap">
            <Status tone={seen.lag === 0 ? "ok" : "busy"} shape={seen.lag === 0 ? "tick" : "arrow"}>
              {seen.lag === 0 ? "all of the log is chained" : `${figure(seen.lag)} positions behind the log`}
            </Status>
            <span className="muted">
              up to {figure(seen.position)} of {figure(seen.log_position)}
            </span>
            <span className="muted">
              last checkpoint {seen.checkpoint === 0 ? "none yet" : `${seen.checkpoint}, `}
              {seen.checkpointed_at && <Time at={seen.checkpointed_at} />}
            </span>
          </div>
          <Copy text={seen.head} label="the head of the chain" />
        </>
      )}
    </section>
  );
}

/** That one event is in the log as it was recorded. */
function Prove() {
  const [position, setPosition] = useState("");
  const prove = useChange((wanted: number) =>
    ask(api.GET("/api/v1/audit/events/{position}/proof", { params: { path: { position: wanted } } })),
  );
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    prove.mutate(Number(position));
  };
  const proof = prove.data;
  return (
    <section className="card stack" aria-label="Proof of an event">
      <h2>Proof of an event</h2>
      <form className="row wrap bottom" onSubmit={submit}>
        <Field
          label="Position of the event"
          type="number"
          min={1}
          required
          value={position}
          onChange={(event) => setPosition(event.target.value)}
        />
        <Button type="submit" busy={prove.isPending}>
          Prove it
        </Button>
      </form>
      <Fault error={prove.error} />
      {proof && (
        <div className="notice ok">
          <div className="stack">
            <span>
              <Status tone="ok" shape="tick">
                {proof.event.type} at {figure(proof.event.position)} is under a signed checkpoint
              </Status>{" "}
              <span className="muted">
                recorded <Time at={proof.event.recorded_at} />, leaf {proof.index + 1} of {proof.size}
              </span>
            </span>
            <a href={`/api/v1/audit/events/${proof.event.position}/proof`} download={`${proof.event.position}.json`}>
              Download the proof
            </a>
          </div>
        </div>
      )}
    </section>
  );
}

function Checkpoints({ items, onOpen }: { items: readonly Checkpoint[]; onOpen: (number: number) => void }) {
  return (
    <section className="card" aria-label="Checkpoints">
      <header>
        <h2>Checkpoints</h2>
      </header>
      <Table title="Checkpoints" heads={["Number", "Positions", "Made", "Signed by", ""]}>
        {items.map((one) => (
          <tr key={one.number}>
            <th scope="row">{figure(one.number)}</th>
            <td className="nowrap">
              {figure(one.first_position)} to {figure(one.last_position)}
            </td>
            <td>
              <Time at={one.made_at} />
            </td>
            <td>{one.signatures.map((signature) => signature.name).join(", ")}</td>
            <td>
              <Button look="tiny" onClick={() => onOpen(one.number)} aria-label={`Show checkpoint ${one.number}`}>
                Show
              </Button>
            </td>
          </tr>
        ))}
      </Table>
    </section>
  );
}

function CheckpointDialog({ number, onClose }: { number: number; onClose: () => void }) {
  const checkpoint = useQuery({
    queryKey: ["audit", "checkpoint", number],
    queryFn: () => ask(api.GET("/api/v1/audit/checkpoints/{checkpoint}", { params: { path: { checkpoint: number } } })),
  });
  const shown = checkpoint.data;
  return (
    <Dialog title={`Checkpoint ${number}`} wide onClose={onClose} footer={<Button onClick={onClose}>Close</Button>}>
      <div className="stack">
        <Fault error={checkpoint.error} />
        {shown && (
          <>
            <Copy text={shown.statement} label="the statement" />
            <h3>Its SHA-256, which the next one names</h3>
            <Copy text={shown.sha256} label="the SHA-256" />
            {shown.signatures.map((one) => (
              <section key={one.key} className="stack" aria-label={`Signed by ${one.name}`}>
                <h3>Signed by {one.name}</h3>
                <span className="muted small breakable">with key {one.key}</span>
                <Copy text={one.signature} label={`the signature of ${one.name}`} />
              </section>
            ))}
          </>
        )}
      </div>
    </Dialog>
  );
}
