import { useQuery, useQueryClient } from "@tanstack/react-query";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useAfterEvents, usePolling } from "../app/events";
import { CheckStatus, valueText } from "../checks/state";
import { Fault } from "../ui/Fault";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";

type Agent = components["schemas"]["AgentModel"];
type AgentCheck = components["schemas"]["AgentCheckModel"];
const AGAIN_MS = 15_000;

interface Props {
  agent: Agent;
  /** The position as of which it is shown; null is now. */
  at: number | null;
}

/** What is measured on the machine again and again, and what that finds. */
export default function Checks({ agent, at }: Props) {
  const client = useQueryClient();
  const polling = usePolling();
  const key = ["agent-checks", agent.id, at];
  const checks = useQuery({
    queryKey: key,
    // Measurements come without an event.
    refetchInterval: at === null ? polling || AGAIN_MS : false,
    queryFn: () => {
      const query = at === null ? {} : { at };
      return ask(api.GET("/api/v1/agents/{agent_id}/checks", { params: { path: { agent_id: agent.id }, query } }));
    },
  });
  useAfterEvents(
    (event) =>
      at === null &&
      (/^Check/.test(event.type) || (event.agent_id === agent.id && event.type.startsWith("AgentCheck"))),
    () => void client.invalidateQueries({ queryKey: key }),
  );
  const items = checks.data?.items ?? [];
  return (
    <section className="stack" aria-label="Checks">
      <Fault error={checks.error} retry={() => checks.refetch()} />
      {checks.data && items.length === 0 && (
        <div className="empty">
          <h2>{at === null ? "No check is for this machine" : "Checks had found nothing"}</h2>
          <p>What is measured on which machines is said under Checks.</p>
        </div>
      )}
      {checks.data && !checks.data.delivered && at === null && (
        <div className="notice" role="status">
          {agent.online
            ? "Its agent is being told of a change of this list."
            : "Its agent has not heard of a change of this list yet: it does when it is back. Until then it measures what it knows of."}
        </div>
      )}
      {items.length > 0 && (
        <div className="card">
          <Table title="Checks" heads={["Check", "State", "Since", "Measured", ""]}>
            {items.map((one) => (
              <Line key={one.check_id} one={one} at={at} />
            ))}
          </Table>
        </div>
      )}
    </section>
  );
}

function Line({ one, at }: { one: AgentCheck; at: number | null }) {
  return (
    <tr>
      <th scope="row">
        {one.name}
        {one.kind !== null && (
          <div className="muted small">
            {one.kind}, every {one.interval_s} s
          </div>
        )}
      </th>
      <td>
        <CheckStatus state={one.state} />
        {one.was !== null && <div className="muted small">was {one.was}</div>}
      </td>
      <td>{one.since === null ? <span className="muted">–</span> : <Time at={one.since} />}</td>
      <td>
        {one.measured !== null ? (
          <Time at={one.measured.at} />
        ) : (
          <span className="muted">{at !== null || !one.given ? "–" : "not yet"}</span>
        )}
      </td>
      <td className="breakable">
        {one.measured === null
          ? valueText(one.value, one.unit)
          : [valueText(one.measured.value, one.unit), one.measured.detail].filter((part) => part !== "").join(" · ")}
      </td>
    </tr>
  );
}
