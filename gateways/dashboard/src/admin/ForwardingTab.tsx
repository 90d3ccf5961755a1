import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMayEverywhere } from "../api/session";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { Once } from "../ui/Once";
import { Status } from "../ui/Status";
import { SureButton } from "../ui/SureButton";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { toast, toastError } from "../ui/Toasts";
import { DestinationDialog, type Kept } from "./DestinationDialog";

export type Destination = components["schemas"]["DestinationModel"];

/** Where what happens is told as well: a webhook, a syslog server, a NATS subject. */
export default function ForwardingTab() {
  const may = useMayEverywhere();
  const manage = may("forwarding.manage") && may("events.see") && may("commands.output");
  const [target, setTarget] = useState<Destination | "new" | null>(null);
  const [skipping, setSkipping] = useState<Destination | null>(null);
  const [kept, setKept] = useState<Kept | null>(null);
  const { pages, items, again } = useList(["admin", "destinations"], ["Destination"], (query) =>
    ask(api.GET("/api/v1/destinations", { params: { query } })),
  );
  return (
    <>
      <div className="row wrap">
        <p className="muted grow">
          Events go there by themselves, in order, each at least once; what a receiver does not take waits.
        </p>
        {manage && (
          <Button look="primary" onClick={() => setTarget("new")}>
            New destination
          </Button>
        )}
      </div>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 && (
        <div className="empty">
          <h2>Events are forwarded nowhere</h2>
          <p>A SIEM, a chat or a program of your own can be told of each event as it is recorded.</p>
        </div>
      )}
      {items.length > 0 && (
        <div className="card">
          <Table
            title="Destinations"
            heads={["Name", "To", "State", "Sent", "Behind by", "Changed by", ...(manage ? [""] : [])]}
          >
            {items.map((one) => (
              <Row
                key={one.id}
                item={one}
                manage={manage}
                onChange={() => setTarget(one)}
                onSkip={() => setSkipping(one)}
                onDone={again}
              />
            ))}
          </Table>
        </div>
      )}
      <More of={pages} />
      {target !== null && (
        <DestinationDialog
          target={target}
          onClose={() => setTarget(null)}
          onDone={(answer) => {
            setTarget(null);
            setKept(answer);
            void again();
          }}
        />
      )}
      {skipping !== null && (
        <Skip
          item={skipping}
          onClose={() => {
            setSkipping(null);
            void again();
          }}
        />
      )}
      {kept !== null && <AfterSaving kept={kept} onClose={() => setKept(null)} />}
    </>
  );
}

interface RowProps {
  item: Destination;
  manage: boolean;
  onChange: () => void;
  onSkip: () => void;
  onDone: () => unknown;
}

function Row({ item, manage, onChange, onSkip, onDone }: RowProps) {
  const about = { params: { path: { destination_id: item.id } }, body: { reason: "" } };
  const paused = item.state === "paused";
  const steer = useChange(
    () =>
      ask(
        paused
          ? api.POST("/api/v1/destinations/{destination_id}/resume", about)
          : api.POST("/api/v1/destinations/{destination_id}/pause", about),
      ),
    onDone,
  );
  const remove = useChange(
    () => ask(api.POST("/api/v1/destinations/{destination_id}/remove", about)),
    () => {
      toast(`Nothing is forwarded to ${item.name} any more; its secrets are forgotten.`);
      return onDone();
    },
  );
  return (
    <tr>
      <th scope="row">{item.name}</th>
      <td className="breakable">
        {where(item.to)}
        <div className="muted small">{only(item.only)}</div>
      </td>
      <td className="breakable">
        <State state={item.state} />
        {item.failing_since !== null && (
          <div className="small">
            since <Time at={item.failing_since} />, again <Time at={item.tries_at} />. {item.error}
          </div>
        )}
        {item.stuck_on !== null && (
          <div className="small">
            Its receiver does not take {item.stuck_on.type} at {item.stuck_on.position}.
          </div>
        )}
      </td>
      <td className="nowrap">
        {item.sent == null ? "–" : figure(item.sent)}
        {item.sent_at !== null && (
          <div className="muted small">
            last <Time at={item.sent_at} />
          </div>
        )}
      </td>
      <td>{item.lag == null ? "–" : figure(item.lag)}</td>
      <td className="breakable">{item.actor}</td>
      {manage && (
        <td>
          <div className="row wrap">
            <Button onClick={onChange} aria-label={`Change ${item.name}`}>
              Change
            </Button>
            <Button busy={steer.isPending} onClick={() => steer.mutate(undefined, { onError: toastError })}>
              {paused ? "Go on" : "Pause"}
            </Button>
            {item.stuck_on !== null && <Button onClick={onSkip}>Skip an event…</Button>}
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

function where(to: Destination["to"]): string {
  switch (to.kind) {
    case "webhook":
      return to.url;
    case "syslog":
      return `syslog://${to.host}:${to.port} by ${to.transport}`;
    case "nats":
      return `${to.url}, subject ${to.subject}`;
  }
}

function only({ types, clients, sites }: Destination["only"]): string {
  const said = [
    types.length > 0 && (types.length <= 3 ? types.join(", ") : `${types.length} types`),
    clients.length + sites.length > 0 && `of ${clients.length + sites.length} places`,
  ].filter(Boolean);
  return said.length === 0 ? "every event" : said.join(", ");
}

function State({ state }: { state: Destination["state"] }) {
  switch (state) {
    case "running":
      return (
        <Status tone="ok" shape="full">
          running
        </Status>
      );
    case "failing":
      return (
        <Status tone="bad" shape="cross">
          failing
        </Status>
      );
    case "paused":
      return (
        <Status tone="warn" shape="bars">
          paused
        </Status>
      );
    default:
      return (
        <Status tone="off" shape="clock">
          waiting
        </Status>
      );
  }
}

/** Of the event that all later ones wait behind. */
function Skip({ item, onClose }: { item: Destination; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const position = item.stuck_on?.position ?? 0;
  const skip = useChange(
    () =>
      ask(
        api.POST("/api/v1/destinations/{destination_id}/skip", {
          params: { path: { destination_id: item.id } },
          body: { position, reason },
        }),
      ),
    () => {
      toast(`${item.name} goes on after ${position}.`);
      onClose();
    },
  );
  return (
    <FormDialog title={`Skip an event of ${item.name}`} send="Never send it there" change={skip} onClose={onClose}>
      <p>
        {item.stuck_on?.type} at position {position} is never sent there. That it is missing, and why, is on record.
      </p>
      <Field
        label="Why it may be missing there"
        required
        maxLength={2000}
        autoFocus
        value={reason}
        onChange={(event) => setReason(event.target.value)}
      />
    </FormDialog>
  );
}

/** The key that the receiver checks signatures with, and what it is told no more. */
function AfterSaving({ kept, onClose }: { kept: Kept; onClose: () => void }) {
  return (
    <Dialog title="It is forwarded" onClose={onClose} footer={<Button onClick={onClose}>I have it</Button>}>
      <div className="stack">
        {kept.signing_key !== null && (
          <Once text={kept.signing_key} label="the signing key">
            Give it to the receiver, who checks each request with it (Standard Webhooks). It is shown this once.
          </Once>
        )}
        {kept.secrets_gone.length > 0 && (
          <p className="notice warn">It is not told any more: {kept.secrets_gone.join(", ").replaceAll("_", " ")}.</p>
        )}
      </div>
    </Dialog>
  );
}
