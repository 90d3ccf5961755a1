import { useQuery } from "@tanstack/react-query";
import { api, ask } from "../api/client";
import { useTitle } from "../app/title";
import { Fault } from "../ui/Fault";
import { AgentStatus } from "../ui/Status";
import { Time } from "../ui/Time";

export default function FleetPage() {
  useTitle("Fleet");
  const agents = useQuery({ queryKey: ["agents"], queryFn: () => ask(api.GET("/api/v1/agents")) });
  return (
    <div className="page">
      <header>
        <h1>Fleet</h1>
      </header>
      <Fault error={agents.error} retry={() => agents.refetch()} />
      <table className="table card">
        <tbody>
          {agents.data?.items.map((agent) => (
            <tr key={agent.id}>
              <td>
                <AgentStatus agent={agent} />
              </td>
              <td>{agent.name}</td>
              <td>{agent.os}</td>
              <td>
                <Time at={agent.last_seen_at} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
