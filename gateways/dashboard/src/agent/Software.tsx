import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useDeferredValue, useState } from "react";
import { api, ask } from "../api/client";
import { isProblem } from "../api/problem";
import type { components } from "../api/schema";
import { useAfterEvents } from "../app/events";
import { Fault } from "../ui/Fault";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";

type Agent = components["schemas"]["AgentModel"];
type Page = components["schemas"]["SoftwareModel"];
type Package = components["schemas"]["PackageModel"];

interface Props {
  agent: Agent;
  /** The position as of which it is shown; null is now. */
  at: number | null;
}

/** What is installed on the machine, and what of it could be updated. */
export default function Software({ agent, at }: Props) {
  const client = useQueryClient();
  const [text, setText] = useState("");
  const [updates, setUpdates] = useState(false);
  const q = useDeferredValue(text.trim());
  const key = ["software", agent.id, at];
  const software = useInfiniteQuery({
    queryKey: [...key, q, updates],
    placeholderData: (before) => before,
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query = {
        limit: 200,
        ...(q === "" ? {} : { q }),
        ...(updates ? { updates } : {}),
        ...(at === null ? {} : { at }),
        ...(pageParam === null ? {} : { cursor: pageParam }),
      };
      return ask(api.GET("/api/v1/agents/{agent_id}/software", { params: { path: { agent_id: agent.id }, query } }));
    },
  });
  useAfterEvents(
    (event) => at === null && event.agent_id === agent.id && event.type === "AgentSoftwareReported",
    () => void client.invalidateQueries({ queryKey: key }),
  );
  if (isProblem(software.error, "no_software")) {
    return (
      <div className="empty">
        <h2>It has not told yet</h2>
        <p>An agent says what is installed a minute after it starts, once an hour, and when its facts are collected.</p>
      </div>
    );
  }
  if (isProblem(software.error, "software_not_kept")) {
    return (
      <div className="empty">
        <h2>That list is kept no longer</h2>
        <p>What was installed, changed and removed since is in the timeline.</p>
      </div>
    );
  }
  const [first] = software.data?.pages ?? [];
  const items = software.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <section className="stack" aria-label="Software">
      <div className="row wrap">
        <input
          type="search"
          className="input grow"
          aria-label="Part of a name"
          placeholder="Part of a name"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <label className="row">
          <input type="checkbox" checked={updates} onChange={(event) => setUpdates(event.target.checked)} />
          Only what could be updated
        </label>
      </div>
      <Fault error={software.error} retry={() => software.refetch()} />
      {first && (
        <p className="muted small">
          {figure(first.packages)} installed{updatesText(first)}, as of <Time at={first.reported_at} />.
        </p>
      )}
      {first && items.length === 0 && (
        <div className="empty">
          <h2>Nothing fits</h2>
          <p>{updates && q === "" ? "All that it knows of is up to date." : "There is nothing of that name."}</p>
        </div>
      )}
      {items.length > 0 && (
        <div className="card">
          <Table title="Software" heads={["Name", "Version", "Update", "By"]}>
            {items.map((one) => (
              <Line key={`${one.name} ${one.version} ${one.arch} ${one.source}`} one={one} />
            ))}
          </Table>
        </div>
      )}
      <More of={software} />
    </section>
  );
}

function updatesText(page: Page): string {
  if (page.updates === null) return "; what could be updated it cannot say";
  if (page.updates === 0) return "; all is up to date";
  const security = page.security_updates ? `, ${figure(page.security_updates)} of them for security` : "";
  return `; ${figure(page.updates)} could be updated${security}`;
}

function Line({ one }: { one: Package }) {
  return (
    <tr>
      <td>
        <strong>{one.name}</strong> {one.arch !== "" && <span className="muted small">{one.arch}</span>}
      </td>
      <td className="mono">{one.version}</td>
      <td>
        {one.update !== "" && (
          <>
            <span className="mono">{one.update}</span> {one.security && <span className="chip">security</span>}
          </>
        )}
      </td>
      <td className="muted">{one.source}</td>
    </tr>
  );
}
