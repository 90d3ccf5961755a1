import { type ReactNode, useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";
import { SureButton } from "../ui/SureButton";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { toast } from "../ui/Toasts";
import { usePlaces } from "./choices";
import "./admin.css";

type Machine = components["schemas"]["EnrollmentModel"];

/** As many as one request decides. */
const AT_ONCE = 100;

/** Machines that wait for approval, as they come; nothing where none does.
 *
 * @param tokenId only those that came by this token.
 */
export function WaitingMachines({ tokenId }: { tokenId?: string }) {
  const may = useMay();
  const places = usePlaces();
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const { pages, items, again } = useList(
    ["enrollments", "waiting", tokenId ?? ""],
    ["Enrollment"],
    (query) =>
      ask(
        api.GET("/api/v1/enrollments", {
          params: { query: { ...query, state: "waiting", ...(tokenId === undefined ? {} : { token_id: tokenId }) } },
        }),
      ),
    AT_ONCE,
    may("enrollment.see"),
  );
  const decide = useChange(
    ({ how, ids }: { how: "approve" | "refuse"; ids: string[] }) => {
      const body = { enrollments: ids, reason: "" };
      return how === "approve"
        ? ask(api.POST("/api/v1/enrollments/approve", { body }))
        : ask(api.POST("/api/v1/enrollments/refuse", { body }));
    },
    (_, { how, ids }) => {
      const machines = ids.length === 1 ? "The machine" : `${ids.length} machines`;
      toast(`${machines} ${how === "approve" ? "approved" : "refused"}.`);
      setChosen(new Set());
      return again();
    },
  );
  if (items.length === 0 && !pages.error) return null;
  const here = items.filter((one) => chosen.has(one.id)).map((one) => one.id);
  const toggle = (id: string): void => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const decides = may("enrollment.approve");
  const buttons = (ids: string[]) => (
    <div className="row">
      <Button
        look="primary"
        busy={decide.isPending && decide.variables.how === "approve" && decide.variables.ids[0] === ids[0]}
        onClick={() => decide.mutate({ how: "approve", ids })}
      >
        Approve
      </Button>
      <SureButton sure="Refuse: click again" onClick={() => decide.mutate({ how: "refuse", ids })}>
        Refuse
      </SureButton>
    </div>
  );
  return (
    <section className="card" aria-label="Machines that wait for approval">
      <header className="row wrap">
        <h2 className="grow">Machines that wait for approval</h2>
        {decides && here.length > 0 && (
          <>
            <span className="muted">{here.length} chosen</span>
            {buttons(here)}
          </>
        )}
      </header>
      <p className="muted small">
        What a machine says of itself nobody has checked: compare its key with what its console shows.
      </p>
      <Fault error={pages.error ?? decide.error} retry={() => pages.refetch()} />
      <Table
        title="Machines that wait"
        heads={["Choose", "Host name", "Address", "Key", "Site", "Token", "Came", "Until", ""]}
      >
        {items.map((one) => (
          <Waiting key={one.id} item={one} site={places.site(one.site_id)}>
            {decides && (
              <input
                type="checkbox"
                aria-label={`Choose ${one.hostname}`}
                checked={chosen.has(one.id)}
                onChange={() => toggle(one.id)}
              />
            )}
            {decides && buttons([one.id])}
          </Waiting>
        ))}
      </Table>
      <More of={pages} />
    </section>
  );
}

function Waiting({ item, site, children }: { item: Machine; site: string; children: [ReactNode, ReactNode] }) {
  return (
    <tr>
      <td>{children[0]}</td>
      <th scope="row" className="breakable">
        {item.hostname}
        <div className="muted small">
          {item.platform}/{item.arch}
        </div>
      </th>
      <td className="breakable">{item.address}</td>
      <td className="breakable">
        <code>{item.fingerprint}</code>
      </td>
      <td>{site}</td>
      <td className="breakable">{item.token_note || item.token_id}</td>
      <td>
        <Time at={item.requested_at} />
      </td>
      <td>
        <Time at={item.expires_at} />
      </td>
      <td>{children[1]}</td>
    </tr>
  );
}
