import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { CustomFields, type Holder, useFields } from "../agent/CustomFields";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMayAt, useMayEverywhere } from "../api/session";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { Table } from "../ui/Table";

type Client = components["schemas"]["ClientModel"];
type Site = components["schemas"]["gateways__rest__clients__SiteModel"];

/** What changes how many machines there are where. */
const MACHINES = ["AgentEnrolled", "AgentMoved", "AgentRetired"];

/** Customers and their locations: to add, to give another name, and what their custom fields hold. */
export default function ClientsTab() {
  const manage = useMayEverywhere()("clients.manage");
  const renew = useRenewed();
  const [adding, setAdding] = useState(false);
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const { pages, items } = useList(["places", "admin"], ["Client", ...MACHINES], (query) =>
    ask(api.GET("/api/v1/clients", { params: { query } })),
  );
  const show = (id: string, shown: boolean): void =>
    setOpen((now) => {
      const next = new Set(now);
      if (shown) next.add(id);
      else next.delete(id);
      return next;
    });
  return (
    <>
      <div className="row wrap">
        <p className="muted grow">
          A client is a customer, and has sites. Every machine belongs to one site, and roles can be given over either.
        </p>
        {manage && (
          <Button look="primary" onClick={() => setAdding(true)}>
            New client
          </Button>
        )}
      </div>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 && (
        <div className="empty">
          <h2>There is no client yet</h2>
          <p>Every machine belongs to a site of a client.</p>
        </div>
      )}
      <div className="stack">
        {items.map((one) => (
          <ClientCard key={one.id} client={one} open={open.has(one.id)} onOpen={(shown) => show(one.id, shown)} />
        ))}
      </div>
      <More of={pages} />
      {adding && (
        <NameDialog
          title="New client"
          send="Make it"
          save={async (name) => {
            const { id } = await ask(api.POST("/api/v1/clients", { body: { name } }));
            await renew();
            // Its first site is what comes next.
            show(id, true);
          }}
          onClose={() => setAdding(false)}
        />
      )}
    </>
  );
}

/** Whatever shows clients or sites reads them again. */
function useRenewed(): () => Promise<unknown> {
  const client = useQueryClient();
  return () =>
    Promise.all(["places", "clients", "sites", "agents"].map((key) => client.invalidateQueries({ queryKey: [key] })));
}

interface CardProps {
  client: Client;
  open: boolean;
  onOpen: (open: boolean) => void;
}

function ClientCard({ client, open, onOpen }: CardProps) {
  const mayAt = useMayAt();
  const renew = useRenewed();
  const [asked, setAsked] = useState<"name" | "site" | "fields" | null>(null);
  const path = { client_id: client.id };
  const close = () => setAsked(null);
  return (
    <details className="card role" open={open} onToggle={(event) => onOpen(event.currentTarget.open)}>
      <summary className="breakable">
        <strong>{client.name}</strong> <Roll of={client} />
      </summary>
      {open && (
        <>
          <div className="row wrap pad">
            {mayAt("clients.manage", client.id) && (
              <Button onClick={() => setAsked("name")} aria-label={`Rename ${client.name}`}>
                Rename
              </Button>
            )}
            <FieldsButton on="client" name={client.name} onClick={() => setAsked("fields")} />
            {mayAt("sites.manage", client.id) && (
              <Button onClick={() => setAsked("site")} aria-label={`New site of ${client.name}`}>
                New site
              </Button>
            )}
          </div>
          <Sites client={client} />
        </>
      )}
      {asked === "name" && (
        <NameDialog
          title={`Rename ${client.name}`}
          send="Rename"
          of={client}
          save={async (name, header) => {
            await ask(api.PATCH("/api/v1/clients/{client_id}", { params: { path, header }, body: { name } }));
            await renew();
          }}
          onClose={close}
        />
      )}
      {asked === "site" && (
        <NameDialog
          title={`New site of ${client.name}`}
          send="Make it"
          save={async (name) => {
            await ask(api.POST("/api/v1/clients/{client_id}/sites", { params: { path }, body: { name } }));
            await renew();
          }}
          onClose={close}
        />
      )}
      {asked === "fields" && (
        <Dialog title={client.name} onClose={close} footer={<Button onClick={close}>Close</Button>}>
          <CustomFields on="client" id={client.id} fill={mayAt("fields.fill", client.id)} />
        </Dialog>
      )}
    </details>
  );
}

