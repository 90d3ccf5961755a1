import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams } from "wouter";
import { api, ask } from "../api/client";
import { isProblem } from "../api/problem";
import { useAfterEvents } from "../app/events";
import { useList } from "../app/list";
import { useTitle } from "../app/title";
import { Fault } from "../ui/Fault";
import { More } from "../ui/More";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { CheckStatus, valueText, whatText } from "./state";

/** One check: what it measures, and the machines on which it finds something. */
export default function CheckPage() {
  const { id = "" } = useParams<{ id: string }>();
  const client = useQueryClient();
  const path = { check_id: id };
  const key = ["checks", "one", id];
  const check = useQuery({
    queryKey: key,
    queryFn: () => ask(api.GET("/api/v1/checks/{check_id}", { params: { path } })),
  });
  useAfterEvents(
    (event) => event.type.startsWith("Check") || event.type.startsWith("AgentCheck"),
    () => void client.invalidateQueries({ queryKey: key }),
  );
  const { pages, items } = useList(["checks", "machines", id], ["Check", "AgentCheck"], (query) =>
    ask(api.GET("/api/v1/checks/{check_id}/machines", { params: { path, query } })),
  );
  useTitle(check.data?.name ?? "Check");
  if (isProblem(check.error, "not_found")) {
    return (
      <div className="empty">
        <h1>There is no such check</h1>
        <p>It may have been removed, or be for machines that you do not see.</p>
        <Link href="/checks" className="button">
          To the checks
        </Link>
      </div>
    );
  }
  const shown = check.data;
  return (
    <div className="page">
      <Fault error={check.error ?? pages.error} retry={() => check.refetch()} />
      {shown && (
        <>
          <header>
            <div className="stack crumbs">
              <p className="muted small">
                <Link href="/checks">Checks</Link> /
              </p>
              <h1>{shown.name}</h1>
            </div>
            {shown.disabled && <span className="chip">disabled</span>}
          </header>
          <p className="muted breakable">
            {whatText(shown)}, every {shown.interval_s} s. Defined by {shown.actor}, <Time at={shown.defined_at} />.
          </p>
          {shown.description !== "" && <p className="breakable">{shown.description}</p>}
        </>
      )}
      {pages.isSuccess && items.length === 0 && (
        <div className="empty">
          <h2>It finds nothing</h2>
          <p>On all machines that it is for it passes, or was not measured yet.</p>
        </div>
      )}
      {items.length > 0 && (
        <div className="card">
          <Table title="Machines" heads={["Machine", "State", "Since", "Found"]}>
            {items.map((one) => (
              <tr key={one.agent_id}>
                <th scope="row">
                  <Link href={`/agents/${one.agent_id}?tab=checks`}>{one.name}</Link>
                </th>
                <td>
                  <CheckStatus state={one.state} />
                </td>
                <td>
                  <Time at={one.since} />
                </td>
                <td>{valueText(one.value, one.unit)}</td>
              </tr>
            ))}
          </Table>
        </div>
      )}
      <More of={pages} />
    </div>
  );
}