function Sites({ client }: { client: Client }) {
  const { pages, items } = useList(["places", "admin", client.id], ["Site", ...MACHINES], (query) =>
    ask(api.GET("/api/v1/clients/{client_id}/sites", { params: { path: { client_id: client.id }, query } })),
  );
  return (
    <>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 && <p className="muted">There is no site yet; no machine can join.</p>}
      {items.length > 0 && (
        <Table title={`Sites of ${client.name}`} heads={["Site", "Machines", ""]}>
          {items.map((one) => (
            <SiteRow key={one.id} site={one} client={client} />
          ))}
        </Table>
      )}
      <More of={pages}>More sites</More>
    </>
  );
}

function SiteRow({ site, client }: { site: Site; client: Client }) {
  const mayAt = useMayAt();
  const renew = useRenewed();
  const [asked, setAsked] = useState<"name" | "fields" | null>(null);
  const close = () => setAsked(null);
  const name = `${client.name} / ${site.name}`;
  const path = { site_id: site.id };
  return (
    <tr>
      <th scope="row" className="breakable">
        {site.name}
      </th>
      <td>
        <Roll of={site} />
      </td>
      <td>
        <div className="row">
          {mayAt("sites.manage", client.id, site.id) && (
            <Button onClick={() => setAsked("name")} aria-label={`Rename ${name}`}>
              Rename
            </Button>
          )}
          <FieldsButton on="site" name={name} onClick={() => setAsked("fields")} />
        </div>
        {asked === "name" && (
          <NameDialog
            title={`Rename ${name}`}
            send="Rename"
            of={site}
            save={async (given, header) => {
              await ask(api.PATCH("/api/v1/sites/{site_id}", { params: { path, header }, body: { name: given } }));
              await renew();
            }}
            onClose={close}
          />
        )}
        {asked === "fields" && (
          <Dialog title={name} onClose={close} footer={<Button onClick={close}>Close</Button>}>
            <CustomFields on="site" id={site.id} fill={mayAt("fields.fill", client.id, site.id)} />
          </Dialog>
        )}
      </td>
    </tr>
  );
}

function Roll({ of: { agents, online } }: { of: Client | Site }): ReactNode {
  return (
    <span className="muted nowrap">
      {agents === 1 ? "1 machine" : `${figure(agents)} machines`}
      {agents > 0 && `, ${figure(online)} online`}
    </span>
  );
}

/** Leads to what is filled in, where anything can be. */
function FieldsButton({ on, name, onClick }: { on: Holder; name: string; onClick: () => void }) {
  if (useFields(on).fields.length === 0) return null;
  return (
    <Button onClick={onClick} aria-label={`Custom fields of ${name}`}>
      Custom fields
    </Button>
  );
}

interface NameProps {
  title: string;
  send: string;
  /** What gets another name; without it something is made. */
  of?: { name: string; version: number };
  save: (name: string, header: { "If-Match"?: string }) => Promise<void>;
  onClose: () => void;
}

function NameDialog({ title, send, of, save, onClose }: NameProps) {
  const [before] = useState(of);
  const [name, setName] = useState(before?.name ?? "");
  // Only if nobody has changed it since this window was opened.
  const header = before === undefined ? {} : { "If-Match": `"${before.version}"` };
  const change = useChange(() => save(name, header), onClose);
  return (
    <FormDialog title={title} send={send} change={change} onClose={onClose}>
      <Field
        label="Name"
        required
        autoFocus
        maxLength={200}
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
    </FormDialog>
  );
}
